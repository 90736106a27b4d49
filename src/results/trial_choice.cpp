#include "sentinel/results/trial_choice.hpp"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

using Keys = std::set<std::pair<std::uint32_t, std::uint64_t>>;

[[noreturn]] void fail(const std::string& text) {
  throw UserError(spelled(Setting::kTrials) + " '" + text +
                  "' cannot be read: give ids and ranges, such as 3,17-20, or random:20");
}

std::uint64_t number_in(const std::string& part, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (part.empty() || error != std::errc() || end != part.data() + part.size()) fail(text);
  return value;
}

/// "17-20" or "3".
std::pair<std::uint64_t, std::uint64_t> range_in(const std::string& part, const std::string& text) {
  const std::size_t dash = part.find('-');
  const std::uint64_t first = number_in(part.substr(0, dash), text);
  const std::uint64_t last =
      dash == std::string::npos ? first : number_in(part.substr(dash + 1), text);
  if (first > last) fail(text);
  return {first, last};
}

/// Of the chosen point, or of all.
Keys stored_trials(const std::string& result, const TrialChoice& choice) {
  Keys keys;
  read_records(result, [&](const TrialRow& row) {
    if (!choice.point || row.point == *choice.point)
      keys.emplace_hint(keys.end(), row.point, row.id);
    return false;
  });
  return keys;
}

Keys random_trials(const Keys& stored, const TrialChoice& choice, const std::string& result) {
  if (choice.random > stored.size())
    throw UserError(fmt::format("{} random:{}: {} holds {} trials to choose from",
                                spelled(Setting::kTrials), choice.random, result, stored.size()));
  const std::vector<Keys::value_type> all(stored.begin(), stored.end());
  const auto order =
      Rng({choice.seed, 0, 0, Purpose::kAudit}).permutation(static_cast<std::int64_t>(all.size()));
  Keys drawn;
  for (std::size_t i = 0; i < choice.random; ++i)
    drawn.insert(all[static_cast<std::size_t>(order[i])]);
  return drawn;
}

Keys pick(const Keys& stored, const TrialChoice& choice, const std::string& result) {
  std::map<std::uint64_t, std::vector<std::uint32_t>> points;  // by id
  for (const auto& [point, id] : stored) points[id].push_back(point);
  Keys picked;
  for (const auto& [first, last] : choice.ranges)
    for (std::uint64_t id = first;; ++id) {
      const auto found = points.find(id);
      if (found == points.end())
        throw UserError(fmt::format(
            "{}: trial {} is not stored in {}{}", spelled(Setting::kTrials), id, result,
            choice.point ? fmt::format(" for point {}", *choice.point) : std::string()));
      for (const std::uint32_t point : found->second) picked.emplace(point, id);
      if (id == last) break;
    }
  return picked;
}

}  // namespace

TrialChoice parse_trials(const std::string& text) {
  constexpr char kRandom[] = "random:";
  TrialChoice choice;
  if (text.rfind(kRandom, 0) == 0) {
    choice.random = number_in(text.substr(sizeof(kRandom) - 1), text);
    if (choice.random == 0) fail(text);
    return choice;
  }
  for (std::size_t begin = 0, comma = 0; comma != std::string::npos; begin = comma + 1) {
    comma = text.find(',', begin);
    choice.ranges.push_back(range_in(text.substr(begin, comma - begin), text));
  }
  return choice;
}

Keys choose_trials(const std::string& result, const TrialChoice& choice) {
  const Keys stored = stored_trials(result, choice);
  if (choice.point && stored.empty())
    throw UserError(fmt::format("{} {}: {} holds no trial of it", spelled(Setting::kPoint),
                                *choice.point, result));
  return choice.random > 0 ? random_trials(stored, choice, result) : pick(stored, choice, result);
}

}  // namespace sentinel
