#include "pickle.hpp"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "file_kind.hpp"
#include "pickle_opcodes.hpp"
#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using namespace pickle_opcode;

// A state_dict of a thousand tensors has about 40 000 values, the Python release of CIFAR-100
// 200 000. The limit keeps a hostile file's memory below half a GiB.
constexpr std::size_t kMaxValues = 1u << 21;
constexpr std::size_t kMaxNameLength = 256;
constexpr std::size_t kMaxNames = 32u << 20;  // characters of all names that a star let through

using Refs = std::vector<PickleRef>;

class Machine {
 public:
  Machine(ByteReader& in, const std::vector<std::string_view>& allowed)
      : in_(in), allowed_(allowed) {}

  PickleRef run() {
    for (;;) {
      at_ = in_.offset();
      const auto op = in_.read<std::uint8_t>();
      if (op == kStop) return pop();
      if (!(push_scalar(op) || push_text(op) || build_container(op) || build_object(op) ||
            move(op)))
        fail("opcode " + std::to_string(op) + " is not one that PyTorch or NumPy writes");
    }
  }
  std::vector<PickleValue> take_values() { return std::move(values_); }
  std::deque<std::string> take_names() { return std::move(names_); }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    in_.seek(at_);
    in_.fail("in the pickle: " + message);
  }

  PickleValue& create(PickleKind kind) {
    if (values_.size() >= kMaxValues) fail("more values than any checkpoint or data set has");
    PickleValue& value = values_.emplace_back();
    value.kind = kind;
    value.offset = at_;
    return value;
  }
  PickleValue& push(PickleKind kind) {
    PickleValue& value = create(kind);
    push_ref(static_cast<PickleRef>(values_.size() - 1));
    return value;
  }
  void push_ref(PickleRef ref) {
    if (stack_.size() >= kMaxValues) fail("the stack is deeper than any checkpoint needs");
    stack_.push_back(ref);
  }
  void push_integer(PickleKind kind, std::int64_t integer) { push(kind).integer = integer; }

  /// The stack may not be emptied below the innermost mark.
  std::size_t depth() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  PickleRef top() const {
    if (depth() == 0) fail("an opcode wants a value where there is none");
    return stack_.back();
  }
  PickleRef pop() {
    const PickleRef ref = top();
    stack_.pop_back();
    return ref;
  }
  Refs pop_count(std::size_t count) {
    if (depth() < count) fail("an opcode wants more values than there are");
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
    Refs refs(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return refs;
  }
  Refs pop_to_mark() {
    if (marks_.empty()) fail("an opcode wants a mark where there is none");
    Refs refs = pop_count(depth());
    marks_.pop_back();
    return refs;
  }

  bool push_scalar(std::uint8_t op) {
    switch (op) {
      case kNone:
        push(PickleKind::kNone);
        return true;
      case kNewTrue:
        push_integer(PickleKind::kBool, 1);
        return true;
      case kNewFalse:
        push_integer(PickleKind::kBool, 0);
        return true;
      case kBinInt:
        push_integer(PickleKind::kInt, in_.read<std::int32_t>());
        return true;
      case kBinInt1:
        push_integer(PickleKind::kInt, in_.read<std::uint8_t>());
        return true;
      case kBinInt2:
        push_integer(PickleKind::kInt, in_.read<std::uint16_t>());
        return true;
      case kLong1:
        push_long(in_.read<std::uint8_t>());
        return true;
      case kLong4:
        push_long(in_.read<std::uint32_t>());
        return true;
      case kBinFloat:
        push_float();
        return true;
    }
    return false;
  }

  void push_long(std::size_t length) {
    const std::string_view digits = view(length);
    if (length > 8) {
      push(PickleKind::kBigInt).text = digits;
      return;
    }
    std::uint64_t value = length > 0 && (digits.back() & 0x80) ? ~std::uint64_t{0} : 0;
    std::memcpy(&value, digits.data(), length);
    push_integer(PickleKind::kInt, static_cast<std::int64_t>(value));
  }

  void push_float() {
    auto bits = in_.read<std::uint64_t>();  // the one big-endian number of the format
    auto* bytes = reinterpret_cast<std::byte*>(&bits);
    std::reverse(bytes, bytes + 8);
    std::memcpy(&push(PickleKind::kFloat).number, &bits, 8);
  }

  std::string_view view(std::uint64_t length) {
    if (length > in_.remaining()) fail("a text is longer than the rest of the file");
    return {reinterpret_cast<const char*>(in_.take(length)), length};
  }
  void push_view(PickleKind kind, std::uint64_t length) {
    const std::string_view text = view(length);
    push(kind).text = text;
  }

  bool push_text(std::uint8_t op) {
    switch (op) {
      case kBinUnicode:
        push_view(PickleKind::kText, in_.read<std::uint32_t>());
        return true;
      case kShortBinUnicode:
        push_view(PickleKind::kText, in_.read<std::uint8_t>());
        return true;
      case kBinUnicode8:
        push_view(PickleKind::kText, in_.read<std::uint64_t>());
        return true;
      case kBinString:
      case kBinBytes:
        push_view(PickleKind::kBytes, in_.read<std::uint32_t>());
        return true;
      case kShortBinString:
      case kShortBinBytes:
        push_view(PickleKind::kBytes, in_.read<std::uint8_t>());
        return true;
      case kByteArray8:
      case kBinBytes8:
        push_view(PickleKind::kBytes, in_.read<std::uint64_t>());
        return true;
    }
    return false;
  }

  void push_items(PickleKind kind, Refs items) { push(kind).items = std::move(items); }

  /// Appends items to the container below them on the stack.
  void extend(PickleKind kind, Refs items) {
    PickleValue& container = values_[top()];
    const bool mapping = kind == PickleKind::kDict;
    if (container.kind != kind && !(mapping && container.kind == PickleKind::kObject))
      fail("items are added to something that takes none");
    if (mapping && items.size() % 2 != 0) fail("a key without a value");
    if (items.size() > kMaxValues - added_) fail("more items than any checkpoint has");
    added_ += items.size();
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  bool build_container(std::uint8_t op) {
    switch (op) {
      case kEmptyList:
        push(PickleKind::kList);
        return true;
      case kEmptyTuple:
        push(PickleKind::kTuple);
        return true;
      case kEmptyDict:
        push(PickleKind::kDict);
        return true;
      case kEmptySet:
        push(PickleKind::kSet);
        return true;
      case kTuple:
        push_items(PickleKind::kTuple, pop_to_mark());
        return true;
      case kTuple1:
        push_items(PickleKind::kTuple, pop_count(1));
        return true;
      case kTuple2:
        push_items(PickleKind::kTuple, pop_count(2));
        return true;
      case kTuple3:
        push_items(PickleKind::kTuple, pop_count(3));
        return true;
      case kList:
        push_items(PickleKind::kList, pop_to_mark());
        return true;
      case kFrozenSet:
        push_items(PickleKind::kSet, pop_to_mark());
        return true;
      case kDict:
        push_dict();
        return true;
      case kAppend:
        extend(PickleKind::kList, pop_count(1));
        return true;
      case kAppends:
        extend(PickleKind::kList, pop_to_mark());
        return true;
      case kSetItem:
        extend(PickleKind::kDict, pop_count(2));
        return true;
      case kSetItems:
        extend(PickleKind::kDict, pop_to_mark());
        return true;
      case kAddItems:
        extend(PickleKind::kSet, pop_to_mark());
        return true;
    }
    return false;
  }

  void push_dict() {
    Refs items = pop_to_mark();
    if (items.size() % 2 != 0) fail("a key without a value");
    push_items(PickleKind::kDict, std::move(items));
  }

  bool build_object(std::uint8_t op) {
    switch (op) {
      case kGlobal:
        push_line_global();
        return true;
      case kStackGlobal:
        push_stack_global();
        return true;
      case kReduce:
      case kNewObj:
        push_call();
        return true;
      case kBuild:
        set_state();
        return true;
      case kBinPersId:
        push_persistent();
        return true;
    }
    return false;
  }

  std::string_view line() {
    const std::size_t start = in_.offset();
    while (in_.read<char>() != '\n')
      if (in_.offset() - start > kMaxNameLength) fail("a global has an endless name");
    const std::size_t length = in_.offset() - start - 1;
    in_.seek(start);
    const std::string_view text = view(length);
    in_.take(1);
    return text;
  }

  void push_line_global() {
    const std::string_view module = line();
    push_global(module, line());
  }

  void push_global(std::string_view module, std::string_view name) {
    if (module.size() > kMaxNameLength || name.size() > kMaxNameLength)
      fail("a global has an endless name");
    const std::string full = std::string(module) + "." + std::string(name);
    const auto found = std::find_if(allowed_.begin(), allowed_.end(), [&](std::string_view entry) {
      return entry == full || is_of_group(full, entry);
    });
    if (found == allowed_.end()) {
      const bool whole = std::all_of(values_.begin(), values_.end(), [](const PickleValue& value) {
        return value.kind == PickleKind::kText;  // at most its own name
      });
      const std::string why = why_refused(full, whole && stack_.empty());
      fail("it wants the Python object " + printable(full) +
           (why.empty() ? ", which is refused: only plain tensors and data are read and nothing is "
                          "ever executed; if you trust the file, load it in Python and save its "
                          "state_dict alone"
                        : ": " + why + "; nothing in a file is ever executed"));
    }
    const bool one = *found == full;
    if (!one && (named_ += full.size()) > kMaxNames)
      fail("more names of classes than any network has");
    push(PickleKind::kGlobal).text = one ? *found : names_.emplace_back(full);
  }
  static bool is_of_group(const std::string& name, std::string_view entry) {
    return entry.back() == '*' && name.rfind(entry.substr(0, entry.size() - 1), 0) == 0;
  }
  static std::string printable(std::string text) {
    for (char& c : text)
      if (c < ' ' || c > '~') c = '?';
    return text.substr(0, 120);
  }

  void push_stack_global() {
    const Refs names = pop_count(2);
    const PickleValue &module = values_[names[0]], &name = values_[names[1]];
    if (module.kind != PickleKind::kText || name.kind != PickleKind::kText)
      fail("a global without a name");
    push_global(module.text, name.text);
  }

  void push_call() {
    const Refs parts = pop_count(2);
    if (values_[parts[0]].kind != PickleKind::kGlobal) fail("it calls something that is no global");
    if (values_[parts[1]].kind != PickleKind::kTuple) fail("it calls a global without arguments");
    PickleValue& object = push(PickleKind::kObject);
    object.callable = parts[0];
    object.args = parts[1];
  }

  void set_state() {
    const PickleRef state = pop();
    PickleValue& object = values_[top()];
    if (object.kind != PickleKind::kObject) fail("it sets the state of something that has none");
    object.state = state;
  }

  void push_persistent() {
    const PickleRef id = pop();
    push(PickleKind::kPersistent).args = id;
  }

  bool move(std::uint8_t op) {
    switch (op) {
      case kProto:
        check_protocol(in_.read<std::uint8_t>());
        return true;
      case kFrame:
        in_.take(8);
        return true;
      case kMark:
        push_mark();
        return true;
      case kPop:
        pop_value_or_mark();
        return true;
      case kPopMark:
        pop_to_mark();
        return true;
      case kDup:
        push_ref(top());
        return true;
      case kBinPut:
        remember(in_.read<std::uint8_t>());
        return true;
      case kLongBinPut:
        remember(in_.read<std::uint32_t>());
        return true;
      case kMemoize:
        remember(static_cast<std::uint32_t>(memo_.size()));
        return true;
      case kBinGet:
        recall(in_.read<std::uint8_t>());
        return true;
      case kLongBinGet:
        recall(in_.read<std::uint32_t>());
        return true;
    }
    return false;
  }

  void check_protocol(int protocol) const {
    if (protocol < 2 || protocol > 5)
      fail("protocol " + std::to_string(protocol) + " is not known (2 to 5 are)");
  }
  void push_mark() {
    if (marks_.size() >= kMaxValues) fail("more marks than any checkpoint needs");
    marks_.push_back(stack_.size());
  }
  void pop_value_or_mark() {
    if (depth() == 0 && !marks_.empty())
      marks_.pop_back();
    else
      pop();
  }
  void remember(std::uint32_t index) {
    if (memo_.size() >= kMaxValues) fail("a memo larger than any checkpoint needs");
    memo_[index] = top();
  }
  void recall(std::uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail("memo " + std::to_string(index) + " was never set");
    push_ref(found->second);
  }

  ByteReader& in_;
  const std::vector<std::string_view>& allowed_;
  std::size_t at_ = 0;     // the opcode being run
  std::size_t added_ = 0;  // items put into containers
  std::vector<PickleValue> values_;
  std::deque<std::string> names_;
  std::size_t named_ = 0;  // characters of names_
  Refs stack_;
  std::vector<std::size_t> marks_;  // stack sizes
  std::unordered_map<std::uint32_t, PickleRef> memo_;
};

}  // namespace

void Pickle::fail(const PickleValue& at, const std::string& message) const {
  throw DataError(name, base + at.offset, message);
}

bool Pickle::calls(const PickleValue& value, std::string_view global) const {
  return value.kind == PickleKind::kObject && values[value.callable].text == global;
}

const std::vector<PickleRef>& Pickle::sequence(const PickleValue& value) const {
  if (value.kind != PickleKind::kTuple && value.kind != PickleKind::kList)
    fail(value, "a tuple or list is wanted here");
  return value.items;
}

const PickleValue& Pickle::element(const PickleValue& value, std::size_t index) const {
  const auto& items = sequence(value);
  if (index >= items.size())
    fail(value, "a tuple of more than " + std::to_string(items.size()) + " elements is wanted");
  return values[items[index]];
}

std::int64_t Pickle::integer(const PickleValue& value) const {
  if (value.kind != PickleKind::kInt) fail(value, "a whole number of 64 bits is wanted here");
  return value.integer;
}

std::string_view Pickle::text(const PickleValue& value) const {
  if (value.kind != PickleKind::kText && value.kind != PickleKind::kBytes)
    fail(value, "a text is wanted here");
  return value.text;
}

Pickle read_pickle(const std::byte* data, std::size_t size, const std::string& name,
                   std::uint64_t base, const std::vector<std::string_view>& allowed) {
  ByteReader reader(data, size, name, base);
  Machine machine(reader, allowed);
  Pickle pickle;
  pickle.root = machine.run();
  pickle.values = machine.take_values();
  pickle.names = machine.take_names();
  pickle.size = reader.offset();
  pickle.name = name;
  pickle.base = base;
  return pickle;
}

}  // namespace sentinel
