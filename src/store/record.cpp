#include "store/record.hpp"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "sentinel/store/result_file.hpp"

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
  for (std::size_t i = 0; i < first.size(); ++i)
    append(texts_of(first[i]), texts_of(second[i]), fmt::format("fault {} ", i), found);
  return found;
}

}  // namespace sentinel

namespace sentinel::store {

void pack_record(const TrialRow& row, const std::vector<FaultRow>& faults,
                 std::vector<std::byte>& to) {
  const std::size_t begin = to.size();
  to.resize(begin + kRecordHead + faults.size() * kFaultBytes);
  std::byte* at = pack(row, to.data() + begin);
  const auto count = static_cast<std::uint32_t>(faults.size());
  std::memcpy(at, &count, sizeof(count));
  at += sizeof(count);
  for (const FaultRow& fault : faults) at = pack(fault, at);
}

bool same_result(const PackedRecord& a, const PackedRecord& b) {
  if (std::memcmp(a.data, b.data, kComparedBytes) != 0) return false;
  if (!a.faults_stored() || !b.faults_stored()) return true;
  return a.faults() == b.faults() &&
         std::memcmp(a.fault_bytes(), b.fault_bytes(), a.faults() * kFaultBytes) == 0;
}

std::string name_of(const TrialRow& row) {
  return "trial " + std::to_string(row.id) + " of point " + std::to_string(row.point) + ", model " +
         std::to_string(row.model);
}

}  // namespace sentinel::store
