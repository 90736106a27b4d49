#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/engine_path.hpp"
#include "sentinel/transform/factor_options.hpp"
#include "transform/reach.hpp"
#include "transform/shifted_runs.hpp"
#include "transform/step_search.hpp"
#include "transform/vulnerability_grid.hpp"
#include "transform/vulnerability_units.hpp"

namespace sentinel {

/// The output of a layer before its copies are merged, [N, rows, H, W] or [N, rows].
at::Tensor raw_output(const Graph& graph, NodeId layer, const Trace& trace);

/// The outputs that are shifted, and when a shift matters.
enum class ToleranceRule {
  kFactor,   // before copies are merged; another prediction, or a logit that is infinite or NaN
  kRanking,  // after they are merged; PyTorch's arg max alone
};

/// The input of a search.
struct ToleranceQuery {
  NodeId layer = 0;
  std::vector<FactorUnit> units;  // all channels, or all neurons
  int steps = 0;                  // of the grid
  ToleranceRule rule = ToleranceRule::kFactor;
};

/// Whether a search is drawn to be compared with the exhaustive one: of kBisect one in 8, of
/// kProportional one in 128. A pure function; `image`: of its block.
bool is_compared(ToleranceOrder order, NodeId layer, const FactorUnit& unit, std::int64_t image,
                 int side);

/// [unit][image][side: +, -] the number of the first grid value found, the number of steps where
/// none was; and how often an inexact search was compared with the exhaustive one.
struct Tolerances {
  std::vector<std::uint8_t> found;
  ToleranceComparison comparison;
};

/// Searches the smallest shifts of units of a layer that matter to the prediction of an image
/// (docs/methods.md). A shift behind which the network sees the same bits as behind the one before
/// is not run.
///
/// kFast: shifts of all units, images, sides and sizes share batches of the fast path. Where
/// rounding could decide, and for layers with copies before they are merged, the reference path is
/// asked (and before activations that jump): the network operator by operator, each image at its
/// place in the batch. What is found does not depend on which shifts meet (on the CPU), nor on the
/// path.
class ToleranceSearch {
 public:
  /// `trace`: trace_around the layer, also values_around it, on the graph's device. DataError
  /// naming `images` and the image's number (from `first` on) where a fault-free logit is NaN, or
  /// kFactor: not finite. `net` must outlive this.
  ToleranceSearch(const FusedNet& net, ToleranceQuery query, Trace trace, const std::string& images,
                  std::int64_t first, EnginePath path = EnginePath::kFast);

  /// Searches units begin … end-1. kProportional is kExhaustive where an operation behind the layer
  /// is not monotone, or the fast path cannot be taken. Some searches in another order are
  /// compared; where kProportional found something else there, all are searched exhaustively.
  Tolerances find(std::size_t begin, std::size_t end, ToleranceOrder order) const;

 private:
  struct Question {  // whether this shift matters to this image
    std::size_t unit = 0;
    std::int64_t image = 0;
    int side = 0, step = 0;
  };
  void note_channels();
  void note_values(const std::vector<NodeId>& untouched);
  void predict(const std::string& images, std::int64_t first);
  void find_repeats(const Reach& reach);
  void compare_steps(const Reach& reach, std::int64_t first_row, std::int64_t rows);
  void note_repeats(const at::Tensor& same, int side, int step, std::int64_t first_row,
                    std::int64_t rows);
  bool of_neurons() const { return !query_.units.empty() && query_.units[0].position >= 0; }
  bool keeps_copies() const;
  at::Tensor merged(const at::Tensor& raw) const;
  std::vector<at::Tensor> seen_with(const Reach& reach, const at::Tensor& raw) const;
  at::Tensor logits_with(const at::Tensor& raw) const;
  std::vector<bool> matters(const std::vector<Shift>& shifts) const;
  std::vector<Response> responses(const std::vector<Question>& questions) const;
  std::size_t place(const Question& q) const;
  StepSearch steps_of(Question q, ToleranceOrder order, const Response& smallest) const;
  std::vector<std::uint8_t> walk(const std::vector<Question>& searches, ToleranceOrder order) const;

  const Graph& graph_;
  ToleranceQuery query_;
  Trace trace_;  // and what does not depend on the layer
  std::int64_t images_ = 0;
  at::Tensor raw_, predictions_;       // fault-free; predictions [images] i64
  std::vector<NodeId> behind_;         // depend on the layer
  std::vector<std::int64_t> channel_;  // [row] of the merged output
  bool monotone_ = false;
  std::optional<ShiftedRuns> runs_;
  // [unit][image][side][step]: the network sees the same bits as one step before
  std::vector<bool> repeats_;
};

}  // namespace sentinel
