#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sentinel {

/// How the bound of an activation is found: 2^-10 of it above an activation, or by a search.
enum class BoundMethod {
  kMax,         // the largest fault-free activation of the calibration images
  kPercentile,  // their quantile, see quantiles.hpp
  kFtclip,      // what IntervalSearch finds by trials; at most what kMax gives
  kFitact,      // trained, see train_bounds.hpp
  kProact,      // trained site by site; one bound each, of the last site one per neuron
};
struct BoundSearch {
  BoundMethod method = BoundMethod::kMax;
  double percentile = 100;                                     // of kPercentile, in (0, 100]
  std::vector<double> rates = {1e-7, 1e-6, 3e-6, 1e-5, 3e-5};  // of kFtclip [flips/bit/trial]
  std::uint64_t seed = 1;                   // of kFtclip's faults, or the order of training
  std::optional<std::int64_t> epochs = {};  // of training, see bound_epochs
};

/// "max", "percentile:99.9", "ftclip" ... UserError.
BoundSearch parse_bound_search(const std::string& word);
std::string bound_search_name(const BoundSearch& search);
bool trains_bounds(const BoundSearch& search);
/// Epochs of training, of kProact for each site: as the search says, or 10 of kFitact, 3 of
/// kProact.
std::int64_t bound_epochs(const BoundSearch& search);
/// Its name and all else that decides the bounds.
std::string bound_search_text(const BoundSearch& search);

}  // namespace sentinel
