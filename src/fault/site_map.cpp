#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/graph/outputs.hpp"

namespace sentinel {
namespace {

using Channels = std::vector<std::int64_t>;

Channels identity(std::int64_t count) {
  Channels channels(static_cast<std::size_t>(count));
  std::iota(channels.begin(), channels.end(), 0);
  return channels;
}

/// The common ancestor's channel number of each of `count` channels of `node`.
Channels channels_of(const Graph& graph, const std::string& node, std::int64_t count,
                     Channels ChannelOrigin::*side) {
  const auto entry = graph.origin.find(node);
  if (entry == graph.origin.end() || (entry->second.*side).empty()) return identity(count);
  const Channels& channels = entry->second.*side;
  if (static_cast<std::int64_t>(channels.size()) != count)
    throw Bug("'" + node + "' has " + std::to_string(count) + " channels but its origin names " +
              std::to_string(channels.size()));
  return channels;
}

/// The same of the columns of a weight. In a grouped convolution they are the channels of a block;
/// all blocks have the same places of theirs, so that the first tells.
Channels columns_of(const Graph& graph, const Node& node, std::int64_t count) {
  Channels channels = channels_of(graph, node.name, count * groups_of(node.op), &ChannelOrigin::in);
  channels.resize(static_cast<std::size_t>(count));
  return channels;
}

/// For each channel of `from` its position in `to`, -1 where it is gone.
Channels positions(const Channels& from, const Channels& to) {
  std::unordered_map<std::int64_t, std::int64_t> position;
  for (std::size_t i = 0; i < to.size(); ++i) position[to[i]] = static_cast<std::int64_t>(i);
  Channels result;
  for (const std::int64_t channel : from) {
    const auto found = position.find(channel);
    result.push_back(found == position.end() ? -1 : found->second);
  }
  return result;
}

/// Without an origin the channels must be the same ones; a narrower layer would pair by chance.
void require_known_origin(const Graph& model, const std::string& node, bool same_shape) {
  if (same_shape || model.origin.count(node)) return;
  throw UserError("cannot pair faults: the model does not say which channels of the original '" +
                  node + "' it kept; use a checkpoint pruned by sentinelnn or unpaired points");
}

bool is_block_code(const Layout& layout) {
  return block_shape(layout).words > 1;
}

/// Whether all channels of both are the same ones, as far as they say.
bool same_origin(const Graph& a, const Graph& b) {
  const auto equal = [](const ChannelOrigin& x, const ChannelOrigin& y) {
    return x.in == y.in && x.out == y.out;
  };
  return a.origin.size() == b.origin.size() &&
         std::equal(a.origin.begin(), a.origin.end(), b.origin.begin(),
                    [&](const auto& x, const auto& y) {
                      return x.first == y.first && equal(x.second, y.second);
                    });
}

std::int64_t originals_of(const FaultTensor& tensor) {
  return static_cast<std::int64_t>(tensor.originals / std::max<std::uint64_t>(tensor.row, 1));
}

}  // namespace

SiteMap::SiteMap(const Graph& original, const Graph& model, const Selection& selection) {
  const FaultSpace from(original, selection), to(model, selection);
  std::unordered_map<std::string, std::size_t> by_name;
  for (std::size_t i = 0; i < to.tensors().size(); ++i) by_name[to.tensors()[i].name] = i;
  shared_.resize(to.tensors().size());
  for (const FaultTensor& tensor : from.tensors()) {
    const auto found = by_name.find(tensor.name);
    TensorMap& map = maps_.emplace_back();
    if (found == by_name.end()) continue;
    const FaultTensor& other = to.tensors()[found->second];
    if (!add_rows(original, model, tensor, other, map)) continue;
    map.tensor = static_cast<std::int64_t>(found->second);
    shared_[found->second] = true;
  }
}

/// Nothing where the two tensors have no words in common.
bool SiteMap::add_rows(const Graph& original, const Graph& model, const FaultTensor& tensor,
                       const FaultTensor& other, TensorMap& map) {
  if (!(tensor.layout == other.layout) || (tensor.row == 0) != (other.row == 0)) return false;
  const bool images = std::holds_alternative<Input>(original[tensor.node].op);
  const bool whole =
      tensor.originals == other.originals && (images || same_origin(original, model));
  map.copies = block_shape(tensor.layout).copies;
  const std::string layer = producer_of(model, other.node);
  const bool by_row = tensor.row > 0 && !layer.empty() && !is_block_code(tensor.layout) &&
                      tensor.kind != TensorClass::kBound;
  if (!by_row) {
    // Words that are not by channel, or are coded together, have no counterpart in another shape.
    map.out = static_cast<std::int64_t>(tensor.originals) / map.copies;
    map.row_of = identity(map.out);
    map.column_of = {0};
    return whole && tensor.row == other.row;
  }
  map.out = originals_of(tensor);
  const std::int64_t model_out = originals_of(other);
  map.column_of = {0};
  if (is_output(tensor.kind)) {
    if (tensor.row != other.row) return false;
    map.window = static_cast<std::int64_t>(tensor.row);
  }
  if (tensor.kind == TensorClass::kWeight) {
    const Node &old_node = original[tensor.node], &new_node = model[other.node];
    const at::Tensor &old_weight = *weight_of(old_node.op), &new_weight = *weight_of(new_node.op);
    map.in = old_weight.size(1);
    map.window = old_weight[0][0].numel();
    map.model_in = new_weight.size(1);
    require_known_origin(model, old_node.name, model_out == map.out && map.model_in == map.in);
    map.column_of = positions(columns_of(original, old_node, map.in),
                              columns_of(model, new_node, map.model_in));
  } else {
    require_known_origin(model, layer, model_out == map.out);
  }
  map.row_of = positions(
      channels_of(original, producer_of(original, tensor.node), map.out, &ChannelOrigin::out),
      channels_of(model, layer, model_out, &ChannelOrigin::out));
  return true;
}

Faults SiteMap::translate(const Faults& in_original) const {
  Faults faults;
  for (const FaultSite& site : in_original) {
    if (site.tensor >= maps_.size()) throw Bug("a fault names a tensor outside the original model");
    const TensorMap& map = maps_[site.tensor];
    if (map.tensor < 0) continue;
    const auto word = static_cast<std::int64_t>(site.element);
    const std::int64_t element = word / map.copies;
    const std::int64_t row = element / (map.in * map.window);
    if (row >= map.out) continue;  // a copy in the original model: not a weight of the two
    const std::int64_t new_row = map.row_of[static_cast<std::size_t>(row)];
    const std::int64_t new_column =
        map.column_of[static_cast<std::size_t>(element / map.window % map.in)];
    if (new_row < 0 || new_column < 0) continue;
    const std::int64_t position =
        (new_row * map.model_in + new_column) * map.window + element % map.window;
    FaultSite& moved = faults.emplace_back(site);
    moved.tensor = static_cast<std::uint32_t>(map.tensor);
    moved.element = static_cast<std::uint64_t>(position * map.copies + word % map.copies);
  }
  std::sort(faults.begin(), faults.end());
  return faults;
}

std::uint64_t SiteMap::shared_sites(const FaultSpace& original) const {
  std::uint64_t sites = 0;
  for (std::size_t t = 0; t < original.tensors().size(); ++t) {
    const FaultTensor& tensor = original.tensors()[t];
    const TensorMap& map = maps_.at(t);
    if (map.tensor < 0) continue;
    const auto is_there = [](std::int64_t channel) { return channel >= 0; };
    const auto columns = std::count_if(map.column_of.begin(), map.column_of.end(), is_there);
    const auto of_a_row = static_cast<std::uint64_t>(columns * map.window * map.copies);
    const auto row = static_cast<std::uint64_t>(map.in * map.window * map.copies);
    const auto rows = static_cast<std::uint64_t>(map.out);
    for (const NumberRange& range : tensor.ranges)  // of whole rows
      for (std::uint64_t r = range.begin / row; r < std::min(rows, range.end / row); ++r)
        if (is_there(map.row_of[r])) sites += of_a_row * tensor.bits.size();
  }
  return sites;
}

}  // namespace sentinel
