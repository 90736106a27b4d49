#pragma once
#include "sentinel/fault/sampler.hpp"
#include "sentinel/graph/profile.hpp"

namespace sentinel {

/// Share of the MACs that a trial of the fast engine runs, on the average: of the layers from the
/// first faulty one on. A reference trial runs all of them.
double relative_cost(const Sampler& sampler, const FaultSpace& space, const ModelCost& cost);

/// Share of the trials that can be run again by the reference path at a cost of at most 2 % of the
/// trials' own, by their relative cost.
double default_audit_rate(const Sampler& sampler, double relative_cost);

}  // namespace sentinel
