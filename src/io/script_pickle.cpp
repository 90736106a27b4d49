#include "script_pickle.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

#include "script_lexer.hpp"
#include "sentinel/core/error.hpp"
#include "storage_types.hpp"

namespace sentinel {
namespace {

// Levels of objects, lists and tuples; the deepest of torchvision's networks has 23.
constexpr std::size_t kMaxDepth = 200;
// Values, shared ones at every place (16 100 there), and the attributes of their classes.
constexpr std::uint64_t kMaxPlaces = 1u << 20;
constexpr std::size_t kMaxTypeLength = 4096, kMaxTypeDepth = 16;  // "Dict[str, List[Tensor]]"

constexpr std::string_view kTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kTag = "torch.jit._pickle.restore_type_tag";
constexpr std::string_view kDevice = "torch.device";
constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::array<std::string_view, 4> kLists{
    "torch.jit._pickle.build_intlist", "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.build_doublelist", "torch.jit._pickle.build_boollist"};
constexpr std::string_view kClasses = "__torch__.*";

bool is_class(std::string_view global) {
  return global.substr(0, kClasses.size() - 1) == kClasses.substr(0, kClasses.size() - 1);
}

class Rewriter {
 public:
  Rewriter(const Pickle& pickle, const ClassSizes& classes, const StorageSize& size)
      : pickle_(pickle),
        classes_(classes),
        size_(size),
        extents_(pickle.values.size()),
        uses_(pickle.values.size(), 0) {}

  CleanPickle run() {
    visit(pickle_.root, 0);
    out_.write(std::uint8_t{0x80});
    out_.write(std::uint8_t{2});
    write(pickle_.root);
    out_.text(".");
    return {out_.take(), std::move(keys_)};
  }

 private:
  [[noreturn]] void fail(const PickleValue& at, const std::string& why) const {
    pickle_.fail(at, "in the pickle: " + why);
  }

  // ---- checks: levels of nesting, of every value once ----

  /// The extent of a value and all in it.
  struct Extent {
    std::size_t height = 0;    // levels; 0 not yet visited
    std::uint64_t places = 1;  // values, one that is in two others counted twice
  };

  Extent visit(PickleRef ref, std::size_t depth) {
    const PickleValue& value = pickle_[ref];
    ++uses_[ref];
    if (extents_[ref].height == kOpen) fail(value, "an object that holds itself");
    if (extents_[ref].height == 0) {
      if (depth > kMaxDepth) too_deep(value);
      extents_[ref].height = kOpen;
      Extent extent = visit_parts(value, depth + 1);
      ++extent.height;
      extents_[ref] = extent;
    }
    if (depth + extents_[ref].height > kMaxDepth) too_deep(value);
    return extents_[ref];
  }

  [[noreturn]] void too_deep(const PickleValue& value) const {
    fail(value, "objects are nested deeper than in any network, and LibTorch would crash on it");
  }

  Extent visit_all(const std::vector<PickleRef>& refs, std::size_t depth) {
    Extent all;
    for (const PickleRef ref : refs) {
      const Extent part = visit(ref, depth);
      all.height = std::max(all.height, part.height);
      all.places += part.places;
      require_few(pickle_[ref], all);
    }
    return all;
  }

  void require_few(const PickleValue& value, const Extent& extent) const {
    if (extent.places > kMaxPlaces) fail(value, "objects in each other without number");
  }

  Extent visit_parts(const PickleValue& value, std::size_t depth) {
    switch (value.kind) {
      case PickleKind::kNone:
      case PickleKind::kBool:
      case PickleKind::kInt:
      case PickleKind::kFloat:
      case PickleKind::kText:
        return {};
      case PickleKind::kTuple:
      case PickleKind::kList:
      case PickleKind::kDict:
        return visit_all(value.items, depth);
      case PickleKind::kObject:
        return visit_object(value, depth);
      default:
        fail(value, "a kind of value that no TorchScript network has");
    }
  }

  Extent visit_object(const PickleValue& value, std::size_t depth) {
    const PickleValue& callable = pickle_[value.callable];
    const std::string_view name = callable.text;
    if (!value.items.empty()) fail(value, "an object with items");
    if (is_class(name)) return visit_class(value, depth);
    if (value.state != kNoRef) fail(value, "a call with a state");
    if (name == kTensor) return {};  // checked where it is written
    const auto& args = pickle_.sequence(pickle_[value.args]);
    if (name == kTag && args.size() == 2)
      check_type(pickle_[args[1]]);
    else if (name != kDevice && std::find(kLists.begin(), kLists.end(), name) == kLists.end())
      fail(value, "a call of " + quoted_name(name) + " outside of a tensor");
    else if (args.size() != 1)
      fail(value, "a call with another number of arguments");
    if (name == kDevice) check_device(pickle_[args[0]]);
    return visit_all(args, depth);
  }

  Extent visit_class(const PickleValue& value, std::size_t depth) {
    const std::string name(pickle_[value.callable].text);
    const auto known = classes_.find(name);
    if (known == classes_.end())
      fail(value, "an object of the class " + quoted_name(name) +
                      ", which the file's code does not define");
    if (value.state == kNoRef || !pickle_.sequence(pickle_[value.args]).empty())
      fail(value, "an object of " + quoted_name(name) + " without its attributes");
    // With a __setstate__, for which the code is refused, another state may be anything.
    if (pickle_[value.state].kind != PickleKind::kDict) return visit(value.state, depth);
    std::set<std::string_view> names;
    const auto& items = pickle_[value.state].items;
    for (std::size_t i = 0; i + 1 < items.size(); i += 2)
      if (!names.insert(pickle_.text(pickle_[items[i]])).second)
        fail(pickle_[items[i]], "an attribute that is set twice");
    Extent extent = visit(value.state, depth);
    extent.places += known->second;
    require_few(value, extent);
    return extent;
  }

  void check_device(const PickleValue& device) const {
    const std::string_view text = pickle_.text(device);
    if (text.size() > 16) fail(device, "a device with an endless name");
  }

  /// LibTorch parses it by functions that call themselves.
  void check_type(const PickleValue& type) const {
    const std::string_view text = pickle_.text(type);
    std::size_t depth = 0, deepest = 0;
    for (const char c : text) {
      const bool usual = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' ||
                         c == ',' || c == ' ' || c == '[' || c == ']';
      if (!usual) fail(type, "a type with characters that no type has");
      if (c == '[') deepest = std::max(deepest, ++depth);
      if (c == ']' && depth > 0) --depth;
    }
    if (text.size() > kMaxTypeLength || deepest > kMaxTypeDepth)
      fail(type, "a type that is nested deeper than that of any network");
    if (text.find("classes") != std::string_view::npos)
      fail(type, "a C++ class (torch.classes), which is refused");
  }

  // ---- writing ----

  void opcode(char c) { out_.write(c); }
  void text(std::string_view text) {
    opcode('X');
    out_.write(static_cast<std::uint32_t>(text.size()));
    out_.text(text);
  }
  void integer(std::int64_t value) {
    if (value == static_cast<std::int32_t>(value)) {
      opcode('J');
      out_.write(static_cast<std::int32_t>(value));
    } else {
      out_.write(std::uint8_t{0x8a});
      out_.write(std::uint8_t{8});
      out_.write(value);
    }
  }
  void number(double value) {
    std::array<std::byte, sizeof value> bytes;
    std::memcpy(bytes.data(), &value, sizeof value);
    std::reverse(bytes.begin(), bytes.end());
    opcode('G');
    out_.append(bytes.data(), bytes.size());
  }
  void truth(bool value) { out_.write(std::uint8_t(value ? 0x88 : 0x89)); }
  void global(std::string_view full) {
    const std::size_t dot = full.rfind('.');
    opcode('c');
    out_.text(full.substr(0, dot));
    opcode('\n');
    out_.text(full.substr(dot + 1));
    opcode('\n');
  }
  void items(char begin, const std::vector<PickleRef>& refs, char end) {
    opcode(begin);
    opcode('(');
    for (const PickleRef ref : refs) write(ref);
    opcode(end);
  }
  void tuple(const std::vector<PickleRef>& refs) {
    opcode('(');
    for (const PickleRef ref : refs) write(ref);
    opcode('t');
  }
  void integers(const std::vector<std::int64_t>& values) {
    opcode('(');
    for (const std::int64_t value : values) integer(value);
    opcode('t');
  }

  void write(PickleRef ref) {
    const auto known = memo_.find(ref);
    if (known != memo_.end()) {
      opcode('j');
      out_.write(known->second);
      return;
    }
    const PickleValue& value = pickle_[ref];
    write_value(value);
    // Texts too: one of a megabyte may be in a list a million times.
    const bool shared = uses_[ref] > 1 && value.kind >= PickleKind::kText;
    if (!shared) return;
    const auto index = static_cast<std::uint32_t>(memo_.size());
    memo_[ref] = index;
    opcode('r');
    out_.write(index);
  }

  void write_value(const PickleValue& value) {
    switch (value.kind) {
      case PickleKind::kNone:
        return opcode('N');
      case PickleKind::kBool:
        return truth(value.integer != 0);
      case PickleKind::kInt:
        return integer(value.integer);
      case PickleKind::kFloat:
        return number(value.number);
      case PickleKind::kText:
        return text(value.text);
      case PickleKind::kTuple:
        return tuple(value.items);
      case PickleKind::kList:
        return items(']', value.items, 'e');
      case PickleKind::kDict:
        return items('}', value.items, 'u');
      default:
        return write_object(value);
    }
  }

  void write_object(const PickleValue& value) {
    const std::string_view name = pickle_[value.callable].text;
    if (name == kTensor) return write_tensor(value);
    global(name);
    if (is_class(name)) {
      opcode(')');
      out_.write(std::uint8_t{0x81});
      write(value.state);
      opcode('b');
      return;
    }
    write(value.args);
    opcode('R');
  }

  /// torch._utils._rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks)
  void write_tensor(const PickleValue& value) {
    const PickleValue& args = pickle_[value.args];
    const std::size_t given = pickle_.sequence(args).size();
    if (given > 7 || (given == 7 && !pickle_.element(args, 6).items.empty()))
      fail(value, "a tensor that is conjugated or negated where it is read");
    const TensorView view = read_tensor(pickle_, "that is written here", value);
    const std::size_t bytes = size_(view.storage.key);
    check_tensor(pickle_, view, bytes);
    global(kTensor);
    opcode('(');
    write_storage(view.storage, bytes);
    integer(view.offset + view.storage.first);
    integers(view.sizes);
    integers(view.strides);
    const PickleValue& gradient = pickle_.element(args, 4);
    truth(gradient.kind == PickleKind::kBool && gradient.integer != 0);
    global(kOrderedDict);
    opcode(')');
    opcode('R');
    opcode('t');
    opcode('R');
  }

  void write_storage(const StorageId& storage, std::size_t bytes) {
    const auto type = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                   [&](const auto& row) { return row.dtype == storage.dtype; });
    const auto [known, added] = indices_.emplace(storage.key, keys_.size());
    if (added) keys_.push_back(storage.key);
    opcode('(');
    text("storage");
    global(type->global);
    text(std::to_string(known->second));
    text("cpu");
    integer(static_cast<std::int64_t>(bytes / at::elementSize(storage.dtype)));
    opcode('t');
    opcode('Q');
  }

  static constexpr std::size_t kOpen = SIZE_MAX;

  const Pickle& pickle_;
  const ClassSizes& classes_;
  const StorageSize& size_;
  std::vector<Extent> extents_;
  std::vector<std::uint32_t> uses_;
  ByteWriter out_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, std::size_t> indices_;  // of keys_
  std::unordered_map<PickleRef, std::uint32_t> memo_;
};

}  // namespace

std::vector<std::string_view> script_globals() {
  std::vector<std::string_view> all{kOrderedDict, kTensor, kTag, kDevice, kClasses};
  all.insert(all.end(), kLists.begin(), kLists.end());
  for (const StorageType& type : kStorageTypes) all.push_back(type.global);
  return all;
}

CleanPickle rewrite_script_pickle(const Pickle& pickle, const ClassSizes& classes,
                                  const StorageSize& size) {
  return Rewriter(pickle, classes, size).run();
}

const PickleValue* attribute_of(const Pickle& pickle, const PickleValue& object,
                                std::string_view name) {
  if (object.kind != PickleKind::kObject || object.state == kNoRef ||
      pickle[object.state].kind != PickleKind::kDict)
    return nullptr;
  const auto& items = pickle[object.state].items;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2)
    if (pickle[items[i]].text == name) return &pickle[items[i + 1]];
  return nullptr;
}

}  // namespace sentinel
