#pragma once
#include <array>
#include <string>
#include <vector>

namespace sentinel {

/// How images are made of bytes: (pixel / 255 - mean) / std, by channel.
struct Normalisation {
  std::array<double, 3> mean{}, std{1, 1, 1};
};
bool operator==(const Normalisation& a, const Normalisation& b);
bool operator!=(const Normalisation& a, const Normalisation& b);

/// "mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225", the shortest digits that give the numbers.
std::string numbers_of(const Normalisation& normalisation);
/// The same and, where the constants have a name, " (imagenet)".
std::string in_words(const Normalisation& normalisation);
/// Says why the constants cannot be; empty where every mean is from 0 to 1 and every std finite and
/// above 0.
std::string fault_of(const Normalisation& normalisation);

/// The words of --mean and --std, as typed: one number a channel, or one name. Empty: nothing.
struct NormalisationChoice {
  std::vector<std::string> mean, std;
  bool empty() const { return mean.empty() && std.empty(); }
};
/// The constants chosen. Names: those of the data sets; "cifar10-2023": cifar10's mean with the std
/// 0.2023, 0.1994, 0.2010; "none": images stay in [0, 1]. A name given as mean alone gives the std
/// too; what is still open is that of `otherwise`. UserError naming the option.
Normalisation chosen(const NormalisationChoice& choice, const Normalisation& otherwise);

}  // namespace sentinel
