#include "sentinel/core/sampling_words.hpp"

#include <algorithm>
#include <array>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

constexpr std::array<SamplingWord, 10> kWords = {
    {{"simple", Sampling::kSimple, {}},
     {"stratified", Sampling::kStratified, {}},
     {"sequential", Sampling::kSequential, {}},
     {"allocated", Sampling::kAllocated, {}},
     {"per-layer", Sampling::kEqual, DivideBy::kLayer},
     {"per-class", Sampling::kEqual, DivideBy::kClass},
     {"per-bit", Sampling::kEqual, DivideBy::kBit},
     {"per-layer:allocated", Sampling::kStratified, DivideBy::kLayer},
     {"per-class:allocated", Sampling::kStratified, DivideBy::kClass},
     {"per-bit:allocated", Sampling::kStratified, DivideBy::kBit}}};

}  // namespace

bool is_adaptive(Sampling sampling) {
  return sampling != Sampling::kSimple && sampling != Sampling::kEqual;
}

bool may_stop(Sampling sampling) {
  return sampling == Sampling::kSequential || sampling == Sampling::kAllocated;
}

const SamplingWord& parse_sampling(const std::string& word) {
  const SamplingWord* own = find_sampling(word);
  if (own && !may_stop(own->sampling)) return *own;
  throw UserError(spelled(Setting::kSampling) + " " + word +
                  " is unknown; choose simple, stratified, per-layer, per-class or per-bit (the "
                  "last three also with :allocated behind)");
}

const SamplingWord* find_sampling(const std::string& word) {
  const auto found = std::find_if(kWords.begin(), kWords.end(),
                                  [&](const SamplingWord& own) { return own.word == word; });
  return found == kWords.end() ? nullptr : &*found;
}

const SamplingWord& sampling_of(const std::string& word) {
  const SamplingWord* own = find_sampling(word);
  if (!own) throw Bug("sampling " + word + " is unknown");
  return *own;
}

std::string sampling_word(Sampling sampling, std::optional<DivideBy> division) {
  for (const SamplingWord& own : kWords)
    if (own.sampling == sampling && own.division == division) return own.word;
  throw Bug("no word says this sampling");
}

}  // namespace sentinel
