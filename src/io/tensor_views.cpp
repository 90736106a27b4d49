#include "tensor_views.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "sentinel/core/error.hpp"
#include "storage_types.hpp"

namespace sentinel {
namespace {

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kDefaultDict = "collections.defaultdict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor";
constexpr std::string_view kRebuildTensor2 = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildQuantised = "torch._utils._rebuild_qtensor";
constexpr std::string_view kPerTensor = "torch.per_tensor_affine";
constexpr std::string_view kPerChannel = "torch.per_channel_affine";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kRebuildParameterState = "torch._utils._rebuild_parameter_with_state";
constexpr std::size_t kMaxTensors = 1u << 15;  // a thousand layers have some 6000
constexpr std::size_t kMaxDictionaries = 10000, kMaxDepth = 8;
// Names are copied, and a pickle may use one text thousands of times.
constexpr std::size_t kMaxNameLength = 1024, kMaxOthers = 10000;
constexpr std::size_t kMaxDimensions = 64;  // as in PyTorch

/// What optimizers, schedulers and training scripts put beside a state_dict. Only names: such
/// entries are skipped, whatever is in them.
constexpr std::array<std::string_view, 21> kSkippedGlobals{
    "torch.Size",
    "torch.device",
    "torch.float32",
    "torch.float64",
    "torch.float16",
    "torch.bfloat16",
    "torch.int64",
    "torch.int32",
    "torch.uint8",
    "torch.bool",
    "argparse.Namespace",
    "collections.Counter",
    "builtins.set",
    "__builtin__.set",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
};

using Items = std::vector<std::pair<const PickleValue*, const PickleValue*>>;

bool is_mapping(const Pickle& pickle, const PickleValue& value) {
  return value.kind == PickleKind::kDict || pickle.calls(value, kOrderedDict) ||
         pickle.calls(value, kDefaultDict);
}

/// Keys and values of a mapping. Python 2 wrote an OrderedDict's items as its argument.
Items items_of(const Pickle& pickle, const PickleValue& mapping) {
  Items items;
  if (pickle.calls(mapping, kOrderedDict)) {
    const PickleValue& args = pickle[mapping.args];
    if (!args.items.empty())
      for (const PickleRef pair : pickle.sequence(pickle.element(args, 0)))
        items.emplace_back(&pickle.element(pickle[pair], 0), &pickle.element(pickle[pair], 1));
  }
  for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2)
    items.emplace_back(&pickle[mapping.items[i]], &pickle[mapping.items[i + 1]]);
  return items;
}

bool is_parameter(const Pickle& pickle, const PickleValue& value) {
  return pickle.calls(value, kRebuildParameter) || pickle.calls(value, kRebuildParameterState);
}

/// The call that made a tensor, nullptr where the value is none.
const PickleValue* tensor_call(const Pickle& pickle, const PickleValue& value) {
  const PickleValue* tensor = &value;
  if (is_parameter(pickle, value)) tensor = &pickle.element(pickle[value.args], 0);
  const bool known = is_tensor(pickle, *tensor) || pickle.calls(*tensor, kRebuildQuantised);
  return known ? tensor : nullptr;
}

bool is_text(const PickleValue& key) {
  return key.kind == PickleKind::kText || key.kind == PickleKind::kBytes;
}

std::vector<std::int64_t> integers(const Pickle& pickle, const PickleValue& tuple) {
  std::vector<std::int64_t> values;
  const auto& refs = pickle.sequence(tuple);
  if (refs.size() > kMaxDimensions) pickle.fail(tuple, "a tensor of more than 64 dimensions");
  for (const PickleRef ref : refs) values.push_back(pickle.integer(pickle[ref]));
  return values;
}

/// A size is written as a tuple or as torch.Size(tuple).
const PickleValue& size_tuple(const Pickle& pickle, const PickleValue& value) {
  return pickle.calls(value, "torch.Size") ? pickle.element(pickle[value.args], 0) : value;
}

/// Walks through the dictionaries of a pickle, outer ones first, each once.
class DictionarySearch {
 public:
  explicit DictionarySearch(const Pickle& pickle) : pickle_(pickle) {
    queue_.push_back({&pickle.root_value(), "", 0});
    seen_.insert(&pickle.root_value());
  }

  std::vector<TensorViews> run() {
    for (std::size_t next = 0; next < queue_.size(); ++next) {
      const Place place = queue_[next];
      TensorViews views = look_into(place);
      if (!views.tensors.empty()) found_.push_back(std::move(views));
    }
    return std::move(found_);
  }

 private:
  struct Place {
    const PickleValue* dictionary;
    std::string key;
    std::size_t depth;
  };

  TensorViews look_into(const Place& place) {
    TensorViews views{place.key, {}, {}};
    for (const auto& [key, value] : items_of(pickle_, *place.dictionary)) {
      if (!is_text(*key)) continue;
      std::string name(key->text.substr(0, kMaxNameLength + 1));
      if (const PickleValue* call = tensor_call(pickle_, *value)) {
        if (++tensors_ > kMaxTensors) pickle_.fail(*value, "more tensors than any network has");
        if (key->text.size() > kMaxNameLength) pickle_.fail(*key, "a tensor's name is too long");
        views.tensors.push_back(pickle_.calls(*call, kRebuildQuantised)
                                    ? read_quantised(pickle_, std::move(name), *call)
                                    : read_tensor(pickle_, std::move(name), *call));
      } else if (is_mapping(pickle_, *value)) {
        enqueue(place, name, *value);
      } else if (++others_ <= kMaxOthers) {
        views.others.push_back(std::move(name));
      }
    }
    return views;
  }

  void enqueue(const Place& parent, const std::string& name, const PickleValue& value) {
    if (!seen_.insert(&value).second) return;
    if (queue_.size() >= kMaxDictionaries)
      pickle_.fail(value, "more than " + std::to_string(kMaxDictionaries) +
                              " dictionaries, of which one would be chosen; save the state_dict of "
                              "one network alone");
    if (parent.depth + 1 >= kMaxDepth) return;
    queue_.push_back(
        {&value, own_key(parent.key.empty() ? name : parent.key + "." + name), parent.depth + 1});
  }

  /// As the keys that lead there, unless another path is spelled so: {"a.b": …, "a": {"b": …}}.
  std::string own_key(const std::string& spelled) {
    std::string key = spelled;
    for (int i = 2; !keys_.insert(key).second; ++i) key = spelled + "#" + std::to_string(i);
    return key;
  }

  const Pickle& pickle_;
  std::vector<Place> queue_;
  std::unordered_set<const PickleValue*> seen_;
  std::unordered_set<std::string> keys_;
  std::size_t tensors_ = 0, others_ = 0;
  std::vector<TensorViews> found_;
};

/// Says what there is instead of a dictionary of tensors.
[[noreturn]] void refuse_without_tensors(const Pickle& pickle) {
  const PickleValue& root = pickle.root_value();
  const Items items = items_of(pickle, root);
  if (items.empty()) pickle.fail(root, "the checkpoint holds no tensors");
  for (const auto& [key, value] : items)
    if (!is_text(*key)) pickle.fail(*key, "a state_dict's keys are texts, this one is not");
  pickle.fail(*items.front().second,
              "the entry \"" + std::string(items.front().first->text) +
                  "\" is no tensor, and no other entry holds a dictionary of tensors; save "
                  "model.state_dict(), alone or under the key \"state_dict\"");
}

/// Number of elements; DataError where it is beyond what the storage holds.
std::int64_t count_elements(const Pickle& pickle, const TensorView& view, std::int64_t available) {
  std::int64_t count = 1, padded = 1;  // padded: empty dimensions counted as 1, so as not to hide
  for (const std::int64_t size : view.sizes) {
    if (size < 0 || __builtin_mul_overflow(padded, std::max<std::int64_t>(size, 1), &padded))
      pickle.fail(*view.at, "the tensor " + view.name + " has an impossible size");
    count *= size;
  }
  if (count > available)
    pickle.fail(*view.at, "the tensor " + view.name + " has " + std::to_string(count) +
                              " elements, its storage only " + std::to_string(available) +
                              "; save expanded tensors with .contiguous()");
  return count;
}

void check_bounds(const Pickle& pickle, const TensorView& view, std::int64_t available) {
  std::int64_t last = view.storage.first;
  bool bad = view.offset < 0 || __builtin_add_overflow(last, view.offset, &last);
  for (std::size_t i = 0; i < view.sizes.size() && !bad; ++i) {
    std::int64_t span = 0;
    bad = view.strides[i] < 0 ||
          __builtin_mul_overflow(view.sizes[i] - 1, view.strides[i], &span) ||
          __builtin_add_overflow(last, span, &last);
  }
  if (bad || last >= available)
    pickle.fail(*view.at, "the tensor " + view.name +
                              " reaches beyond its storage; the file is "
                              "damaged, download or save it again");
}

bool is_contiguous(const TensorView& view) {
  std::int64_t expected = 1;
  for (std::size_t i = view.sizes.size(); i-- > 0;) {
    if (view.sizes[i] != 1 && view.strides[i] != expected) return false;
    expected *= view.sizes[i];
  }
  return true;
}

/// Copies element by element in row-major order. Bytes, as storages in a file are not aligned.
void copy_strided(const TensorView& view, const std::byte* from, std::byte* to, std::int64_t count,
                  std::size_t itemsize) {
  std::vector<std::int64_t> index(view.sizes.size(), 0);
  std::int64_t position = 0;
  for (std::int64_t done = 0; done < count; ++done) {
    std::memcpy(to, from + static_cast<std::size_t>(position) * itemsize, itemsize);
    to += itemsize;
    for (std::size_t d = index.size(); d-- > 0;) {
      position += view.strides[d];
      if (++index[d] < view.sizes[d]) break;
      position -= index[d] * view.strides[d];
      index[d] = 0;
    }
  }
}

}  // namespace

std::vector<std::string_view> checkpoint_globals() {
  std::vector<std::string_view> all{kOrderedDict,      kDefaultDict,      kRebuildTensor,
                                    kRebuildTensor2,   kRebuildParameter, kRebuildParameterState,
                                    kRebuildQuantised, kPerTensor,        kPerChannel};
  for (const StorageType& type : kStorageTypes) all.push_back(type.global);
  for (const QuantisedType& type : kQuantisedTypes) all.push_back(type.global);
  all.insert(all.end(), kSkippedGlobals.begin(), kSkippedGlobals.end());
  return all;
}

namespace {

/// The beginning of both kinds of calls.
TensorView read_view(const Pickle& pickle, std::string name, const PickleValue& call) {
  const PickleValue& args = pickle[call.args];
  TensorView view;
  view.name = std::move(name);
  view.at = &call;
  view.storage = read_storage_id(pickle, pickle.element(args, 0));
  view.offset = pickle.integer(pickle.element(args, 1));
  view.sizes = integers(pickle, size_tuple(pickle, pickle.element(args, 2)));
  view.strides = integers(pickle, pickle.element(args, 3));
  if (view.sizes.size() != view.strides.size())
    pickle.fail(call, "the tensor " + view.name + " needs one stride per dimension");
  return view;
}

}  // namespace

TensorView read_tensor(const Pickle& pickle, std::string name, const PickleValue& call) {
  TensorView view = read_view(pickle, std::move(name), call);
  if (view.storage.quantised) pickle.fail(call, "a storage of unknown type");
  return view;
}

TensorView read_quantised(const Pickle& pickle, std::string name, const PickleValue& call) {
  TensorView view = read_view(pickle, std::move(name), call);
  if (!view.storage.quantised)
    pickle.fail(call, "the quantised tensor " + view.name + " has no quantised storage");
  const PickleValue& how = pickle.element(pickle[call.args], 4);
  const PickleValue& scheme = pickle.element(how, 0);
  const bool global = scheme.kind == PickleKind::kGlobal;
  if (global && scheme.text == kPerTensor) {
    const PickleValue& scale = pickle.element(how, 1);
    if (scale.kind != PickleKind::kFloat)
      pickle.fail(scale, "the scale of the tensor " + view.name + " is no float");
    view.scale = scale.number;
    view.zero_point = pickle.integer(pickle.element(how, 2));
  } else if (global && scheme.text == kPerChannel) {
    for (const std::size_t part : {std::size_t{1}, std::size_t{2}}) {
      const PickleValue& value = pickle.element(how, part);
      if (!is_tensor(pickle, value))
        pickle.fail(value, "the scales and zero points of " + view.name + " are no tensors");
      view.by_channel.push_back(read_tensor(pickle, view.name, value));
    }
    view.axis = pickle.integer(pickle.element(how, 3));
  } else {
    pickle.fail(scheme, "the tensor " + view.name +
                            " is quantised by another scheme than per tensor or per channel; save "
                            "its dequantize()");
  }
  return view;
}

bool is_tensor(const Pickle& pickle, const PickleValue& value) {
  return pickle.calls(value, kRebuildTensor) || pickle.calls(value, kRebuildTensor2);
}

StorageId read_storage_id(const Pickle& pickle, const PickleValue& value) {
  if (value.kind != PickleKind::kPersistent) pickle.fail(value, "a tensor without a storage");
  const PickleValue& id = pickle[value.args];
  if (pickle.text(pickle.element(id, 0)) != "storage")
    pickle.fail(value, "a reference to something that is no storage");
  const PickleValue& type = pickle.element(id, 1);
  const auto known = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                  [&](const StorageType& row) { return row.global == type.text; });
  const auto quantised =
      std::find_if(kQuantisedTypes.begin(), kQuantisedTypes.end(),
                   [&](const QuantisedType& row) { return row.global == type.text; });
  StorageId storage;
  storage.quantised = quantised != kQuantisedTypes.end();
  if (type.kind != PickleKind::kGlobal || (known == kStorageTypes.end() && !storage.quantised))
    pickle.fail(value, "a storage of unknown type");
  storage.dtype = storage.quantised ? quantised->integers : known->dtype;
  storage.key = std::string(pickle.text(pickle.element(id, 2)));
  storage.numel = pickle.integer(pickle.element(id, 4));
  const auto itemsize = static_cast<std::int64_t>(at::elementSize(storage.dtype));
  if (storage.numel < 0 || storage.numel > INT64_MAX / itemsize)
    pickle.fail(value, "a storage of impossible size");
  if (id.items.size() > 5 && pickle.element(id, 5).kind == PickleKind::kTuple)
    storage.first = pickle.integer(pickle.element(pickle.element(id, 5), 1));
  if (storage.first < 0) pickle.fail(value, "a storage that begins before itself");
  return storage;
}

std::vector<TensorViews> find_tensors(const Pickle& pickle) {
  const PickleValue& root = pickle.root_value();
  if (tensor_call(pickle, root) != nullptr)
    pickle.fail(root,
                "the file holds one tensor, no dictionary of tensors; save model.state_dict()");
  if (!is_mapping(pickle, root))
    pickle.fail(root,
                "the checkpoint is no dictionary of tensors; save model.state_dict() instead");
  std::vector<TensorViews> found = DictionarySearch(pickle).run();
  if (found.empty()) refuse_without_tensors(pickle);
  return found;
}

std::int64_t check_tensor(const Pickle& pickle, const TensorView& view, std::size_t bytes) {
  const auto available = static_cast<std::int64_t>(bytes / at::elementSize(view.storage.dtype));
  if (view.storage.numel > available - std::min(available, view.storage.first))
    pickle.fail(*view.at, "the storage of the tensor " + view.name + " should have " +
                              std::to_string(view.storage.numel) + " elements and has " +
                              std::to_string(available) +
                              "; the file is damaged, download or save it again");
  const std::int64_t count = count_elements(pickle, view, available);
  if (count > 0) check_bounds(pickle, view, available);
  return count;
}

namespace {

at::Tensor copy_elements(const Pickle& pickle, const TensorView& view, const Storages& storages) {
  const std::size_t itemsize = at::elementSize(view.storage.dtype);
  const StorageData& storage = storages.at(view.storage.key);
  const std::int64_t count = check_tensor(pickle, view, storage.size);
  at::Tensor tensor = at::empty(view.sizes, at::TensorOptions().dtype(view.storage.dtype));
  if (count == 0) return tensor;
  const std::byte* from =
      storage.data + static_cast<std::size_t>(view.storage.first + view.offset) * itemsize;
  auto* to = static_cast<std::byte*>(tensor.data_ptr());
  if (is_contiguous(view))
    std::memcpy(to, from, static_cast<std::size_t>(count) * itemsize);
  else
    copy_strided(view, from, to, count, itemsize);
  if (view.storage.dtype == at::kBool)  // any other byte than 0 and 1 would be undefined behaviour
    for (std::int64_t i = 0; i < count; ++i) to[i] = std::byte{to[i] != std::byte{0}};
  return tensor;
}

at::Tensor quantised_by_channel(const Pickle& pickle, const TensorView& view,
                                const at::Tensor& integers, const Storages& storages) {
  const at::Tensor scales = copy_elements(pickle, view.by_channel[0], storages),
                   zeros = copy_elements(pickle, view.by_channel[1], storages);
  const bool on_axis = view.axis >= 0 && view.axis < integers.dim();
  const auto fits = [&](const at::Tensor& list) {
    return list.dim() == 1 && list.size(0) == integers.size(view.axis);
  };
  if (!on_axis || !fits(scales) || !fits(zeros) || !at::isFloatingType(scales.scalar_type()) ||
      !at::isIntegralType(zeros.scalar_type(), false))
    pickle.fail(*view.at, "the tensor " + view.name +
                              " needs a float scale and a whole zero point for each of its "
                              "channels");
  return at::_make_per_channel_quantized_tensor(integers, scales.to(at::kDouble),
                                                zeros.to(at::kLong), view.axis);
}

}  // namespace

at::Tensor copy_tensor(const Pickle& pickle, const TensorView& view, const Storages& storages) {
  const at::Tensor tensor = copy_elements(pickle, view, storages);
  if (!view.storage.quantised) return tensor;
  if (!view.by_channel.empty()) return quantised_by_channel(pickle, view, tensor, storages);
  return at::_make_per_tensor_quantized_tensor(tensor, view.scale, view.zero_point);
}

}  // namespace sentinel
