#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"
#include "store/checks.hpp"

namespace sentinel::store {

void check_importance(const std::string& path, const ImportanceInfo& layer) {
  const std::string where = "layer " + layer.layer + ": ";
  std::vector<bool> seen(layer.scores.size());
  bool good = layer.order.size() == layer.scores.size();
  for (std::size_t i = 0; good && i < layer.order.size(); ++i) {
    const auto channel = static_cast<std::size_t>(layer.order[i]);
    good = channel < seen.size() && !seen[channel];
    if (good) seen[channel] = true;
  }
  if (!good) throw DataError(path, where + "order is no order of its channels");
  if (std::any_of(layer.scores.begin(), layer.scores.end(), [](double s) { return std::isnan(s); }))
    throw DataError(path, where + "a score is no number (NaN)");
  const ChannelSample& s = layer.sample;
  if (s.trials.empty()) return;
  for (const std::size_t size :
       {s.lower.size(), s.upper.size(), s.accuracy.size(), s.trials.size()})
    if (size != layer.scores.size())
      throw DataError(path, where + "not every channel has its trials");
}

}  // namespace sentinel::store
