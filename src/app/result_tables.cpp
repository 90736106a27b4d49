#include "app/result_tables.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "app/audit_table.hpp"
#include "app/channel_tables.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "app/result_words.hpp"
#include "app/stratum_tables.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/stats/betting.hpp"
#include "sentinel/stats/interval.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/words/effect.hpp"

namespace sentinel {
namespace {

/// Sums over the trials of a (point, model).
struct Totals {
  std::uint64_t trials = 0, faults = 0, images = 0, masked = 0, noncritical = 0, critical = 0,
                due = 0;
};
using TotalsTable = std::map<std::pair<std::uint32_t, std::uint32_t>, Totals>;

/// Whether a row counts in estimates: those beyond the planned ones (a shortened campaign) do not.
bool counts(const ResultFile& result, const TrialRow& row) {
  const std::vector<PlanInfo>& plans = result.info.plans;
  return row.id < result.info.points.at(row.point).trials && row.stage == 0 &&
         (row.point >= plans.size() || row.id >= plans[row.point].first);
}

bool is_bound(const EstimateRow& estimate) {
  return estimate.method.rfind("bound", 0) == 0;
}

/// Networks that are bounded without trials have entries too.
TotalsTable totals_of(const ResultFile& result) {
  TotalsTable table;
  for (const EstimateRow& e : result.estimates)
    if (is_bound(e)) table[{e.point, static_cast<std::uint32_t>(e.model)}];
  for (const TrialRow& row : result.trials) {
    if (!counts(result, row)) continue;
    Totals& t = table[{row.point, row.model}];
    ++t.trials;
    t.faults += row.n_faults;
    t.images += row.images;
    t.masked += row.masked;
    t.noncritical += row.sdc_noncritical;
    t.critical += row.sdc_critical;
    t.due += row.due;
  }
  return table;
}

/// Single flips of bits, as in all results of schema 1.
bool has_single_flips(const PointInfo& point) {
  return point.effect == "flip" && point.shape == "bit";
}

/// Events, words and bits that are stuck are no flips.
const char* count_head(const ResultFile& result) {
  const std::vector<PointInfo>& points = result.info.points;
  return std::all_of(points.begin(), points.end(), has_single_flips) ? "flips/trial"
                                                                     : "faults/trial";
}

/// The last look's, of the whole.
const EstimateRow* find(const ResultFile& result, std::uint32_t point, std::size_t model,
                        const std::string& quantity) {
  const auto last =
      std::find_if(result.estimates.rbegin(), result.estimates.rend(), [&](const EstimateRow& e) {
        return e.point == point && e.model == static_cast<std::int32_t>(model) &&
               e.quantity == quantity && e.stratum < 0;
      });
  return last == result.estimates.rend() ? nullptr : &*last;
}

std::string cell(const ResultFile& result, std::uint32_t point, std::size_t model,
                 const std::string& quantity) {
  const EstimateRow* estimate = find(result, point, model, quantity);
  return estimate ? interval_text(*estimate) : "";
}

void print_models(const ResultFile& result) {
  std::vector<std::vector<std::string>> rows = {{"model", "fault-free accuracy", "parameters",
                                                 "ratio", "MACs", "ratio", "memory [bytes]",
                                                 "ratio", "bits/weight"}};
  for (const ModelInfo& m : result.info.models) {
    const ModelInfo& first = result.info.models.front();
    const auto ratio = [](std::int64_t a, std::int64_t b) {
      return fmt::format("{:.4f}", static_cast<double>(a) / static_cast<double>(b));
    };
    rows.push_back(
        {m.name,
         fmt::format("{} of {} ({} %)", m.correct, m.images,
                     percent(static_cast<double>(m.correct) / static_cast<double>(m.images))),
         with_spaces(m.parameters), ratio(m.parameters, first.parameters), with_spaces(m.macs),
         ratio(m.macs, first.macs), with_spaces(m.memory_bytes),
         ratio(m.memory_bytes, first.memory_bytes),
         m.stored_bits > 0 ? fmt::format("{:.2f}", m.bits_per_weight) : "-"});
  }
  print_table(rows);
}

/// The model's own constants, or the usual ones of a data set that is known here.
std::optional<Normalisation> normalisation_of(const ResultFile& result, const ModelInfo& model) {
  Normalisation own;
  if (model.mean.size() == own.mean.size() && model.std.size() == own.std.size()) {
    std::copy(model.mean.begin(), model.mean.end(), own.mean.begin());
    std::copy(model.std.begin(), model.std.end(), own.std.begin());
    return own;
  }
  const auto dataset = result.info.provenance.find("dataset");
  const std::vector<std::string> known = dataset_names();
  if (!model.mean.empty() || dataset == result.info.provenance.end() ||
      std::find(known.begin(), known.end(), dataset->second) == known.end())
    return std::nullopt;
  return dataset_info(dataset->second).normalisation();
}

/// Files of earlier versions, and of trials of a ranking, do not say it.
void print_images(const ResultFile& result) {
  const auto found = result.info.provenance.find("images_of");
  if (found != result.info.provenance.end() && !result.info.models.empty())
    say("images: {} (--images-of {})\n", result.info.models.front().images, found->second);
}

/// One line, or one for each model where they differ.
void print_normalisation(const ResultFile& result) {
  std::vector<std::pair<std::string, std::string>> lines;  // model, constants
  for (const ModelInfo& model : result.info.models)
    if (const auto constants = normalisation_of(result, model))
      lines.emplace_back(model.name, in_words(*constants));
  const bool alike = std::all_of(lines.begin(), lines.end(), [&](const auto& line) {
    return line.second == lines.front().second;
  });
  if (alike) lines.resize(std::min<std::size_t>(lines.size(), 1));
  for (const auto& [model, constants] : lines)
    say("images{} normalised by {}\n", alike ? "" : " of " + model, constants);
}

std::string share_cell(const ResultFile& result, std::uint32_t point, std::size_t model,
                       const std::string& quantity) {
  const EstimateRow* estimate = find(result, point, model, quantity);
  return estimate ? percent(estimate->estimate) : "";
}

/// Whether sums over rows are estimates: stratified and sequential plans prefer some trials.
bool is_simple(const ResultFile& result, std::uint32_t point) {
  return result.info.plans.empty() || result.info.plans[point].sampling == PlanInfo().sampling;
}

/// Trials in the estimate, and those that were run beside them.
std::string trials_cell(const ResultFile& result, std::uint32_t point, std::size_t model,
                        std::uint64_t run) {
  const EstimateRow* estimate = find(result, point, model, "accuracy");
  const std::uint64_t used = estimate ? estimate->trials : 0;
  return used == run ? std::to_string(run) : fmt::format("{} of {}", used, run);
}

/// Whether its faults come from a list, which makes one point.
bool is_listed(const ResultFile& result) {
  return result.info.points.front().estimand == kListed;
}

/// The unit of intervals, and why.
std::string unit_of(const ResultFile& result) {
  const bool own = result.info.points.front().lifetime == lifetime_name(Lifetime::kImage);
  if (!own) return "trials (all images of a trial share its faults)";
  const bool counted =
      std::any_of(result.estimates.begin(), result.estimates.end(),
                  [](const EstimateRow& row) { return row.method == kOverImages; });
  return counted ? std::string(
                       "trials x images where the method says so, else over trials (each "
                       "image of a trial has faults of its own)")
                 : "trials (each image of a trial has faults of its own)";
}

/// Behind the heads of columns of estimates.
std::string interval_head(const ResultFile& result) {
  return is_listed(result) ? "" : " [interval]";
}

/// What was estimated, and how, of each point that has a plan of its own.
void print_plans(const ResultFile& result) {
  for (const PlanInfo& plan : result.info.plans) {
    if (is_simple(result, plan.point)) continue;
    const PointInfo& point = result.info.points.at(plan.point);
    const auto pilot =
        std::count_if(result.trials.begin(), result.trials.end(), [&](const TrialRow& row) {
          return row.point == plan.point && row.model == 0 && row.stage == 1;
        });
    const auto strata =
        std::count_if(result.info.strata.begin(), result.info.strata.end(),
                      [&](const StratumInfo& stratum) { return stratum.point == plan.point; });
    say("{}: {}, {} sampling of {} strata, {} trials in the estimate{}; {}{}\n", point_name(point),
        point.estimand == "T1" ? fmt::format("the share of images that fail by one uniform {} (T1)",
                                             has_single_flips(point) ? "flip" : "fault")
                               : "the expected accuracy (T2)",
        plan.sampling, strata, plan.used,
        pilot == 0 ? "" : fmt::format(" beside {} of the pilot", pilot), plan.stop_rule,
        plan.half_width == 0 ? ""
        : plan.reached       ? "; the half-width is reached"
                             : "; the half-width is not reached");
  }
}

/// The families of the intervals of a table's row, each once.
std::string methods_cell(const ResultFile& result, std::uint32_t point, std::size_t model,
                         const std::vector<std::string>& quantities) {
  std::vector<std::string> methods;
  for (const std::string& quantity : quantities) {
    const EstimateRow* estimate = find(result, point, model, quantity);
    if (estimate && std::find(methods.begin(), methods.end(), estimate->method) == methods.end())
      methods.push_back(estimate->method);
  }
  return fmt::format("{}", fmt::join(methods, "; "));
}

/// (point, model) of simple plans with as many right images as the first model in every trial, and
/// without faults.
std::set<std::pair<std::uint32_t, std::uint32_t>> without_difference(const ResultFile& result) {
  const std::vector<ModelInfo>& models = result.info.models;
  std::set<std::pair<std::uint32_t, std::uint32_t>> alike, differing;
  const TrialRow* first = nullptr;
  for (const TrialRow& row : result.trials) {
    if (row.model == 0) first = &row;
    const bool same = first && first->point == row.point && first->id == row.id &&
                      first->correct == row.correct && first->images == row.images &&
                      models.at(row.model).correct == models.front().correct;
    if (row.model > 0 && is_simple(result, row.point) && counts(result, row))
      (same ? alike : differing).insert({row.point, row.model});
  }
  for (const auto& key : differing) alike.erase(key);
  return alike;
}

/// "none in 60 trials (4.99 %)"; print_notes explains it.
std::string no_difference(const EstimateRow& e) {
  const double share =
      std::min(1.0, -std::log1p(-e.confidence) / static_cast<double>(e.trials));  // 3/n at 95 %
  if (share == 1)
    return fmt::format("none in {} trial{}, too few", e.trials, e.trials == 1 ? "" : "s");
  return fmt::format("none in {} trials ({} %)", e.trials, percent(share));
}

std::string difference_cell(const ResultFile& result, std::uint32_t point, std::size_t model,
                            bool alike) {
  const EstimateRow* e = find(result, point, model, "accuracy_difference");
  const bool paired = e && e->method.rfind("paired", 0) == 0;
  if (alike && paired) return no_difference(*e);
  return cell(result, point, model, "accuracy_difference");
}

void print_accuracy(const ResultFile& result) {
  const auto alike = without_difference(result);
  const std::string interval = interval_head(result);
  std::vector<std::vector<std::string>> rows = {{"faults", "model", "trials", count_head(result),
                                                 "accuracy %" + interval, "difference" + interval,
                                                 "as the seed tool counts", "intervals by"}};
  for (const auto& [key, t] : totals_of(result)) {
    const PointInfo& point = result.info.points.at(key.first);
    rows.push_back(
        {point_name(point), result.info.models.at(key.second).name,
         trials_cell(result, key.first, key.second, t.trials),
         is_simple(result, key.first) && t.trials > 0
             ? fmt::format("{:.2f}", static_cast<double>(t.faults) / static_cast<double>(t.trials))
             : "",
         cell(result, key.first, key.second, "accuracy"),
         difference_cell(result, key.first, key.second, alike.count(key) > 0),
         cell(result, key.first, key.second, "accuracy_argmax"),
         methods_cell(result, key.first, key.second, {"accuracy", "accuracy_difference"})});
  }
  print_table(rows);
}

void print_outcomes(const ResultFile& result) {
  const std::string interval = interval_head(result);
  std::vector<std::vector<std::string>> rows = {{"faults", "model", "failing %" + interval,
                                                 "SDC-critical %" + interval, "DUE %" + interval,
                                                 "SDC-non-critical %", "masked %", "intervals by"}};
  for (const auto& [key, t] : totals_of(result)) {
    rows.push_back(
        {point_name(result.info.points.at(key.first)), result.info.models.at(key.second).name,
         cell(result, key.first, key.second, "failing"),
         cell(result, key.first, key.second, "sdc_critical"),
         cell(result, key.first, key.second, "due"),
         share_cell(result, key.first, key.second, "sdc_noncritical"),
         share_cell(result, key.first, key.second, "masked"),
         methods_cell(result, key.first, key.second, {"failing", "sdc_critical", "due"})});
  }
  print_table(rows);
}

nlohmann::json to_json(const ResultFile& result) {
  nlohmann::json json = {{"complete", result.complete},
                         {"fingerprint", result.info.fingerprint},
                         {"seed", result.info.seed}};
  const auto images = result.info.provenance.find("images_of");
  if (images != result.info.provenance.end()) json["images_of"] = images->second;
  for (const ModelInfo& m : result.info.models) {
    json["models"].push_back({{"name", m.name},
                              {"parameters", m.parameters},
                              {"macs", m.macs},
                              {"memory_bytes", m.memory_bytes},
                              {"images", m.images},
                              {"correct", m.correct}});
    if (m.stored_bits > 0)
      json["models"].back().update(
          {{"stored_bits", m.stored_bits}, {"bits_per_weight", m.bits_per_weight}});
    if (const auto constants = normalisation_of(result, m))
      json["models"].back().update({{"mean", constants->mean}, {"std", constants->std}});
  }
  for (const auto& [key, t] : totals_of(result)) {
    nlohmann::json row = {{"point", key.first},
                          {"ber", result.info.points.at(key.first).ber},
                          {"fault_model", result.info.points.at(key.first).fault_model},
                          {"model", result.info.models.at(key.second).name},
                          {"trials", t.trials},
                          {"faults", t.faults},
                          {"images", t.images},
                          {"masked", t.masked},
                          {"sdc_noncritical", t.noncritical},
                          {"sdc_critical", t.critical},
                          {"due", t.due}};
    json["points"].push_back(row);
  }
  for (const PairingInfo& row : result.info.pairing)
    json["pairing"].push_back({{"point", row.point},
                               {"model", result.info.models.at(row.model).name},
                               {"shared", row.shared}});
  for (const PlanInfo& plan : result.info.plans)
    json["plans"].push_back({{"point", plan.point},
                             {"sampling", plan.sampling},
                             {"stop_rule", plan.stop_rule},
                             {"half_width", plan.half_width},
                             {"guaranteed", plan.guaranteed != 0},
                             {"used", plan.used},
                             {"reached", plan.reached != 0}});
  if (is_audited(result)) json["audit"] = audit_json(result);
  for (const EstimateRow& e : result.estimates) {
    if (&e != find(result, e.point, static_cast<std::size_t>(e.model), e.quantity)) continue;
    json["estimates"].push_back(
        {{"point", e.point},
         {"model", result.info.models.at(static_cast<std::size_t>(e.model)).name},
         {"quantity", e.quantity},
         {"estimate", e.estimate},
         {"lower", e.lower},
         {"upper", e.upper},
         {"confidence", e.confidence},
         {"method", e.method},
         {"trials", e.trials}});
  }
  if (nlohmann::json strata = strata_json(result); !strata.empty())
    json["strata"] = std::move(strata);
  return json;
}

/// Networks that a bound answers for, whatever trials show.
void print_bounds(const ResultFile& result) {
  for (const EstimateRow& e : result.estimates) {
    if (!is_bound(e) || &e != find(result, e.point, static_cast<std::size_t>(e.model), "failing"))
      continue;
    const PointInfo& point = result.info.points.at(e.point);
    const bool without = point.trials == 0;
    say("{}, {}: {}. P(any word read wrongly) = {:.3g}, exact from the codes, bounds the distance "
        "to the fault-free network ({:.2g} points at most){}.\n",
        point_name(point), result.info.models.at(static_cast<std::size_t>(e.model)).name,
        without ? "no trial is needed" : "its trials are not needed", e.upper, 100 * e.upper,
        without ? "; --trial-range runs trials" : "");
  }
}

/// How many faults networks have in common with the first one, where that is not all of them.
void print_pairing(const ResultFile& result) {
  const std::string& first = result.info.models.front().name;
  std::set<std::uint32_t> told;  // all points of drawn faults have the same share
  for (const PairingInfo& row : result.info.pairing) {
    if (row.shared >= 1 || !told.insert(row.model).second) continue;
    const std::string& name = result.info.models.at(row.model).name;
    if (result.info.points.at(row.point).estimand == kListed)
      say("{} has {:.4g} % of the list's faults; the others hit words that it does not have.\n",
          name, 100 * row.shared);
    else
      say("{} shares the faults of {:.4g} % of the sites of {}; at all other sites of its own its "
          "faults are independent.\n",
          name, 100 * row.shared, first);
  }
}

/// What the cells of the tables mean.
void print_notes(const ResultFile& result) {
  const double confidence = 100 * result.info.confidence;
  if (is_listed(result))
    say("Means over the trials of a list of faults. A list is no sample, so that they have no "
        "intervals; differences against {}, in points.\n",
        result.info.models.front().name);
  else
    say("Intervals: {:g} % confidence, over {}; differences against {}, in points.\n", confidence,
        unit_of(result), result.info.models.front().name);
  if (!without_difference(result).empty())
    say("None in n trials (p %): no trial differed. With {:g} % confidence at most p % of all "
        "trials do.\n",
        confidence);
  say("As the seed tool counts: an image with logits that are not finite counts as the class that "
      "PyTorch's argmax gives.\n");
}

bool says_too_much(const ResultFile& result, const EstimateRow& e) {
  const bool by_t =
      e.method == "Welch" || e.method == "t over trials" || e.method == "paired t over trials";
  return by_t && e.trials < Sample::kEnough && is_simple(result, e.point);
}

/// Files of earlier versions hold intervals by t of few trials.
void print_caveat(const ResultFile& result) {
  if (std::any_of(result.estimates.begin(), result.estimates.end(),
                  [&](const EstimateRow& e) { return says_too_much(result, e); }))
    say("With fewer than {} trials intervals by t or Welch may cover less than they say.\n",
        Sample::kEnough);
}

/// t estimates the spread from what was met; rarer collapses are in no trial.
void print_unseen(const ResultFile& result) {
  std::uint64_t fewest = 0;
  for (const EstimateRow& e : result.estimates)
    if (e.stratum < 0 && e.method.find("t over trials") != std::string::npos &&
        (fewest == 0 || e.trials < fewest))
      fewest = e.trials;
  if (fewest > 0)
    say("Intervals by t know nothing of what fewer than 3 in {} trials show ({:.2g} %).\n",
        with_spaces(static_cast<std::int64_t>(fewest)), 300 / static_cast<double>(fewest));
}

}  // namespace

void print_result(const std::string& path, bool json) {
  const ResultFile result = read_result(path);
  if (json) {
    say_json(to_json(result));
    return;
  }
  say("{} ({})\n\n", path,
      result.complete ? "complete" : "not complete: run the same command again to go on");
  print_models(result);
  print_images(result);
  print_normalisation(result);
  say("\n");
  if (holds_channels(result)) {
    print_channels(result);
    return print_audit(result);
  }
  print_accuracy(result);
  say("\n");
  print_outcomes(result);
  say("\n");
  print_strata(result);
  print_plans(result);
  print_bounds(result);
  print_pairing(result);
  print_notes(result);
  print_caveat(result);
  print_unseen(result);
  print_audit(result);
}

}  // namespace sentinel
