#include "app/stratum_tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "app/output.hpp"
#include "app/print.hpp"
#include "app/result_words.hpp"
#include "sentinel/core/sampling_words.hpp"

namespace sentinel {
namespace {

/// Estimates of one point, network and stratum, by quantity.
using Quantities = std::map<std::string, const EstimateRow*>;
/// By point, network and stratum.
using Strata = std::map<std::pair<std::uint32_t, std::int32_t>, std::map<std::int32_t, Quantities>>;

Strata strata_of(const ResultFile& result) {
  Strata strata;
  for (const EstimateRow& e : result.estimates)
    if (e.stratum >= 0) strata[{e.point, e.model}][e.stratum][e.quantity] = &e;
  return strata;
}

std::vector<std::string> names_of(const ResultInfo& info, std::uint32_t point) {
  std::vector<std::string> names;
  for (const StratumInfo& stratum : info.strata)
    if (stratum.point == point) names.push_back(stratum.name);
  return names;
}

std::string cell(const Quantities& quantities, const std::string& name) {
  const auto found = quantities.find(name);
  return found == quantities.end() ? "" : interval_text(*found->second);
}

/// "stored tensor", "class", "bit"
std::string head_of(const std::string& sampling) {
  const std::optional<DivideBy> by = sampling_of(sampling).division;
  if (by == DivideBy::kLayer) return "stored tensor";
  return by == DivideBy::kClass ? "class" : "bit";
}

void print_table_of(const ResultFile& result, std::uint32_t point, std::int32_t model,
                    const std::map<std::int32_t, Quantities>& strata) {
  const ResultInfo& info = result.info;
  const auto network = static_cast<std::size_t>(model);
  const std::vector<std::string> names = names_of(info, point);
  const std::vector<double> weights = stratum_weights(info, point, network);
  const std::string& sampling = info.plans.at(point).sampling;
  std::vector<std::vector<std::string>> rows = {
      {head_of(sampling), "share %", "trials", "failing % [interval]", "SDC-critical % [interval]",
       "DUE % [interval]", "masked % [interval]", "accuracy % [interval]"}};
  if (model > 0) rows[0].push_back("difference [interval]");
  for (const auto& [number, quantities] : strata) {
    const auto h = static_cast<std::size_t>(number);
    rows.push_back({printable(names.at(h)), fmt::format("{:.3g}", 100 * weights.at(h)),
                    std::to_string(quantities.begin()->second->trials)});
    for (const char* name : {"failing", "sdc_critical", "due", "masked", "accuracy"})
      rows.back().push_back(cell(quantities, name));
    if (model > 0) rows.back().push_back(cell(quantities, "accuracy_difference"));
  }
  say("\n{}, {}, {}: faults in each part alone.\n", point_name(info.points.at(point)),
      info.models.at(network).name, sampling);
  print_table(rows);
}

}  // namespace

void print_strata(const ResultFile& result) {
  const Strata all = strata_of(result);
  for (const auto& [key, strata] : all) print_table_of(result, key.first, key.second, strata);
  if (all.empty()) return;
  say("Share: of what may fail in the network. Each interval holds for itself, with {:g} % "
      "confidence; among many some miss their value.\n\n",
      100 * result.info.confidence);
}

nlohmann::json strata_json(const ResultFile& result) {
  nlohmann::json all = nlohmann::json::array();
  for (const auto& [key, strata] : strata_of(result)) {
    const auto network = static_cast<std::size_t>(key.second);
    const std::vector<std::string> names = names_of(result.info, key.first);
    const std::vector<double> weights = stratum_weights(result.info, key.first, network);
    for (const auto& [number, quantities] : strata) {
      nlohmann::json row = {{"point", key.first},
                            {"model", result.info.models.at(network).name},
                            {"stratum", number},
                            {"name", names.at(static_cast<std::size_t>(number))},
                            {"share", weights.at(static_cast<std::size_t>(number))}};
      for (const auto& [quantity, e] : quantities)
        row["estimates"][quantity] = {{"estimate", e->estimate}, {"lower", e->lower},
                                      {"upper", e->upper},       {"confidence", e->confidence},
                                      {"method", e->method},     {"trials", e->trials}};
      all.push_back(std::move(row));
    }
  }
  return all;
}

}  // namespace sentinel
