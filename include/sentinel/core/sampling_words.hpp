#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace sentinel {

/// How the trials of a point are chosen.
enum class Sampling : std::uint8_t {
  kSimple,      // every trial from the whole population
  kStratified,  // a pilot, then a fixed allocation to strata
  kSequential,  // each trial draws its stratum; stops when the interval is narrow enough
  kAllocated,   // an allocation to strata that should make the interval narrow enough, in further
                // rounds until it is
  kEqual,       // trial i comes from stratum i mod H, so that all have as many trials after any
};
/// Whether trials depend on what those before them showed.
bool is_adaptive(Sampling sampling);
/// Whether a plan ends before its last trial once the interval is narrow enough.
bool may_stop(Sampling sampling);

/// By what the population of single faults is divided.
enum class DivideBy : std::uint8_t {
  kLayer,  // the stored tensor: "layer1.0.conv1.weight"
  kClass,  // its class: "weight"
  kBit,  // the bit of the stored word: "bit 30"; with several layouts "int8:channel bit 6", and of
         // the check words of a code "int8:channel+secded:64 check bit 6"
};

/// How jobs and results (PlanInfo::sampling) say it: "stratified", "per-layer" (equal),
/// "per-layer:allocated" (stratified).
struct SamplingWord {
  const char* word;
  Sampling sampling;
  std::optional<DivideBy> division;
};
/// A word that a job takes; the rest of a sequential or allocated plan's is chosen otherwise.
/// UserError.
const SamplingWord& parse_sampling(const std::string& word);
/// Null where the word is unknown.
const SamplingWord* find_sampling(const std::string& word);
/// Bug where it is unknown.
const SamplingWord& sampling_of(const std::string& word);
/// Bug where no word says it.
std::string sampling_word(Sampling sampling, std::optional<DivideBy> division);

}  // namespace sentinel
