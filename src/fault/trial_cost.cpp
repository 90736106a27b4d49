#include "sentinel/fault/trial_cost.hpp"

#include <cmath>
#include <limits>

#include "fault/channel_route.hpp"
#include "sentinel/fault/memory.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {
namespace {

constexpr double kAuditShare = 0.02;  // of the time of the trials themselves
/// Time of a MAC in the reference path (NCHW, operator by operator) over one in the fast path, on
/// the safe side: what a machine makes of MACs is not known before the run.
constexpr double kReferenceMac = 2;

/// Channels of a layer's output and input that its MACs are shared by.
double outputs_of(const Conv& conv) {
  return static_cast<double>(conv.weight.size(0));
}
double inputs_of(const Conv& conv) {
  return static_cast<double>(conv.weight.size(1) * conv.groups);
}

}  // namespace

TrialCost::TrialCost(const Graph& network, const FaultSpace& space) : space_(space) {
  Graph graph = network.clone();
  graph.to(at::kCPU);
  take_weight_bounds(graph);  // as the fast engine does
  const ModelCost cost = model_cost(graph);
  const FusedNet net(graph);
  const auto macs = [&](NodeId node) {
    return static_cast<double>(cost.layers[static_cast<std::size_t>(node)].macs) /
           static_cast<double>(cost.macs);
  };
  const auto from = [&](NodeId node) {
    double sum = 0;
    for (; node < graph.size(); ++node) sum += macs(node);
    return sum;
  };
  for (NodeId node = 0; node < graph.size(); ++node)
    if (macs(node) > 0) macs_.emplace_back(node, macs(node));
  for (const FaultTensor& tensor : space.tensors()) {
    dense_.push_back(from(space.of_outputs() ? tensor.node + 1 : tensor.node));
    one_channel_.push_back(dense_.back());
    if (tensor.kind != TensorClass::kWeight) continue;
    const std::optional<ChannelRoute> route = channel_route(net, tensor.node);
    if (!route) continue;
    double one = macs(tensor.node) / outputs_of(*as_conv(graph[tensor.node].op));
    one += from(route->resume);
    for (const MixingConv& conv : route->mixing)
      one -= macs(conv.node) * (1 - 1 / inputs_of(conv.conv));
    one_channel_.back() = one;
  }
}

/// Mean of trials with one fault.
double TrialCost::single(const Sampler& sampler) const {
  double sum = 0, faults = 0;
  const std::vector<double> expected = expected_faults(sampler, space_);
  for (std::size_t t = 0; t < expected.size(); ++t) {
    sum += expected[t] * one_channel_[t];
    faults += expected[t];
  }
  return faults > 0 ? sum / faults : 0;
}

double TrialCost::expected(const Sampler& sampler) const {
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  if ((exact && exact->count == 1) || std::holds_alternative<ChannelFaults>(sampler))
    return single(sampler);
  const auto* binomial = std::get_if<BinomialFaults>(&sampler);
  const std::vector<double> expected = expected_faults(sampler, space_);
  // A layer is run where a fault lies in it or before.
  double all = 0, faults = 0, dense_of_one = 0, share = 0;
  std::size_t t = 0;
  const NodeId reach = space_.of_outputs() ? 1 : 0;  // an output is hit behind its layer
  const auto add_tensors_to = [&](NodeId node) {
    for (; t < expected.size() && space_.tensors()[t].node + reach <= node; ++t) {
      const FaultTensor& tensor = space_.tensors()[t];
      faults += expected[t];
      dense_of_one += expected[t] * dense_[t];
      share = static_cast<double>(tensor.first_site + tensor.sites()) /
              static_cast<double>(space_.sites());
    }
  };
  for (const auto& [node, macs] : macs_) {
    add_tensors_to(node);
    double hit = faults > 0 ? 1 : 0;
    if (exact) hit = 1 - std::pow(1 - share, static_cast<double>(exact->count));
    if (binomial) hit = -std::expm1(-faults);
    all += macs * hit;
  }
  add_tensors_to(std::numeric_limits<NodeId>::max());
  if (!binomial || faults == 0) return all;
  const double one = faults * std::exp(-faults);  // probability of a single fault
  return all - one * (dense_of_one / faults - single(sampler));
}

double default_audit_rate(double expected_cost, std::int64_t at_once) {
  // An audit runs the trial once more by either path, alone.
  return kAuditShare * expected_cost /
         (kReferenceMac + static_cast<double>(at_once) * expected_cost);
}

}  // namespace sentinel
