#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/transform/bound_search.hpp"
#include "sentinel/transform/calibrate.hpp"
#include "sentinel/transform/importance.hpp"
#include "sentinel/transform/overhead.hpp"
#include "sentinel/transform/storing.hpp"

namespace sentinel {

/// Permutes the output channels of every permutable channel group to descending group score,
/// together with everything indexed by them (bias, BN, duplicated lists, per-channel bounds,
/// consumers' inputs). Logits stay the same up to rounding. `Graph::origin` remembers where
/// channels came from. Bug for scores of another graph.
Graph sort_channels(const Graph& graph, const ChannelScores& scores,
                    GroupScore group_score = GroupScore::kMean);

/// A group of channels that move together, in the order by which sort_channels sorts it.
struct GroupOrder {
  std::vector<std::string> layers;  // the convolutions whose scores make it, execution order
  std::int64_t channels = 0;
  bool permutable = true;           // false: holds the logits or the network's input, never sorted
  std::vector<std::int64_t> order;  // of the group's channels, the most important first
};
/// Every group with a convolution among its producers, execution order. Bug for scores of another
/// graph.
std::vector<GroupOrder> group_orders(const Graph& graph, const ChannelScores& scores,
                                     GroupScore group_score = GroupScore::kMean);

/// floor(channels * ratio), the product in double as Python's int(channels * ratio).
std::int64_t share_of(std::int64_t channels, double ratio);
/// How many of a convolution's channels are duplicated: share_of, at least 1.
std::int64_t duplicate_count(std::int64_t channels, double ratio);

/// d channels of each Conv2d are stored and computed twice: max(1, floor(Cout * ratio)), or those
/// of copies_within (docs/methods.md).
struct DuplicationPlan {
  double ratio = 0.1;                  // in [0, 1); 0: no duplication
  RowLayout layout = RowLayout::kOwn;  // kGroup: sort first, then each conv's first d
  Correction correction = Correction::kRange;
  GroupScore group_score = GroupScore::kMean;
  std::optional<Overhead> overhead = {};  // instead of the ratio, with kOwn
};
/// Whether the plan duplicates any channel.
bool duplicates(const DuplicationPlan& plan);
/// UserError for a ratio outside [0, 1), an overhead that no channel fits or that has kGroup, or a
/// graph that is hardened already.
/// With kGroup, a convolution without a permutable group of its own takes its own best. Intervals
/// of kRange stay infinite until calibrate() sets them.
Graph duplicate_channels(const Graph& graph, const ChannelScores& scores,
                         const DuplicationPlan& plan);

/// Replaces every activation's call site by a BoundedActivation without bounds yet (infinite):
/// above of a ReLU, on both sides of other functions. UserError where there is no activation, or a
/// BoundedActivation already, and for kSmooth where one is no ReLU.
Graph restrict_activations(const Graph& graph, Clipping clipping, BoundsPer per);

enum class WeightBoundsPer { kLayer, kChannel };
/// Gives every convolution and linear layer the [min, max] of its weights (copies too) as weight
/// bounds. Fault-free, nothing changes. UserError where there are weight bounds already
/// or a weight is not finite.
Graph bound_weights(const Graph& graph, WeightBoundsPer per);

/// Removes all weight bounds; fault-free, nothing changes.
void remove_weight_bounds(Graph& graph);

struct HardeningPlan {
  DuplicationPlan duplication;
  bool restricted = true;
  Clipping clipping = Clipping::kRanger;
  BoundsPer bounds = BoundsPer::kLayer;
  BoundSearch search;
  std::optional<WeightBoundsPer> weight_bounds;  // none: off
  std::vector<StoreRule> store;                  // none: plain fp32
  bool fold_batch_norm = false;                  // into the scales of integer weights
};
/// Finds the bounds of a calibrated graph anew by the calibration images. Collective; what is
/// trained is trained on rank 0, whose graph alone has it.
using FindBounds = std::function<void(Graph&, const Dataset& calibration)>;

/// duplicate + restrict + fold + store + bound the weights + calibrate on the calibration images,
/// each where the plan says so: bounds are those of the values as they are read, are found anew by
/// `find`, and are stored last.
/// Collective; the same graph on every rank, but for what `find` leaves on rank 0.
Graph harden(const Graph& graph, const ChannelScores& scores, const HardeningPlan& plan,
             const Dataset& calibration, const Comm& comm, at::Device device,
             const FindBounds& find = {});

/// Sets bounds and intervals anew from the graph's own activations without limits, as after
/// training; nothing to do for a graph that has none. Collective, errors as of activation_ranges.
void recalibrate(Graph& graph, const Dataset& images, const Comm& comm, at::Device device);

}  // namespace sentinel
