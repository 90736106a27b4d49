#include "app/result_words.hpp"

#include <fmt/format.h>

#include <utility>

#include "sentinel/words/effect.hpp"

namespace sentinel {

std::string point_name(const PointInfo& point) {
  std::string name =
      point.ber == 0 ? point.fault_model : fmt::format("{:g} {}", point.ber, point.fault_model);
  if (point.effect == kListed) return name;
  const std::pair<const std::string&, const char*> parts[] = {{point.effect, "flip"},
                                                              {point.shape, "bit"},
                                                              {point.target, "weight"},
                                                              {point.selection, ""}};
  for (const auto& [part, usual] : parts)
    if (!part.empty() && part != usual) name += ", " + part;
  if (point.lifetime == lifetime_name(Lifetime::kPermanent)) name += ", " + point.lifetime;
  return name;
}

std::string interval_text(const EstimateRow& e) {
  if (e.method == kListed) return fmt::format("{:.2f}", 100 * e.estimate);
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", 100 * e.estimate, 100 * e.lower, 100 * e.upper);
}

}  // namespace sentinel
