#pragma once
#include <string>
#include <vector>

#include "sentinel/graph/profile.hpp"
#include "sentinel/stats/interval.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {

/// Rows of text in aligned columns on stdout: the first row is the heading, the first column is
/// left-aligned.
void print_table(std::vector<std::vector<std::string>> rows);

/// "12 345 678"
std::string with_spaces(std::int64_t n);
/// "87.50"
std::string percent(double share);

/// A network under the name of its column.
struct NamedCost {
  std::string name;
  ModelCost cost;
};
/// Parameters, MACs and memory before and after, with ratios.
void print_overhead(const NamedCost& before, const NamedCost& after);

/// What an epoch of `epochs` gave; `best_on` names the images that judge.
void print_epoch(const EpochReport& report, std::int64_t epochs, BestOn best_on);
/// "916 of 1017 test images right (90.07 %)"
std::string in_words(const Accuracy& accuracy);
/// Warns where a network fails without faults: broken tensors, NaN or Inf logits of some images,
/// the same logits for all.
void warn_of_fault_free(const std::string& source, const Graph& graph, const Accuracy& accuracy,
                        const Dataset& images);

}  // namespace sentinel
