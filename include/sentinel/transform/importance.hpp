#pragma once
#include <memory>
#include <string>
#include <vector>

#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/transform/factor_options.hpp"

namespace sentinel {

/// Scores of the output channels of one Conv2d; larger = more important.
struct LayerScores {
  NodeId node = 0;
  std::string layer;
  std::vector<double> scores;  // [Cout]
  ChannelSample sample = {};   // of channel-FI only
};
using ChannelScores = std::vector<LayerScores>;  // every Conv2d, execution order

/// Options of `deepvigor`.
struct DeepVigorOptions {
  bool all_positions = false;  // of the output maps; else max(1, floor(log2 #positions)) random
                               // ones, the same for a layer
  bool limited = true;         // deltas end at 2^10, NaN counts as 10^4; else the factors of
                               // `vulnerability`, deviations of all images together
  ToleranceOrder search = ToleranceOrder::kExhaustive;
  std::string cache;  // folder where each layer's factors are kept; empty: nowhere
};

/// "search exhaustive, limit 1024, positions log2": what a file says of the scores.
std::string definition_of(const DeepVigorOptions& options);

/// What a method may look at.
struct ImportanceInputs {
  const Graph& graph;               // contiguous, on the CPU
  const Dataset* images = nullptr;  // the first training images; null where default_images() is 0
  Comm comm = Comm::local();        // work is shared among its ranks
  at::Device device = at::kCPU;     // of this rank
  std::uint64_t seed = 1;           // of whatever is drawn
  std::string model_sha256 = {};    // names the network in caches
  DeepVigorOptions deepvigor = {};
};

/// One way to score channels. Implementations: one file each, one line in the table of
/// importance.cpp.
class ImportanceMethod {
 public:
  virtual ~ImportanceMethod() = default;
  virtual std::string name() const = 0;
  /// How many training images it looks at unless told otherwise; 0: none at all.
  virtual std::int64_t default_images() const { return 0; }
  /// Collective; the same scores on every rank, and for every number of ranks.
  virtual ChannelScores score(const ImportanceInputs& inputs) const = 0;
};

/// "l1-norm": sum |w| of the filter; "l2-norm": sqrt(sum w^2) (Li et al., ICLR 2017; in double,
/// element order); "vul-gain", "salience", "deepvigor": docs/methods.md. UserError
/// listing the names for others; Bug for kChannelFaults.
std::unique_ptr<ImportanceMethod> importance_method(const std::string& name);
/// The method that is a campaign of its own: campaign/ranking.hpp runs it, channel_faults.hpp
/// scores.
inline constexpr char kChannelFaults[] = "channel-FI";
/// Every name of a method.
std::vector<std::string> importance_names();

/// Which channels a method's scores compare.
enum class ScoreScale {
  kLayer,    // those of one layer: norms grow with the layer's weights
  kChannel,  // all: the score is of the filter as a whole
  kFlip,     // all: the score is the share of single flips in the filter that fail
};
/// kLayer for names that only a ranking file has.
ScoreScale score_scale(const std::string& method);

/// Channel numbers by descending score; ties by ascending number, NaN last.
std::vector<std::int64_t> descending(const std::vector<double>& scores);

/// How the members of a channel group agree on one order.
enum class GroupScore {
  kMean,   // mean over members of their scores normalised to sum 1
  kFirst,  // the first member in state_dict order (the seed tool's)
};

/// Scores -> file contents, and back onto a graph (DataError where layers or channel numbers do not
/// fit).
RankingFile to_ranking(const Graph& graph, const std::string& method, const ChannelScores& scores);
ChannelScores from_ranking(const Graph& graph, const RankingFile& ranking, const std::string& path);

}  // namespace sentinel
