#include <algorithm>

#include "sentinel/store/schema.hpp"

namespace sentinel {

std::optional<double> bound_of(const ResultInfo& info, std::uint32_t point, std::size_t model) {
  const auto found =
      std::find_if(info.bounds.begin(), info.bounds.end(),
                   [&](const BoundInfo& row) { return row.point == point && row.model == model; });
  return found == info.bounds.end() ? std::nullopt : std::optional(found->bound);
}

bool is_bounded(const ResultInfo& info, std::uint32_t point) {
  for (std::size_t model = 0; model < info.models.size(); ++model)
    if (!bound_of(info, point, model)) return false;
  return !info.models.empty();
}

}  // namespace sentinel
