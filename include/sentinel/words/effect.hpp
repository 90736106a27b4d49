#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/words/format.hpp"

namespace sentinel {

/// A fault's effect on the bits of a stored word. Values are part of the file format.
enum class Effect : std::uint8_t {
  kFlip = 0,
  kStuckAt0 = 1,
  kStuckAt1 = 2,
  kRandomWord = 3,  // the word becomes a uniform random one
  kValue = 4,       // the word becomes what stores a given value
};

/// Which images a fault hits. What hits memory is always permanent.
enum class Lifetime : std::uint8_t {
  kPermanent,  // all of its trial
  kImage,      // one: each image of a trial draws faults of its own
};

/// How faults act: the same for all of a campaign.
struct FaultModel {
  Effect effect = Effect::kFlip;
  float value = 0;  // kValue
  /// Adjacent bits of an event: `lengths[i]` is the probability of i + 1 of them.
  std::vector<double> lengths = {1};
  Lifetime lifetime = Lifetime::kPermanent;

  bool of_words() const { return effect == Effect::kRandomWord || effect == Effect::kValue; }
  bool of_bits() const { return lengths.size() == 1; }
  /// Mean number of bits of an event that starts `most` bits before its word's end.
  double mean_length(int most) const;
};

/// "flip", "stuck-at-0", "stuck-at-1", "random-word", "value:v". UserError.
void parse_effect(const std::string& text, FaultModel& model);
std::string effect_name(const FaultModel& model);
/// FaultSite::operand of kValue: the bits of the value as fp32.
std::uint64_t operand_of(const FaultModel& model);
/// "image", "permanent". UserError.
Lifetime parse_lifetime(const std::string& text);
std::string lifetime_name(Lifetime lifetime);
/// "bit", "burst:L", "mbu:p1,p2,p3" (shares that sum to 1). UserError.
void parse_shape(const std::string& text, FaultModel& model);
std::string shape_name(const FaultModel& model);

}  // namespace sentinel
