#include "transform/quiet_steps.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr double kClose = 0.5, kBent = 1.0 / 3;

bool is_monotone(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kRelu:
    case ActivationKind::kRelu6:
    case ActivationKind::kSigmoid:
    case ActivationKind::kHardsigmoid:
      return true;
    case ActivationKind::kSilu:
    case ActivationKind::kHardswish:
      return false;
  }
  throw Bug("unknown activation");
}

/// Of an operator that is not named, the compiler asks.
struct IsMonotone {
  bool operator()(const Activation& op) const { return is_monotone(op.kind); }
  bool operator()(const BoundedActivation& op) const {
    return is_monotone(op.kind) && op.clipping == Clipping::kRangerClamp;
  }
  bool operator()(const Multiply&) const { return false; }
  // Sums with fixed weights, largest values, and what moves values about.
  bool operator()(const Input&) const { return true; }
  bool operator()(const Conv&) const { return true; }
  bool operator()(const DuplicatedConv&) const { return true; }
  bool operator()(const BatchNorm&) const { return true; }
  bool operator()(const MaxPool&) const { return true; }
  bool operator()(const AvgPool&) const { return true; }
  bool operator()(const AdaptiveAvgPool&) const { return true; }
  bool operator()(const Add&) const { return true; }
  bool operator()(const ChannelAffine&) const { return true; }
  bool operator()(const Concat&) const { return true; }
  bool operator()(const Slice&) const { return true; }
  bool operator()(const ChannelShuffle&) const { return true; }
  bool operator()(const Flatten&) const { return true; }
  bool operator()(const Linear&) const { return true; }
  bool operator()(const Dropout&) const { return true; }
};

}  // namespace

bool is_monotone_behind(const Graph& graph, NodeId layer) {
  const auto& nodes = graph.nodes();
  return std::all_of(nodes.begin() + layer, nodes.end(),
                     [](const Node& node) { return std::visit(IsMonotone{}, node.op); });
}

double disturbance(const Response& response, const Response& smallest, double times) {
  if (response.open || response.closer.empty() || smallest.closer.empty())
    return std::numeric_limits<double>::infinity();
  double most = 0;
  for (std::size_t j = 0; j < smallest.closer.size(); ++j) {
    const double expected = smallest.closer[j] * times, met = response.closer[j];
    most = std::max({most, std::max(expected, met) / kClose, std::abs(met - expected) / kBent});
  }
  return most;
}

int expected_quiet(const Response& smallest, double times, int steps) {
  double most = 0;
  for (const float closer : smallest.closer) most = std::max(most, closer * times);
  return static_cast<int>(std::clamp<double>(std::floor(std::log2(kClose / most)), 0, steps - 1));
}

}  // namespace sentinel
