#include "sentinel/graph/stored.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <optional>
#include <string_view>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

/// Nothing for what is only carried along.
std::optional<TensorClass> class_of(const Op& op, std::string_view suffix) {
  if (suffix == "num_batches_tracked") return std::nullopt;
  if (std::holds_alternative<BatchNorm>(op)) return TensorClass::kBn;
  if (suffix == "weight") return TensorClass::kWeight;
  return suffix == "bias" ? TensorClass::kBias : TensorClass::kBound;
}

/// Rows of the tensors that hold one for each original and copy.
std::int64_t copies_of(const Op& op, std::string_view suffix) {
  const auto* conv = std::get_if<DuplicatedConv>(&op);
  const bool ranges = suffix == "range_low" || suffix == "range_high";
  return conv && !ranges ? static_cast<std::int64_t>(conv->duplicated.size()) : 0;
}

StoredTensor describe(const Graph& graph, NodeId node, const char* suffix, TensorClass kind,
                      const at::Tensor& values) {
  StoredTensor tensor{node, graph[node].name + "." + suffix, kind, {}};
  tensor.values = static_cast<std::uint64_t>(values.numel());
  const std::int64_t rows = values.dim() == 0 ? 0 : values.size(0);
  tensor.row = rows > 0 ? tensor.values / static_cast<std::uint64_t>(rows) : 0;
  const auto copies = static_cast<std::uint64_t>(rows > 0 ? copies_of(graph[node].op, suffix) : 0);
  tensor.originals = tensor.values - copies * tensor.row;
  return tensor;
}

std::uint64_t blocks_of(std::uint64_t values, int block) {
  const auto size = static_cast<std::uint64_t>(block);
  return (values + size - 1) / size;
}

void add_scales(const Graph& graph, const StoredTensor& of, const at::Tensor& scale,
                std::vector<StoredTensor>& to) {
  StoredTensor tensor{of.node, of.name + "_scale", TensorClass::kScale, {}};
  const auto own = graph.storage.find(tensor.name);
  if (own != graph.storage.end()) tensor.layout = own->second.layout;
  tensor.values = static_cast<std::uint64_t>(scale.numel());
  tensor.row = of.layout.scale_per_row ? 1 : 0;
  tensor.originals = tensor.row == 0 ? tensor.values : of.originals / of.row;
  to.push_back(std::move(tensor));
}

void add_checks(const StoredTensor& of, std::vector<StoredTensor>& to) {
  const int words = block_shape(of.layout).words;
  StoredTensor tensor{of.node, of.name + ".check", TensorClass::kCheck, of.layout};
  tensor.originals = blocks_of(of.originals, words);
  tensor.values = tensor.originals + blocks_of(of.values - of.originals, words);
  to.push_back(std::move(tensor));
}

void add(const Graph& graph, StoredTensor tensor, std::vector<StoredTensor>& to) {
  const auto own = graph.storage.find(tensor.name);
  if (own == graph.storage.end()) {
    to.push_back(std::move(tensor));
    return;
  }
  tensor.layout = own->second.layout;
  to.push_back(tensor);
  if (own->second.scale.defined()) add_scales(graph, tensor, own->second.scale, to);
  if (block_shape(tensor.layout).check_bits > 0) add_checks(tensor, to);
}

}  // namespace

const char* class_name(TensorClass kind) {
  switch (kind) {
    case TensorClass::kWeight:
      return "weight";
    case TensorClass::kBias:
      return "bias";
    case TensorClass::kBn:
      return "bn";
    case TensorClass::kBound:
      return "bound";
    case TensorClass::kScale:
      return "scale";
    case TensorClass::kCheck:
      return "check";
    case TensorClass::kActivation:
      return "activation";
    case TensorClass::kPost:
      return "post";
    case TensorClass::kOutput:
      return "output";
  }
  throw Bug("unknown class of tensors");
}

std::string misfit(TensorClass kind, const Layout& layout) {
  if (kind == TensorClass::kCheck) return "check bits are stored as their code says";
  if (kind == TensorClass::kWeight) return "";
  if ((kind == TensorClass::kBound || kind == TensorClass::kScale) && has_scale(layout.format))
    return std::string(class_name(kind)) + "s need a format without scales, such as fp32 or fp16";
  const bool repeats = !layout.code || layout.code->kind == Code::Kind::kRepeat ||
                       layout.code->kind == Code::Kind::kTmr;
  return repeats ? "" : "only weights may have this code; others take repeat:R or tmr";
}

std::vector<StoredTensor> stored_tensors(const Graph& graph) {
  std::vector<StoredTensor> tensors;
  for (NodeId id = 0; id < graph.size(); ++id)
    for_each_tensor(graph[id].op, [&](const char* suffix, const at::Tensor& values) {
      if (const auto kind = class_of(graph[id].op, suffix))
        add(graph, describe(graph, id, suffix, *kind, values), tensors);
    });
  return tensors;
}

std::vector<StoredPart> stored_parts(const Graph& graph) {
  const std::vector<StoredTensor> tensors = stored_tensors(graph);
  std::vector<StoredPart> parts;
  const auto add_to_its_part = [&](const StoredTensor& tensor) {
    auto part = std::find_if(parts.begin(), parts.end(), [&](const StoredPart& own) {
      return own.kind == tensor.kind && own.layout == tensor.layout;
    });
    if (part == parts.end()) {
      parts.push_back({tensor.kind, tensor.layout});
      part = parts.end() - 1;
    }
    const BlockShape shape = block_shape(tensor.layout);
    const bool check = tensor.kind == TensorClass::kCheck;
    const auto values = static_cast<std::int64_t>(tensor.values);
    const std::int64_t words = check ? values : values * shape.copies;
    ++part->tensors;
    part->words += words;
    part->bits += words * (check ? shape.check_bits : shape.stored_bits);
  };
  for (int kind = 0; kind <= static_cast<int>(TensorClass::kCheck); ++kind)
    for (const StoredTensor& tensor : tensors)
      if (static_cast<int>(tensor.kind) == kind) add_to_its_part(tensor);
  return parts;
}

std::string layouts_in_words(const Graph& graph) {
  std::string text;
  for (const StoredPart& part : stored_parts(graph))
    text += (text.empty() ? "" : ", ") + std::string(class_name(part.kind)) + " " +
            layout_name(part.layout);
  return text;
}

namespace {

/// The tensor of a node with this entry; Bug where there is none.
template <class AnyOp>
auto& tensor_of(AnyOp& op, const std::string& node, const std::string& entry) {
  at::Tensor* found = nullptr;
  const std::string_view suffix = std::string_view(entry).substr(node.size() + 1);
  for_each_tensor(op, [&](const char* own, auto& values) {
    if (own == suffix) found = const_cast<at::Tensor*>(&values);
  });
  if (!found) throw Bug("the network has no tensor '" + entry + "'");
  return *found;
}

/// Values of words that are coded together, `scale(i)` for each, as they are read.
template <class Scale>
void read_back(float* values, std::uint64_t count, const Layout& layout, const Scale& scale) {
  const BlockShape shape = block_shape(layout);
  const auto size = static_cast<std::uint64_t>(shape.words);
  std::vector<Word> words(size), stored(size * static_cast<std::uint64_t>(shape.copies));
  std::vector<ReadWord> read(size);
  for (std::uint64_t begin = 0; begin < count; begin += size) {
    const std::uint64_t n = std::min(size, count - begin);
    for (std::uint64_t i = 0; i < n; ++i) {
      words[i] = encode(layout.format, values[begin + i], scale(begin + i));
      read[i] = {words[i], false};
    }
    Word check = 0;
    if (layout.code) {
      encode_block(layout, words.data(), static_cast<int>(n), stored.data(), &check);
      decode_block(layout, stored.data(), static_cast<int>(n), check, read.data());
    }
    for (std::uint64_t i = 0; i < n; ++i)
      values[begin + i] =
          read[i].flagged ? 0 : decode(layout.format, read[i].word, scale(begin + i));
  }
}

at::Tensor scales_of(const at::Tensor& values, const Layout& layout, bool by_row) {
  const at::Tensor magnitudes = values.abs();
  at::Tensor scales = by_row ? magnitudes.flatten(1).amax(1) : magnitudes.max().view({1});
  scales = scales.contiguous();
  auto* scale = scales.data_ptr<float>();
  for (std::int64_t i = 0; i < scales.numel(); ++i) scale[i] = scale_of(layout.format, scale[i]);
  return scales;
}

}  // namespace

namespace {

StoredTensor stored_tensor(const Graph& graph, const std::string& entry) {
  for (StoredTensor& own : stored_tensors(graph))
    if (own.name == entry) return std::move(own);
  throw Bug("the network has no tensor '" + entry + "'");
}

/// Values as they are read where they are stored so; copies are blocks of their own.
at::Tensor read_values(const at::Tensor& stored, const StoredTensor& tensor,
                       const Storage& storage) {
  at::Tensor values = stored.to(at::kCPU).contiguous().clone();
  const float* scale = storage.scale.defined() ? storage.scale.data_ptr<float>() : nullptr;
  const bool by_row = storage.layout.scale_per_row && tensor.row > 0;
  const auto scale_at = [&](std::uint64_t element) {
    return scale == nullptr ? 1 : scale[by_row ? element / tensor.row : 0];
  };
  float* first = values.data_ptr<float>();
  read_back(first, tensor.originals, storage.layout, scale_at);
  read_back(first + tensor.originals, tensor.values - tensor.originals, storage.layout,
            [&](std::uint64_t element) { return scale_at(tensor.originals + element); });
  return values;
}

at::Tensor read_scales(const at::Tensor& scales, const Layout& layout) {
  at::Tensor read = scales.to(at::kCPU).contiguous().clone();
  read_back(read.data_ptr<float>(), static_cast<std::uint64_t>(read.numel()), layout,
            [](std::uint64_t) { return 1.0F; });
  return read;
}

/// A layout as it is for a tensor: vectors have one scale.
Layout layout_for(const StoredTensor& tensor, const at::Tensor& values, const Layout& layout) {
  Layout own = layout;
  if (has_scale(own.format))
    own.scale_per_row = own.scale_per_row && tensor.row > 0 && values.dim() > 1;
  return own;
}

/// With the scales of the largest magnitudes.
Storage new_storage(const StoredTensor& tensor, const at::Tensor& values, const Layout& layout,
                    const Layout& scales) {
  Storage storage{layout_for(tensor, values, layout), {}};
  if (has_scale(layout.format))
    storage.scale =
        read_scales(scales_of(values.to(at::kCPU), layout, storage.layout.scale_per_row), scales);
  return storage;
}

void name_scales(Graph& graph, const std::string& entry, const Layout& layout) {
  if (is_plain(layout))
    graph.storage.erase(entry + "_scale");
  else
    graph.storage[entry + "_scale"] = {layout, {}};
}

/// The scales that a tensor has in this format already; undefined where there are none.
at::Tensor present_scales(const Graph& graph, const std::string& entry, const Layout& layout) {
  const auto own = graph.storage.find(entry);
  if (own == graph.storage.end()) return {};
  const Layout& now = own->second.layout;
  const bool same = now.format == layout.format && now.scale_per_row == layout.scale_per_row;
  return same ? own->second.scale : at::Tensor();
}

}  // namespace

void store_as(Graph& graph, const std::string& entry, const Layout& layout, const Layout& scales) {
  const StoredTensor found = stored_tensor(graph, entry);
  Node& node = graph[found.node];
  at::Tensor& tensor = tensor_of(node.op, node.name, entry);
  const Layout own = layout_for(found, tensor, layout);
  const at::Tensor present = present_scales(graph, entry, own);
  Storage storage =
      present.defined() ? Storage{own, present} : new_storage(found, tensor, layout, scales);
  tensor = read_values(tensor, found, storage).to(tensor.device());
  name_scales(graph, entry, storage.scale.defined() ? scales : Layout());
  graph.storage[entry] = std::move(storage);
  if (present.defined()) rescale(graph, entry, present, scales);
}

at::Tensor read_as(const StoredTensor& tensor, const at::Tensor& values, const Layout& layout,
                   const Layout& scales) {
  return read_values(values, tensor, new_storage(tensor, values, layout, scales))
      .to(values.device());
}

void store_plain(Graph& graph, const std::string& entry) {
  graph.storage.erase(entry);
  graph.storage.erase(entry + "_scale");
}

void rescale(Graph& graph, const std::string& entry, const at::Tensor& scales,
             const Layout& layout) {
  const StoredTensor found = stored_tensor(graph, entry);
  Storage& storage = graph.storage.at(entry);
  const NumberFormat format = storage.layout.format;
  const at::Tensor before = storage.scale;
  if (scales.sizes() != before.sizes()) throw Bug("another number of scales for '" + entry + "'");
  storage.scale = read_scales(scales, layout);
  name_scales(graph, entry, layout);
  at::Tensor& tensor = tensor_of(graph[found.node].op, graph[found.node].name, entry);
  at::Tensor values = tensor.to(at::kCPU).contiguous().clone();
  const std::int64_t row = values.numel() / before.numel();
  for (std::int64_t r = 0; r < before.numel(); ++r) {
    float& scale = storage.scale.data_ptr<float>()[r];
    if (std::fabs(scale) < FLT_MIN) scale = 0;  // it has no reciprocal
    for (float *value = values.data_ptr<float>() + r * row, *end = value + row; value < end;
         ++value)
      *value = scale == 0
                   ? 0
                   : decode(format, encode(format, *value, before.data_ptr<float>()[r]), scale);
  }
  tensor = values.to(tensor.device());
}

bool is_stored_exactly(const Graph& graph, const std::string& entry) {
  const StoredTensor tensor = stored_tensor(graph, entry);
  const at::Tensor values = values_of(graph, tensor).to(at::kCPU).contiguous();
  Storage storage{tensor.layout, {}};
  const auto own = graph.storage.find(entry);
  if (own != graph.storage.end()) storage.scale = own->second.scale;
  const at::Tensor read = read_values(values, tensor, storage);
  return std::memcmp(read.data_ptr(), values.data_ptr(), values.nbytes()) == 0;
}

const at::Tensor& values_of(const Graph& graph, const StoredTensor& tensor) {
  if (tensor.kind == TensorClass::kScale)
    return graph.storage.at(tensor.name.substr(0, tensor.name.rfind("_scale"))).scale;
  const Node& node = graph[tensor.node];
  return tensor_of(node.op, node.name, tensor.name);
}

}  // namespace sentinel
