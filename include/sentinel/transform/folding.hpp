#pragma once
#include <map>
#include <string>
#include <vector>

#include "sentinel/transform/storing.hpp"

namespace sentinel {

/// The batch normalisations of a network, by name.
struct Folding {
  std::vector<std::string> folded;
  std::map<std::string, std::vector<std::string>> kept;  // by the reason
};
/// "20 batch norms folded; 1 stays, with no convolution before it (norm5)".
std::string in_words(const Folding& folding);

/// UserError where no rule stores weights so that batch norm can be folded into their scales.
void require_foldable(const std::vector<StoreRule>& rules);

/// Folds each BatchNorm into the convolution before it, where nothing else reads that one and the
/// rules store its weights as integers with a scale per channel. With g = gamma / sqrt(var + eps),
/// in fp32:
///
///   scale := scale * g, stored as the rules say; bias := beta - mean * g (+ bias * g), in fp32
///
/// The weights are then stored: their words are those of the network that is not folded, and their
/// values what is read with the new scales. These may be negative; where g or the stored scale is
/// 0, so are the words. Ranges of corrections follow. Nothing changes but the rounding of scales.
///
/// UserError where nothing can be folded, weights are bounded already, or a weight, scale or
/// bias is not finite.
Folding fold_batch_norm(Graph& graph, const std::vector<StoreRule>& rules);

}  // namespace sentinel
