#pragma once
#include <string>
#include <vector>

#include "sentinel/core/normalisation.hpp"

namespace sentinel {

/// numbers_of and, where the constants have a name, " (imagenet)".
std::string in_words(const Normalisation& normalisation);

/// The words of mean and std, as typed: one number a channel, or one name. Empty: nothing.
struct NormalisationChoice {
  std::vector<std::string> mean, std;
  bool empty() const { return mean.empty() && std.empty(); }
};
/// The constants chosen. Names: those of the data sets; "cifar10-2023": cifar10's mean with the std
/// 0.2023, 0.1994, 0.2010; "none": images stay in [0, 1]. A name given as mean alone gives the std
/// too; what is still open is that of `otherwise`. UserError naming the option.
Normalisation chosen(const NormalisationChoice& choice, const Normalisation& otherwise);

}  // namespace sentinel
