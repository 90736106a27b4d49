#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sentinel/graph/graph.hpp"

namespace sentinel {

// Does a network fail before any bit has flipped? Then outcomes of trials say nothing about faults.

/// Looks at fault-free logits, some images at a time.
class FaultFreeLogits {
 public:
  /// Those of the next images, [N, classes] f32 on the CPU.
  void add(const at::Tensor& logits);
  std::int64_t images() const { return images_; }
  /// Images with a NaN or Inf among their logits, and the number of the first (-1: none).
  std::int64_t not_finite() const { return not_finite_; }
  std::int64_t first_not_finite() const { return first_; }
  /// Several images, all with the same finite logits bit for bit.
  bool constant() const { return images_ > 1 && not_finite_ == 0 && alike_; }

 private:
  std::int64_t images_ = 0, not_finite_ = 0, first_ = -1;
  bool alike_ = true;
  at::Tensor row_;  // of the first image
};

/// Name of the first node whose output for the images [N, C, H, W] is NaN or Inf; empty: none.
std::string first_not_finite_node(const Graph& graph, const at::Tensor& images);

/// A tensor with values that no trained network has: NaN or Inf in weights, biases and means,
/// a variance that is NaN or negative. Bounds, ranges and variances may be +-Inf.
struct BrokenTensor {
  std::string name;  // "layer1.0.bn1.running_var"
  std::int64_t broken = 0, values = 0;
};
std::vector<BrokenTensor> broken_tensors(const Graph& graph);
/// "432 of 432 values of conv1.weight are NaN or Inf (and some of 2 more tensors)"; of at least
/// one.
std::string in_words(const std::vector<BrokenTensor>& tensors);

/// DataError naming `source` where the graph has broken tensors.
void require_sound_tensors(const std::string& source, const Graph& graph);
/// The image of a number, [1, C, H, W].
using ImageOf = std::function<at::Tensor(std::int64_t)>;
/// DataError naming `source`, the images and the first layer at fault where logits are not finite.
/// `what` says of which images they are: "test images".
void require_finite_logits(const std::string& source, const Graph& graph,
                           const FaultFreeLogits& logits, const ImageOf& image,
                           const std::string& what);
/// Both, the logits on `images` [N, C, H, W], or on two random ones where none are given
/// (undefined).
void require_fault_free(const std::string& source, const Graph& graph, const at::Tensor& images,
                        const std::string& what);
/// A warning where all images have the same logits.
void warn_of_constant_logits(const std::string& source, const FaultFreeLogits& logits);

}  // namespace sentinel
