#pragma once
#include <memory>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {

/// Scores of the output channels of one Conv2d; larger = more important.
struct LayerScores {
  NodeId node = 0;
  std::string layer;
  std::vector<double> scores;  // [Cout]
};
using ChannelScores = std::vector<LayerScores>;  // every Conv2d, execution order

/// One way to score channels. Implementations: one file each, one line in the table of
/// importance.cpp.
class ImportanceMethod {
 public:
  virtual ~ImportanceMethod() = default;
  virtual std::string name() const = 0;
  virtual ChannelScores score(const Graph& graph) const = 0;
};

/// "l1-norm": sum |w| of the filter; "l2-norm": sqrt(sum w^2) (Li et al., ICLR 2017; in double,
/// element order). UserError listing the names for others.
std::unique_ptr<ImportanceMethod> importance_method(const std::string& name);
std::vector<std::string> importance_names();

/// Channel numbers by descending score; ties by ascending number, NaN last.
std::vector<std::int64_t> descending(const std::vector<double>& scores);

/// How the members of a channel group agree on one order (design 02).
enum class GroupScore {
  kMean,   // mean over members of their scores normalised to sum 1
  kFirst,  // the first member in state_dict order (the seed tool's)
};

/// Scores -> file contents, and back onto a graph (DataError where layers or channel numbers do not
/// fit).
RankingFile to_ranking(const Graph& graph, const std::string& method, const ChannelScores& scores);
ChannelScores from_ranking(const Graph& graph, const RankingFile& ranking, const std::string& path);

}  // namespace sentinel
