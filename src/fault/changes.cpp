#include "fault/changes.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

/// Where the elements of a tensor lie, in elements from its first, by their row-major numbers: the
/// memory format (channels_last) must not move a fault.
class Offsets {
 public:
  explicit Offsets(const at::Tensor& tensor)
      : sizes_(tensor.sizes()), strides_(tensor.strides()), contiguous_(tensor.is_contiguous()) {}
  std::int64_t of(std::uint64_t element) const {
    auto rest = static_cast<std::int64_t>(element);
    if (contiguous_) return rest;
    std::int64_t offset = 0;
    for (std::size_t d = sizes_.size(); d-- > 0;) {
      const std::int64_t above = rest / sizes_[d];
      offset += (rest - above * sizes_[d]) * strides_[d];
      rest = above;
    }
    return offset;
  }

 private:
  at::IntArrayRef sizes_, strides_;  // of the tensor, which must outlive this
  bool contiguous_;
};

at::Tensor to_index(const std::vector<std::int64_t>& numbers, at::Device device) {
  return at::tensor(numbers, at::kLong).to(device);
}

bool is_read(TensorClass kind) {
  switch (kind) {
    case TensorClass::kWeight:
    case TensorClass::kBias:
    case TensorClass::kBn:
    case TensorClass::kBound:
      return true;
    case TensorClass::kScale:
    case TensorClass::kCheck:
    case TensorClass::kActivation:
    case TensorClass::kPost:
    case TensorClass::kOutput:
      return false;
  }
  throw Bug("unknown class of tensors");
}

/// A tensor of an operator that may be put in place of the graph's.
at::Tensor& tensor_of(Op& op, const std::string& node, const StoredTensor& tensor) {
  at::Tensor* found = nullptr;
  for_each_tensor(op, [&](const char* suffix, at::Tensor& values) {
    if (tensor.name == node + "." + suffix) found = &values;
  });
  if (!found || !is_read(tensor.kind))
    throw Bug("'" + tensor.name + "' is nothing that a network reads");
  return *found;
}

Overlay::Rows rows_of(const at::Tensor& weight, const ChangeRange& changes) {
  const auto width = static_cast<std::uint64_t>(weight.size(1));
  Overlay::Rows rows;
  for (const ReadChange& change : changes) {
    const auto row = static_cast<std::int64_t>(change.element / width);
    if (rows.numbers.empty() || rows.numbers.back() != row) rows.numbers.push_back(row);
  }
  rows.values = changed_rows(weight, rows.numbers, changes);
  return rows;
}

/// Whether an output channel depends on its own row of each tensor alone, and reads all inputs.
bool has_rows(const Op& op) {
  const auto* conv = std::get_if<Conv>(&op);
  return std::holds_alternative<Linear>(op) || (conv && conv->groups == 1);
}

NodeChange change_of_rows(const Node& node, const std::vector<StoredTensor>& tensors,
                          const std::vector<ChangeRange>& changes) {
  std::set<std::int64_t> rows;
  for (const ChangeRange& own : changes)
    for (const ReadChange& change : own)
      rows.insert(static_cast<std::int64_t>(change.element / tensors[change.stored].row));
  const std::vector<std::int64_t> numbers(rows.begin(), rows.end());
  NodeChange result{at::tensor(numbers), node.op, node.op};
  for_each_tensor(result.clean, [&](const char*, at::Tensor& values) {
    values = values.index_select(0, result.channels);
  });
  for_each_tensor(result.faulty, [&](const char* suffix, at::Tensor& values) {
    ChangeRange here;
    for (const ChangeRange& own : changes)
      if (tensors[own.first->stored].name == node.name + "." + suffix) here = own;
    values = changed_rows(values, numbers, here);
  });
  return result;
}

}  // namespace

std::vector<ChangeRange> by_tensor(const std::vector<ReadChange>& changes) {
  std::vector<ChangeRange> ranges;
  const ReadChange* const end = changes.data() + changes.size();
  for (const ReadChange *first = changes.data(), *last = first; first != end; first = last) {
    while (last != end && last->stored == first->stored) ++last;
    ranges.push_back({first, last});
  }
  return ranges;
}

void write(const at::Tensor& values, const ChangeRange& changes, float ReadChange::*value) {
  const Offsets place(values);
  if (values.is_cpu()) {
    auto* to = values.data_ptr<float>();
    for (const ReadChange& change : changes) to[place.of(change.element)] = change.*value;
    return;
  }
  std::vector<std::int64_t> offsets;
  std::vector<std::int32_t> words;
  for (const ReadChange& change : changes) {
    offsets.push_back(place.of(change.element));
    std::memcpy(&words.emplace_back(), &(change.*value), sizeof(float));
  }
  at::Tensor all = values.detach().view(at::kInt).as_strided({values.numel()}, {1});
  all.index_copy_(0, to_index(offsets, values.device()),
                  at::tensor(words, at::kInt).to(values.device()));
}

at::Tensor changed_rows(const at::Tensor& values, const std::vector<std::int64_t>& numbers,
                        const ChangeRange& changes) {
  const at::Tensor rows = values.index_select(0, to_index(numbers, values.device()));
  const auto width = static_cast<std::uint64_t>(values[0].numel());
  std::vector<ReadChange> own(changes.begin(), changes.end());
  for (ReadChange& change : own) {
    const auto row = static_cast<std::int64_t>(change.element / width);
    const auto place = std::lower_bound(numbers.begin(), numbers.end(), row) - numbers.begin();
    change.element = static_cast<std::uint64_t>(place) * width + change.element % width;
  }
  write(rows, {own.data(), own.data() + own.size()}, &ReadChange::faulty);
  return rows;
}

Overlay overlay_of(const Graph& graph, const std::vector<StoredTensor>& tensors,
                   const std::vector<ReadChange>& changes) {
  Overlay overlay;
  for (const ChangeRange& own : by_tensor(changes)) {
    const StoredTensor& tensor = tensors[own.first->stored];
    const Node& node = graph[tensor.node];
    const auto* linear = std::get_if<Linear>(&node.op);
    if (linear && tensor.kind == TensorClass::kWeight) {
      overlay.rows[tensor.node] = rows_of(linear->weight, own);
      continue;
    }
    Op& op = overlay.ops.emplace(tensor.node, node.op).first->second;
    at::Tensor& values = tensor_of(op, node.name, tensor);
    values = values.clone();  // in the same memory format
    write(values, own, &ReadChange::faulty);
  }
  return overlay;
}

std::map<NodeId, NodeChange> node_changes(const Graph& graph,
                                          const std::vector<StoredTensor>& tensors,
                                          const std::vector<ReadChange>& changes) {
  std::map<NodeId, std::vector<ChangeRange>> by_node;
  for (const ChangeRange& own : by_tensor(changes))
    by_node[tensors[own.first->stored].node].push_back(own);
  std::map<NodeId, NodeChange> result;
  for (const auto& [id, own] : by_node) {
    if (has_rows(graph[id].op)) {
      result.emplace(id, change_of_rows(graph[id], tensors, own));
      continue;
    }
    const Overlay overlay = overlay_of(graph, tensors, {own.front().first, own.back().last});
    result.emplace(id, NodeChange{{}, graph[id].op, overlay.ops.at(id)});
  }
  return result;
}

at::Tensor where_changed(const at::Tensor& clean, const at::Tensor& changed,
                         const at::Tensor& base) {
  return at::where(clean.view(at::kInt) == changed.view(at::kInt), base, changed);
}

}  // namespace sentinel
