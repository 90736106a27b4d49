#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sentinel/transform/importance.hpp"

namespace sentinel {

std::unique_ptr<ImportanceMethod> make_l1_norm();
std::unique_ptr<ImportanceMethod> make_l2_norm();
std::unique_ptr<ImportanceMethod> make_vul_gain();
std::unique_ptr<ImportanceMethod> make_salience();
std::unique_ptr<ImportanceMethod> make_deepvigor();

/// Scores every convolution by a function of each of its filters: elements in storage order of the
/// logical shape, as [in/groups * kh * kw] values. Copies of duplicated channels have no score.
ChannelScores score_filters(const Graph& graph,
                            const std::function<double(const float*, std::int64_t)>& score);

/// Every Conv and DuplicatedConv, execution order.
std::vector<NodeId> convolutions(const Graph& graph);

/// What `compute` gives on rank 0, one list of scores for each of convolutions(graph), on every
/// rank. SharedError, which is a DataError's where a score is not finite. Collective.
ChannelScores scores_of_root(const Comm& comm, const Graph& graph, const std::string& method,
                             const std::function<std::vector<std::vector<double>>()>& compute);

}  // namespace sentinel
