#include "numpy_pickle.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kReconstruct = "numpy.core.multiarray._reconstruct";
constexpr std::string_view kReconstruct2 = "numpy._core.multiarray._reconstruct";
constexpr std::string_view kFromBuffer = "numpy.core.numeric._frombuffer";
constexpr std::string_view kFromBuffer2 = "numpy._core.numeric._frombuffer";
constexpr std::string_view kEncode = "_codecs.encode";

/// How an array is described: in the state of _reconstruct or the arguments of _frombuffer.
struct ArrayParts {
  const PickleValue *shape = nullptr, *dtype = nullptr, *data = nullptr;
  bool fortran = false;
};

bool is_true(const PickleValue& value) {
  return (value.kind == PickleKind::kBool || value.kind == PickleKind::kInt) && value.integer != 0;
}

ArrayParts array_parts(const Pickle& pickle, const PickleValue& value) {
  if (pickle.calls(value, kFromBuffer) || pickle.calls(value, kFromBuffer2)) {
    const PickleValue& args = pickle[value.args];
    return {&pickle.element(args, 2), &pickle.element(args, 1), &pickle.element(args, 0),
            pickle.text(pickle.element(args, 3)) == "F"};
  }
  const bool array = pickle.calls(value, kReconstruct) || pickle.calls(value, kReconstruct2);
  if (!array || value.state == kNoRef) pickle.fail(value, "a NumPy array is wanted here");
  const PickleValue& state = pickle[value.state];
  return {&pickle.element(state, 1), &pickle.element(state, 2), &pickle.element(state, 4),
          is_true(pickle.element(state, 3))};
}

/// The text in a call of _codecs.encode, as Python 3 writes bytes in protocol 2; else the value.
const PickleValue& decoded(const Pickle& pickle, const PickleValue& value) {
  return pickle.calls(value, kEncode) ? pickle.element(pickle[value.args], 0) : value;
}

/// The bytes of such a text: its code points.
std::vector<std::uint8_t> latin1(const Pickle& pickle, const PickleValue& text) {
  std::vector<std::uint8_t> bytes;
  const std::string_view utf8 = pickle.text(text);
  bytes.reserve(utf8.size());
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto first = static_cast<std::uint8_t>(utf8[i]);
    const bool pair = (first & 0xfe) == 0xc2 && i + 1 < utf8.size();
    if (first >= 0x80 && !pair) pickle.fail(text, "bytes written as text that are no bytes");
    bytes.push_back(pair ? static_cast<std::uint8_t>(first << 6 | (utf8[++i] & 0x3f)) : first);
  }
  return bytes;
}

std::vector<std::uint8_t> array_bytes(const Pickle& pickle, const PickleValue& data) {
  if (pickle.calls(data, kEncode)) return latin1(pickle, decoded(pickle, data));
  const std::string_view bytes = pickle.text(data);
  return {bytes.begin(), bytes.end()};
}

void check_dtype(const Pickle& pickle, const PickleValue& dtype) {
  if (!pickle.calls(dtype, "numpy.dtype")) pickle.fail(dtype, "an array without a type");
  const std::string_view kind = pickle.text(pickle.element(pickle[dtype.args], 0));
  if (kind != "u1" && kind != "|u1")
    pickle.fail(dtype, "an array of unsigned bytes (uint8) is wanted");
}

}  // namespace

std::vector<std::string_view> numpy_globals() {
  return {kReconstruct, kReconstruct2, kFromBuffer,    kFromBuffer2,
          kEncode,      "numpy.dtype", "numpy.ndarray"};
}

const PickleValue* find_key(const Pickle& pickle, const PickleValue& dictionary,
                            std::string_view key) {
  if (dictionary.kind != PickleKind::kDict) pickle.fail(dictionary, "a dictionary is wanted here");
  for (std::size_t i = 0; i + 1 < dictionary.items.size(); i += 2)
    if (pickle.text(decoded(pickle, pickle[dictionary.items[i]])) == key)
      return &pickle[dictionary.items[i + 1]];
  return nullptr;
}

ByteMatrix read_byte_matrix(const Pickle& pickle, const PickleValue& value) {
  const ArrayParts parts = array_parts(pickle, value);
  check_dtype(pickle, *parts.dtype);
  ByteMatrix matrix;
  matrix.rows = pickle.integer(pickle.element(*parts.shape, 0));
  matrix.columns = pickle.integer(pickle.element(*parts.shape, 1));
  matrix.values = array_bytes(pickle, *parts.data);
  std::int64_t count = 0;
  if (matrix.rows < 0 || matrix.columns < 0 ||
      __builtin_mul_overflow(matrix.rows, matrix.columns, &count) ||
      static_cast<std::size_t>(count) != matrix.values.size())
    pickle.fail(*parts.shape, "the array's size does not fit its " +
                                  std::to_string(matrix.values.size()) +
                                  " bytes of data; the file is damaged, download it again");
  if (!parts.fortran) return matrix;
  const std::vector<std::uint8_t> columns = matrix.values;
  for (std::int64_t i = 0; i < count; ++i)
    matrix.values[static_cast<std::size_t>(i)] =
        columns[static_cast<std::size_t>(i / matrix.columns + i % matrix.columns * matrix.rows)];
  return matrix;
}

}  // namespace sentinel
