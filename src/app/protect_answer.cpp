#include "app/protect_answer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {
namespace {

using Json = nlohmann::ordered_json;

std::string interval_of(const Interval& own) {
  return fmt::format("{} % [{}, {}]", percent(own.estimate), percent(own.lower),
                     percent(own.upper));
}

/// "loses 0.70 points [0.50, 0.90]", or "gains ..." where the loss is below 0.
std::string loss_in_words(const Interval& loss) {
  const bool gains = loss.estimate < 0;
  const double sign = gains ? -100 : 100;
  return fmt::format("{} {:.2f} points [{:.2f}, {:.2f}]", gains ? "gains" : "loses",
                     sign * loss.estimate, sign * (gains ? loss.upper : loss.lower),
                     sign * (gains ? loss.lower : loss.upper));
}

/// Of those that could be made, the one that misses the budgets least.
const Candidate* nearest(const Answer& answer) {
  const auto excess = [&](const Candidate& own) {
    return std::max(own.cost.memory / answer.wish.memory, own.cost.macs / answer.wish.macs);
  };
  const Candidate* best = nullptr;
  for (const Candidate& own : answer.candidates)
    if (own.cost.unfit.empty() && (!best || excess(own) < excess(*best))) best = &own;
  return best;
}

std::string nothing_fits(const Answer& answer) {
  const Wish& wish = answer.wish;
  std::vector<std::string> given;
  if (std::isfinite(wish.memory)) given.push_back(fmt::format("memory {:g}", wish.memory));
  if (std::isfinite(wish.macs)) given.push_back(fmt::format("MACs {:g}", wish.macs));
  const std::string budgets =
      fmt::format("{} of the unprotected network", fmt::join(given, " and "));
  const Candidate* best = nearest(answer);
  if (!best) return "no recipe can be made of this network: " + answer.candidates[0].left_out;
  if (fits_memory(best->cost, wish) && fits_macs(best->cost, wish))
    return fmt::format("nothing was raced within {}: {} is left out, {}", budgets,
                       best->recipe.name, best->left_out);
  return fmt::format("no recipe fits {}; the nearest is {} with {:.3f} and {:.3f}", budgets,
                     best->recipe.name, best->cost.memory, best->cost.macs);
}

std::string choice_in_words(const Answer& answer) {
  const auto raced = [&](const auto& which) {
    return std::count_if(answer.candidates.begin(), answer.candidates.end(), which);
  };
  const auto all = raced([](const Candidate& own) { return own.left_out.empty(); });
  const auto rest =
      raced([](const Candidate& own) { return own.left_out.empty() && own.raced.remains; });
  if (all == 1) return "the only recipe that fits";
  const std::string of = fmt::format("of the {} recipes that fit", all);
  if (!answer.decided)
    return fmt::format(
        "the race ended undecided with {} {} left, it is the cheapest of those within {:g} points "
        "of the best mean",
        rest, of, 100 * answer.wish.equal);
  return fmt::format("{} none is better by more than {:g} points, at 95 %", of,
                     100 * answer.wish.equal);
}

std::vector<std::string> row_of(const Candidate& own, bool raced) {
  const auto known = [&](double value) {
    return own.cost.unfit.empty() ? fmt::format("{:.3f}", value) : "-";
  };
  std::vector<std::string> row = {own.recipe.name, known(own.cost.memory), known(own.cost.macs)};
  if (raced) {
    const bool any = own.raced.trials > 0;
    row.push_back(any ? percent(own.raced.fault_free) : "-");
    row.push_back(any ? percent(own.raced.accuracy) : "-");
    row.push_back(std::to_string(own.raced.trials));
  }
  const bool beaten = own.raced.trials > 0 && !own.raced.remains;
  row.push_back(beaten ? "beaten" : own.left_out);
  return row;
}

Json to_json(const Interval& own) {
  return {{"estimate", own.estimate},     {"lower", own.lower},   {"upper", own.upper},
          {"confidence", own.confidence}, {"method", own.method}, {"trials", own.n}};
}

Json to_json(const Candidate& own) {
  Json json = {{"name", own.recipe.name}, {"options", own.recipe.options}};
  if (own.cost.unfit.empty()) {
    json["memory"] = own.cost.memory;
    json["macs"] = own.cost.macs;
  }
  if (!own.left_out.empty()) json["left_out"] = own.left_out;
  if (own.raced.trials == 0) return json;
  json["race"] = {{"fault_free", own.raced.fault_free},
                  {"accuracy", own.raced.accuracy},
                  {"trials", own.raced.trials},
                  {"remains", own.raced.remains}};
  return json;
}

void print_candidates(const Answer& answer, bool raced) {
  std::vector<std::vector<std::string>> rows = {{"recipe", "memory", "MACs"}};
  if (raced) rows[0].insert(rows[0].end(), {"fault-free %", "at the rate %", "trials"});
  rows[0].push_back("");
  for (const Candidate& own : answer.candidates) rows.push_back(row_of(own, raced));
  print_table(rows);
}

}  // namespace

std::string sentence_of(const Answer& answer) {
  if (answer.winner < 0) return nothing_fits(answer);
  const Candidate& chosen = answer.candidates.at(static_cast<std::size_t>(answer.winner));
  const Interval loss = answer.loss();
  std::string text = fmt::format(
      "{} {} at BER {:g}{}: {} right instead of {} % without faults and protection, with {:.3f} of "
      "the memory and {:.3f} of the MACs; {}",
      chosen.recipe.name, loss_in_words(loss), answer.wish.ber,
      answer.wish.target == "parameters" ? "" : " in " + answer.wish.target,
      interval_of(answer.confirmed.chosen), percent(answer.confirmed.fault_free),
      chosen.cost.memory, chosen.cost.macs, choice_in_words(answer));
  if (answer.met()) return text;
  const bool open = loss.estimate <= answer.wish.max_loss;
  return fmt::format("a loss of at most {:g} points is {}; the nearest that was found: {}",
                     100 * answer.wish.max_loss,
                     open ? "not shown by so few trials (--repeat)" : "missed", text);
}

void print_answer(const Answer& answer) {
  say("{}\n", sentence_of(answer));
  if (answer.winner >= 0) {
    const Confirmed& own = answer.confirmed;
    say("confirmed by {} trials on {}: unprotected {}, chosen {}, without faults {} %\n",
        own.chosen.n, answer.confirmation_images, interval_of(own.original),
        interval_of(own.chosen), percent(own.chosen_fault_free));
  }
  const bool raced = !answer.race_images.empty();
  if (raced) say("the race, on {}; its own figures favour the winner\n", answer.race_images);
  print_candidates(answer, raced);
}

std::string to_json(const Answer& answer) {
  const Wish& wish = answer.wish;
  Json json = {{"sentinelnn_protect", 1}, {"answer", sentence_of(answer)}, {"met", answer.met()}};
  json["wish"] = {{"ber", wish.ber},           {"fault_target", wish.target},
                  {"max_loss", wish.max_loss}, {"memory", wish.memory},
                  {"macs", wish.macs},         {"equal", wish.equal},
                  {"seed", wish.seed},         {"trials", wish.trials},
                  {"dataset", wish.dataset},   {"network_sha256", wish.network_sha256}};
  for (const Candidate& own : answer.candidates) json["recipes"].push_back(to_json(own));
  if (answer.winner >= 0) {
    const Confirmed& own = answer.confirmed;
    const Candidate& chosen = answer.candidates.at(static_cast<std::size_t>(answer.winner));
    json["chosen"] = chosen.recipe.name;
    json["decided"] = answer.decided;
    json["race_images"] = answer.race_images;
    json["confirmation"] = {{"images", answer.confirmation_images},
                            {"fingerprint", own.fingerprint},
                            {"trials", own.trials},
                            {"fault_free_unprotected", own.fault_free},
                            {"fault_free", own.chosen_fault_free},
                            {"unprotected", to_json(own.original)},
                            {"accuracy", to_json(own.chosen)},
                            {"loss", to_json(answer.loss())}};
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace sentinel
