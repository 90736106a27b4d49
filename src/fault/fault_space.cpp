#include "sentinel/fault/fault_space.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "fault/weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/outputs.hpp"

namespace sentinel {

namespace {

using Key = std::tuple<std::int32_t, std::uint32_t, std::uint64_t, std::uint8_t>;

Key key_of(const FaultSite& site) {
  return {site.image, site.tensor, site.element, site.bit};
}

/// A fault tensor of all words, nothing selected yet.
FaultTensor describe(const StoredTensor& stored, std::size_t number) {
  const std::uint64_t copies = stored.kind == TensorClass::kCheck
                                   ? 1
                                   : static_cast<std::uint64_t>(block_shape(stored.layout).copies);
  FaultTensor tensor;
  tensor.node = stored.node;
  tensor.name = stored.name;
  tensor.kind = stored.kind;
  tensor.layout = stored.layout;
  tensor.stored = number;
  tensor.word_bits = stored_bits(stored);
  tensor.elements = stored.values * copies;
  tensor.originals = stored.originals * copies;
  tensor.row = stored.row * copies;
  return tensor;
}

/// Rows of the tensor that hold these channels of the unpruned network and their copies.
class RowsOfChannels {
 public:
  RowsOfChannels(const Graph& graph, const FaultTensor& tensor) {
    const auto entry = graph.origin.find(producer_of(graph, tensor.node));
    if (entry != graph.origin.end()) origin_ = entry->second.out;
    if (const auto* conv = std::get_if<DuplicatedConv>(&graph[tensor.node].op)) {
      // Ranges of corrections are of duplicated channels alone.
      const bool ranges = tensor.name.find(".range_") != std::string::npos;
      originals_ = ranges ? 0 : static_cast<std::uint64_t>(conv->out_channels());
      copies_.assign(conv->duplicated.begin(), conv->duplicated.end());
    }
  }
  /// The channel that a row is of.
  std::uint64_t channel(std::uint64_t row) const {
    if (!copies_.empty() && row >= originals_)
      row = static_cast<std::uint64_t>(copies_.at(row - originals_));
    return row < origin_.size() ? static_cast<std::uint64_t>(origin_[row]) : row;
  }

 private:
  std::vector<std::int64_t> origin_, copies_;
  std::uint64_t originals_ = 0;
};

const Selection::Channels* channels_of(const Selection& selection, const std::string& layer) {
  for (const Selection::Channels& own : selection.channels)
    if (own.layer == layer) return &own;
  return nullptr;
}

bool holds(const std::vector<NumberRange>& ranges, std::uint64_t number) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const NumberRange& range) {
    return range.begin <= number && number < range.end;
  });
}

void select_elements(const Graph& graph, const Selection& selection, FaultTensor& tensor) {
  const Selection::Channels* wanted = channels_of(selection, graph[tensor.node].name);
  if (!wanted) {
    tensor.ranges = {{0, tensor.elements}};
  } else if (tensor.row > 0) {
    if (is_output(tensor.kind) && !graph.origin.empty() && producer_of(graph, tensor.node).empty())
      throw UserError(spelled(Setting::kChannels) + " " + tensor.name +
                      ": the network is pruned, and this output has channels of several layers; "
                      "name a layer of " +
                      spelled(Setting::kFaultTarget) + " activation");
    const RowsOfChannels rows(graph, tensor);
    for (std::uint64_t row = 0; row < tensor.elements / tensor.row; ++row) {
      if (!holds(wanted->channels, rows.channel(row))) continue;
      const std::uint64_t begin = row * tensor.row;
      if (!tensor.ranges.empty() && tensor.ranges.back().end == begin)
        tensor.ranges.back().end += tensor.row;
      else
        tensor.ranges.push_back({begin, begin + tensor.row});
    }
  }
  for (const NumberRange& range : tensor.ranges) tensor.selected += range.end - range.begin;
}

/// Tensors of any class, where they are stored; else the outputs that the selection is of.
std::vector<StoredTensor> all_tensors(const Graph& graph, const Selection& selection) {
  if (!selects_outputs(selection)) return stored_tensors(graph);
  std::vector<StoredTensor> tensors;
  for (const TensorClass kind : selection.targets)
    for (StoredTensor& tensor : output_tensors(graph, kind)) tensors.push_back(std::move(tensor));
  return tensors;
}

bool names_layer(const std::vector<const Graph*>& graphs, const Selection& selection,
                 const std::string& glob) {
  return std::any_of(graphs.begin(), graphs.end(), [&](const Graph* graph) {
    const std::vector<StoredTensor> tensors = all_tensors(*graph, selection);
    return std::any_of(tensors.begin(), tensors.end(), [&](const StoredTensor& tensor) {
      return matches_glob(glob, (*graph)[tensor.node].name);
    });
  });
}

/// A layer of a network and its channels, of the unpruned network.
struct LayerChannels {
  std::vector<std::uint64_t> numbers;
  bool pruned = false;
};

std::optional<LayerChannels> channels_in(const Graph& graph, const Selection& selection,
                                         const std::string& layer) {
  for (const StoredTensor& stored : all_tensors(graph, selection)) {
    if (graph[stored.node].name != layer || stored.row == 0) continue;
    const FaultTensor tensor = describe(stored, 0);
    const RowsOfChannels rows(graph, tensor);
    LayerChannels own;
    own.pruned = graph.origin.count(producer_of(graph, tensor.node)) > 0;
    for (std::uint64_t row = 0; row < tensor.originals / tensor.row; ++row)
      own.numbers.push_back(rows.channel(row));
    return own;
  }
  return std::nullopt;
}

void require_channels(const std::vector<const Graph*>& graphs, const Selection& selection,
                      const std::string& layer, const NumberRange& range) {
  bool known = false, pruned = false;
  std::uint64_t last = 0;
  for (const Graph* graph : graphs) {
    const std::optional<LayerChannels> own = channels_in(*graph, selection, layer);
    if (!own) continue;
    known = true;
    pruned = pruned || own->pruned;
    for (const std::uint64_t channel : own->numbers) {
      last = std::max(last, channel);
      // An unpruned network has all channels up to its last.
      if (own->pruned && range.begin <= channel && channel < range.end) return;
    }
    if (!own->pruned && range.end <= own->numbers.size()) return;
  }
  if (!known)
    throw UserError(spelled(Setting::kChannels) + " " + layer +
                    ": the network has no layer of this name with channels");
  throw UserError(pruned
                      ? fmt::format("{} {}: the pruned layer has none of the channels {} to {} of "
                                    "the network that it was made from",
                                    spelled(Setting::kChannels), layer, range.begin, range.end - 1)
                      : fmt::format("{} {}: the layer has the channels 0 to {}",
                                    spelled(Setting::kChannels), layer, last));
}

/// Where a bit is among ascending ones; their number where it is none of them. Mostly they are all
/// bits of a word, or some in a row: no search.
std::size_t place_of(const std::vector<std::uint8_t>& bits, std::uint8_t bit) {
  const std::size_t guess = std::size_t{bit} - bits.front();
  if (guess < bits.size() && bits[guess] == bit) return guess;
  const auto found = std::lower_bound(bits.begin(), bits.end(), bit);
  const bool known = found != bits.end() && *found == bit;
  return known ? static_cast<std::size_t>(found - bits.begin()) : bits.size();
}

bool has_class(const Selection& selection, TensorClass kind) {
  return std::find(selection.targets.begin(), selection.targets.end(), kind) !=
         selection.targets.end();
}

}  // namespace

void require_selected(const std::vector<const Graph*>& graphs, const Selection& selection) {
  for (const std::string& glob : selection.layers)
    if (!names_layer(graphs, selection, glob.rfind('!', 0) == 0 ? glob.substr(1) : glob))
      throw UserError(
          spelled(Setting::kLayers) + " " + glob + ": no layer of the network " +
          (selects_outputs(selection) ? "whose output may be hit" : "with stored values") +
          " has such a name; `profile` lists them");
  for (const auto& [layer, ranges] : selection.channels)
    for (const NumberRange& range : ranges) require_channels(graphs, selection, layer, range);
}

bool FaultSite::operator==(const FaultSite& o) const {
  return key_of(*this) == key_of(o) && effect == o.effect && length == o.length &&
         operand == o.operand;
}

bool FaultSite::operator<(const FaultSite& o) const {
  const Key own = key_of(*this), other = key_of(o);
  if (own != other) return own < other;
  return std::tie(effect, length, operand) < std::tie(o.effect, o.length, o.operand);
}

FaultSpace::FaultSpace(const Graph& graph, const Selection& selection) : words_(selection.words) {
  if (words_ && !selection.bits.empty())
    throw UserError(spelled(Setting::kBits) +
                    ": a fault of this model hits whole words; leave it out");
  const std::vector<StoredTensor> all = all_tensors(graph, selection);
  outputs_ = selects_outputs(selection);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!has_class(selection, all[i].kind) || !selects_layer(selection, graph[all[i].node].name))
      continue;
    FaultTensor tensor = describe(all[i], i);
    select_elements(graph, selection, tensor);
    tensor.bits = words_ ? std::vector<std::uint8_t>{0} : selected_bits(selection, all[i]);
    tensor.first_site = sites_;
    if (tensor.sites() == 0) continue;
    sites_ += tensor.sites();
    tensors_.push_back(std::move(tensor));
  }
}

FaultSite FaultSpace::at(std::uint64_t index) const {
  if (index >= sites_) throw Bug("site " + std::to_string(index) + " is outside the fault space");
  const auto after = std::upper_bound(
      tensors_.begin(), tensors_.end(), index,
      [](std::uint64_t site, const FaultTensor& tensor) { return site < tensor.first_site; });
  const auto tensor = after - 1;
  const std::uint64_t offset = index - tensor->first_site;
  std::uint64_t element = offset / tensor->bits.size();
  for (const NumberRange& range : tensor->ranges) {
    if (element < range.end - range.begin) {
      element += range.begin;
      break;
    }
    element -= range.end - range.begin;
  }
  return {static_cast<std::uint32_t>(tensor - tensors_.begin()), element,
          tensor->bits[offset % tensor->bits.size()]};
}

std::uint64_t FaultSpace::index(const FaultSite& site) const {
  if (site.tensor >= tensors_.size()) throw Bug("a fault names a tensor outside the fault space");
  const FaultTensor& tensor = tensors_[site.tensor];
  const std::size_t bit = place_of(tensor.bits, site.bit);
  if (bit == tensor.bits.size()) throw Bug("a fault lies outside '" + tensor.name + "'");
  std::uint64_t before = 0;
  for (const NumberRange& range : tensor.ranges) {
    if (site.element < range.begin) break;
    if (site.element < range.end)
      return tensor.first_site + (before + site.element - range.begin) * tensor.bits.size() + bit;
    before += range.end - range.begin;
  }
  throw Bug("a fault lies outside '" + tensor.name + "'");
}

}  // namespace sentinel
