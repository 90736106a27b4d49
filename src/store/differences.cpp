#include "sentinel/store/differences.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "store/fields.hpp"

namespace sentinel {
namespace {

using Texts = std::vector<std::pair<std::string, std::string>>;

/// Words in hexadecimal; all else in as many digits as tell two values apart.
template <class T>
std::string text_of(std::string_view column, T value) {
  if constexpr (std::is_integral_v<T>)
    if (column == "before" || column == "after") return fmt::format("{:#x}", value);
  return fmt::format("{}", +value);
}

/// Name and value of all columns before `end`.
template <class Row>
Texts texts_of(const Row& row, std::string_view end = {}) {
  Texts texts;
  bool within = true;
  store::Describe<Row>::each(row, [&](const char* name, const auto& value) {
    within = within && name != end;
    if (within) texts.emplace_back(name, text_of(name, value));
  });
  return texts;
}

void append(const Texts& first, const Texts& second, const std::string& prefix,
            std::vector<Difference>& to) {
  for (std::size_t i = 0; i < first.size(); ++i)
    if (first[i].second != second[i].second)
      to.push_back({prefix + first[i].first, first[i].second, second[i].second});
}

}  // namespace

std::vector<Difference> differences(const TrialRow& first, const TrialRow& second) {
  TrialRow known = second;  // but for what the first row does not tell
  if (first.words_wrong == kNotKnown) known.words_wrong = kNotKnown;
  if (first.words_flagged == kNotKnown) known.words_flagged = kNotKnown;
  std::vector<Difference> found;
  append(texts_of(first, "faults_stored"), texts_of(known, "faults_stored"), "", found);
  return found;
}

std::vector<Difference> differences(const std::vector<FaultRow>& first,
                                    const std::vector<FaultRow>& second) {
  if (first.size() != second.size())
    return {{"faults", std::to_string(first.size()), std::to_string(second.size())}};
  std::vector<Difference> found;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const char* const end = first[i].outcome == FaultRow::kNotTold ? "outcome" : "";
    append(texts_of(first[i], end), texts_of(second[i], end), fmt::format("fault {} ", i), found);
  }
  return found;
}

}  // namespace sentinel
