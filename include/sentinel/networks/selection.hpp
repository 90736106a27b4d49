#pragma once
#include <optional>
#include <string>

#include "sentinel/graph/ops.hpp"
#include "sentinel/io/normalisation.hpp"

namespace sentinel {

/// Which network and which images. Empty `model`/`dataset`: taken from a checkpoint written by
/// sentinelnn.
struct ModelSelection {
  std::string model;       // "resnet20"
  std::string dataset;     // "cifar10"
  std::string data;        // folder of the data set
  std::string checkpoint;  // .pth
  /// Which dictionary of tensors of the checkpoint, such as state_dict_ema; empty: the first that
  /// fits.
  std::string weights_key = {};
  // What the seed tool's own checkpoints do not say; others are checked against it.
  std::optional<double> pruning_ratio = {}, hardening_ratio = {};
  std::optional<Clipping> clipping = {};   // bounds from all training images; empty: as it is
  bool skip_broken = false;                // leave out images that cannot be decoded
  NormalisationChoice normalisation = {};  // empty: the checkpoint's, else the data set's
};

/// "ranger", "ranger-clamp". UserError.
Clipping parse_clipping(const std::string& word);

}  // namespace sentinel
