#include "sentinel/io/normalisation.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {
namespace {

using Values = std::array<double, 3>;
using Words = std::vector<std::string>;

/// Every set of constants that has a name.
std::vector<std::pair<std::string, Normalisation>> named() {
  std::vector<std::pair<std::string, Normalisation>> all;
  for (const std::string& name : dataset_names())
    all.emplace_back(name, dataset_info(name).normalisation());
  all.emplace_back("cifar10-2023",
                   Normalisation{dataset_info("cifar10").mean, {0.2023, 0.1994, 0.2010}});
  all.emplace_back("none", Normalisation());
  return all;
}

std::optional<double> number_in(const std::string& word) {
  char* end = nullptr;
  const double number = std::strtod(word.c_str(), &end);
  const bool whole = end != word.c_str() &&
                     word.find_first_not_of(" ", static_cast<std::size_t>(end - word.c_str())) ==
                         std::string::npos;
  return whole ? std::optional(number) : std::nullopt;
}

bool is_name(const Words& words) {
  return words.size() == 1 && !number_in(words.front());
}

Normalisation constants_of(const std::string& option, const std::string& name) {
  std::vector<std::string> known;
  for (const auto& [other, constants] : named()) {
    if (other == name) return constants;
    known.push_back(other);
  }
  throw UserError(unknown_word(option, name, known) + "; or give numbers");
}

Values numbers(const std::string& option, const Words& words) {
  Values values{};
  if (words.size() != values.size())
    throw UserError(
        fmt::format("{} wants {} numbers, one for each channel of the images, or a name; it has {}",
                    option, values.size(), words.size()));
  for (std::size_t c = 0; c < values.size(); ++c) {
    const std::optional<double> number = number_in(words[c]);
    if (!number) throw UserError(option + ": " + words[c] + " is no number");
    values[c] = *number;
  }
  return values;
}

}  // namespace

std::string in_words(const Normalisation& normalisation) {
  for (const auto& [name, constants] : named())
    if (constants == normalisation) return numbers_of(normalisation) + " (" + name + ")";
  return numbers_of(normalisation);
}

Normalisation chosen(const NormalisationChoice& choice, const Normalisation& otherwise) {
  Normalisation result = otherwise;
  if (is_name(choice.mean))
    result = constants_of(spelled(Setting::kMean), choice.mean.front());
  else if (!choice.mean.empty())
    result.mean = numbers(spelled(Setting::kMean), choice.mean);
  if (is_name(choice.std))
    result.std = constants_of(spelled(Setting::kStd), choice.std.front()).std;
  else if (!choice.std.empty())
    result.std = numbers(spelled(Setting::kStd), choice.std);
  const std::string fault = fault_of(result);
  if (!fault.empty())
    throw UserError(spelled(Setting::kMean) + ", " + spelled(Setting::kStd) + ": " + fault);
  return result;
}

}  // namespace sentinel
