#include "sentinel/transform/bound_search.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr char kPercentilePrefix[] = "percentile:";

constexpr NamedValue<BoundMethod> kMethods[] = {{"max", BoundMethod::kMax},
                                                {"percentile:q", BoundMethod::kPercentile},
                                                {"ftclip", BoundMethod::kFtclip},
                                                {"fitact", BoundMethod::kFitact},
                                                {"proact", BoundMethod::kProact}};

double parse_percentile(const std::string& word) {
  const std::string number = word.substr(sizeof kPercentilePrefix - 1);
  char* end = nullptr;
  const double percentile = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0' || !(percentile > 0 && percentile <= 100))
    throw UserError(spelled(Setting::kBoundSearch) + " " + word +
                    ": a number above 0 and up to 100 is wanted, such as percentile:99.9");
  return percentile;
}

}  // namespace

BoundSearch parse_bound_search(const std::string& word) {
  BoundSearch search;
  if (word.rfind(kPercentilePrefix, 0) == 0) {
    search.method = BoundMethod::kPercentile;
    search.percentile = parse_percentile(word);
  } else {
    search.method = parse_word(kMethods, Setting::kBoundSearch, word);
    if (search.method == BoundMethod::kPercentile) parse_percentile(kPercentilePrefix);
  }
  return search;
}

std::string bound_search_name(const BoundSearch& search) {
  if (search.method == BoundMethod::kPercentile)
    return fmt::format("{}{}", kPercentilePrefix, search.percentile);
  return word_for(kMethods, search.method);
}

bool trains_bounds(const BoundSearch& search) {
  return search.method == BoundMethod::kFitact || search.method == BoundMethod::kProact;
}

std::int64_t bound_epochs(const BoundSearch& search) {
  return search.epochs.value_or(search.method == BoundMethod::kFitact ? 10 : 3);
}

std::string bound_search_text(const BoundSearch& search) {
  const std::string name = bound_search_name(search);
  if (search.method == BoundMethod::kFtclip)
    return fmt::format("{} at {:.17g}, seed {}", name, fmt::join(search.rates, " "), search.seed);
  if (trains_bounds(search))
    return fmt::format("{} in {} epochs, seed {}", name, bound_epochs(search), search.seed);
  return name;
}

}  // namespace sentinel
