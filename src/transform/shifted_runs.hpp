#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/graph/fused.hpp"

namespace sentinel {

/// Something added to the output of a layer.
struct Shift {
  std::int64_t image = 0, channel = 0;
  std::int64_t position = -1;  // y * width + x of one value; negative: the channel's whole map
  float value = 0;
};

/// Row k of the layer's output [N, ...] gets the shift, whatever its image.
void add_shift(at::Tensor& output, std::int64_t k, const Shift& shift);

/// The effect of a shift on the logits of an image.
struct Response {
  // Rounding could decide the prediction, or a logit is not finite: `changed` says nothing.
  bool open = true;
  bool changed = false;  // the prediction
  // [classes], by which share of its distance each class came closer to the predicted one; empty
  // where open or such a distance is a matter of rounding.
  std::vector<float> closer;
};

/// Runs the network behind a layer for any shifts of any images together, by the fast path. An
/// image's logits do not depend on what else is in the batch (on the CPU; see FusedNet).
///
/// As long as a shifted channel changes itself alone, it alone is computed; the next convolutions
/// get what it adds to their fault-free outputs.
class ShiftedRuns {
 public:
  /// `trace`: the outputs of values_around `layer`, for N images. `predictions` [N] i64: without
  /// faults. `net` must outlive this.
  ShiftedRuns(const FusedNet& net, NodeId layer, const Trace& trace, const at::Tensor& predictions);

  /// Each shift on its own.
  std::vector<Response> responses(const std::vector<Shift>& shifts) const;

 private:
  void sort_values();
  void compute_clean(const Trace& trace);
  std::vector<bool> read_below() const;
  at::Tensor logits(const std::vector<Shift>& shifts) const;
  bool shift_channels(const std::vector<Shift>& shifts, Trace& trace) const;
  Response response(const float* logits, std::int64_t image) const;

  const FusedNet& net_;
  NodeId layer_;
  std::vector<NodeId> behind_;  // values that depend on the layer; of these
  std::vector<NodeId> path_;    //   where a shifted channel changes itself alone,
  std::vector<NodeId> mixing_;  //   convolutions of the layer's output and the path,
  std::vector<NodeId> rest_;    //   the others
  Trace given_;                 // [N, ...], without faults: what they read, what mixing_ gives
  std::int64_t classes_ = 0;
  std::vector<std::int64_t> predictions_;  // [N]
  std::vector<float> logits_;              // [N, classes], without faults
  std::vector<bool> clear_;                // [N], no near tie
};

/// Nodes before `layer`, and itself, whose outputs ShiftedRuns reads.
std::vector<NodeId> values_around(const FusedNet& net, NodeId layer);

}  // namespace sentinel
