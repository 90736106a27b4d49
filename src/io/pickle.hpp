#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace sentinel {

/// Where a value lies in Pickle::values.
using PickleRef = std::uint32_t;
inline constexpr PickleRef kNoRef = UINT32_MAX;

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,        // integer
  kInt,         // integer
  kBigInt,      // text: two's complement, little-endian, as stored
  kFloat,       // number
  kText,        // text, UTF-8
  kBytes,       // text; also the str of Python 2
  kTuple,       // items
  kList,        // items
  kSet,         // items
  kDict,        // items: key, value, key, value …
  kGlobal,      // text: its full name in the allow-list
  kObject,      // what calling a global would give: callable, args, state, items (as in a dict)
  kPersistent,  // args: the persistent id
};

/// One value of a pickle: inert data that nothing was done with.
struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::uint64_t offset = 0;  // of the opcode that made it
  union {
    std::int64_t integer = 0;
    double number;
  };
  std::string_view text;  // points into the file, the allow-list or Pickle::names
  std::vector<PickleRef> items;
  PickleRef callable = kNoRef, args = kNoRef, state = kNoRef;
};

/// A pickle read into data. Values live in one array and name each other by index, so nesting,
/// however deep or circular, costs no recursion.
struct Pickle {
  std::vector<PickleValue> values;
  PickleRef root = kNoRef;
  std::size_t size = 0;           // bytes read
  std::string name;               // of the file, for errors
  std::deque<std::string> names;  // of globals that an entry with a star let through
  std::uint64_t base = 0;

  const PickleValue& operator[](PickleRef ref) const { return values[ref]; }
  const PickleValue& root_value() const { return values[root]; }
  /// DataError at the place where the value was made.
  [[noreturn]] void fail(const PickleValue& at, const std::string& message) const;
  /// Is it a call of this global?
  bool calls(const PickleValue& value, std::string_view global) const;
  /// The elements of a tuple or list; DataError where it is neither.
  const std::vector<PickleRef>& sequence(const PickleValue& value) const;
  const PickleValue& element(const PickleValue& sequence, std::size_t index) const;
  std::int64_t integer(const PickleValue& value) const;
  std::string_view text(const PickleValue& value) const;  // kText or kBytes
};

/// Runs the pickle machine (protocols 2 to 5) on a buffer that must outlive the result. Only the
/// globals of the list ("module.name"; "module.*" stands for all that begin so) are let through,
/// and only as names: nothing is ever imported, called or executed. Throws DataError with the
/// offset (`base` added) on anything else.
Pickle read_pickle(const std::byte* data, std::size_t size, const std::string& name,
                   std::uint64_t base, const std::vector<std::string_view>& allowed);

}  // namespace sentinel
