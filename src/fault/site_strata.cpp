#include "fault/site_strata.hpp"

#include <algorithm>

namespace sentinel {

SiteStrata::SiteStrata(DrawBy by, const std::vector<std::string>& names) : by_(by) {
  for (const std::string& name : names) strata_.push_back({name});
}

void SiteStrata::add(const std::string& name, Part part, double cost) {
  if (part.sites() == 0) return;
  auto own = std::find_if(strata_.begin(), strata_.end(),
                          [&](const Stratum& stratum) { return stratum.name == name; });
  if (own == strata_.end()) own = strata_.insert(own, {name});
  own->sites += part.sites();
  own->cost += static_cast<double>(part.sites()) * cost;
  own->parts.push_back(std::move(part));
}

Strata SiteStrata::strata() const {
  std::uint64_t all = 0;
  for (const Stratum& own : strata_) all += own.sites;
  Strata strata;
  for (const Stratum& own : strata_) {
    const auto sites = static_cast<double>(own.sites);
    strata.names.push_back(own.name);
    strata.weights.push_back(sites / static_cast<double>(all));
    strata.costs.push_back(own.sites == 0 ? 1 : own.cost / sites);
  }
  return strata;
}

Faults SiteStrata::draw(const FaultSpace& space, std::size_t stratum, const RngKey& key) const {
  const std::vector<Part>& parts = strata_.at(stratum).parts;
  const std::uint64_t sites = strata_[stratum].sites;
  if (sites == 0) return {};
  Rng rng(key);
  const std::uint64_t together = by_ == DrawBy::kSite ? 1 : parts.front().bits.size();
  std::uint64_t number = rng.below(sites / together) * together;
  if (together > 1) number += rng.below(together);
  auto part = parts.begin();
  for (; number >= part->sites(); ++part) number -= part->sites();
  FaultSite site = space.at(part->first + number / part->bits.size() * part->step);
  site.bit = static_cast<std::uint8_t>(part->bits[number % part->bits.size()]);
  return {site};
}

}  // namespace sentinel
