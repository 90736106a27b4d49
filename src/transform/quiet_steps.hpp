#pragma once
#include "sentinel/graph/graph.hpp"
#include "transform/shifted_runs.hpp"

namespace sentinel {

/// The rule of kProportional (docs/methods.md). A quiet step brings no class closer than by a half
/// of its distance, nor does the smallest step in proportion, and the two differ by at most a
/// third. That smaller steps then change nothing is no proof.

/// More of a layer's output never turns the way of an operation behind it: no product, no
/// activation that falls and rises.
bool is_monotone_behind(const Graph& graph, NodeId layer);

/// At most 1: a step is quiet. `smallest`: the response to the smallest step of side +; `times`: by
/// how much the step is larger, negative on side -.
double disturbance(const Response& response, const Response& smallest, double times);

/// The largest of `steps` steps on a side that may be quiet. `times`: of its smallest, 1 or -1.
int expected_quiet(const Response& smallest, double times, int steps);

}  // namespace sentinel
