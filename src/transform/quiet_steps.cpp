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

bool is_monotone(const Op& op) {
  if (const auto* plain = std::get_if<Activation>(&op)) return is_monotone(plain->kind);
  if (const auto* bounded = std::get_if<BoundedActivation>(&op))
    return is_monotone(bounded->kind) && bounded->clipping == Clipping::kRangerClamp;
  return !std::holds_alternative<Multiply>(op);
}

}  // namespace

bool is_monotone_behind(const Graph& graph, NodeId layer) {
  const auto& nodes = graph.nodes();
  return std::all_of(nodes.begin() + layer, nodes.end(),
                     [](const Node& node) { return is_monotone(node.op); });
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
