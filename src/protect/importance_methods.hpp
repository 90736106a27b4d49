#pragma once
#include <functional>
#include <memory>

#include "sentinel/protect/importance.hpp"

namespace sentinel {

std::unique_ptr<ImportanceMethod> make_l1_norm();
std::unique_ptr<ImportanceMethod> make_l2_norm();

/// Scores every convolution by a function of each of its filters: elements in storage order of the
/// logical shape, as [in/groups * kh * kw] values. Copies of duplicated channels have no score.
ChannelScores score_filters(const Graph& graph,
                            const std::function<double(const float*, std::int64_t)>& score);

}  // namespace sentinel
