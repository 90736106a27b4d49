#include "sentinel/words/effect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr int kLongestBurst = 64;
constexpr NamedValue<Lifetime> kLifetimes[] = {{"image", Lifetime::kImage},
                                               {"permanent", Lifetime::kPermanent}};

[[noreturn]] void refuse_shape(const std::string& text) {
  throw UserError(spelled(Setting::kFaultShape) +
                  " takes bit, burst:L with 1 <= L <= 64, or mbu:p1,p2,p3, probabilities of 1, 2 "
                  "and 3 adjacent bits that sum to 1; not '" +
                  text + "'");
}

std::vector<double> parse_probabilities(const std::string& list, const std::string& text) {
  std::vector<double> lengths;
  double sum = 0;
  for (const std::string& part : split(list, ',')) {
    const auto share = parse_number<double>(part);
    if (!share || !(*share >= 0 && *share <= 1)) refuse_shape(text);
    lengths.push_back(*share);
    sum += *share;
  }
  if (lengths.size() != 3 || std::abs(sum - 1) > 1e-9) refuse_shape(text);
  return lengths;
}

}  // namespace

double FaultModel::mean_length(int most) const {
  double mean = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i)
    mean += lengths[i] * std::min(static_cast<double>(i + 1), static_cast<double>(most));
  return mean;
}

void parse_effect(const std::string& text, FaultModel& model) {
  const std::string value = "value:";
  if (text == "flip") {
    model.effect = Effect::kFlip;
  } else if (text == "stuck-at-0") {
    model.effect = Effect::kStuckAt0;
  } else if (text == "stuck-at-1") {
    model.effect = Effect::kStuckAt1;
  } else if (text == "random-word") {
    model.effect = Effect::kRandomWord;
  } else {
    const auto number =
        text.rfind(value, 0) == 0 ? parse_number<double>(text.substr(value.size())) : std::nullopt;
    if (!number)
      throw UserError(
          spelled(Setting::kFaultModel) +
          " takes flip, stuck-at-0, stuck-at-1, random-word or value:V with a number V, not '" +
          text + "'");
    model.effect = Effect::kValue;
    model.value = static_cast<float>(*number);
  }
}

std::string effect_name(const FaultModel& model) {
  switch (model.effect) {
    case Effect::kFlip:
      return "flip";
    case Effect::kStuckAt0:
      return "stuck-at-0";
    case Effect::kStuckAt1:
      return "stuck-at-1";
    case Effect::kRandomWord:
      return "random-word";
    case Effect::kValue:
      return fmt::format("value:{}", model.value);
  }
  throw Bug("unknown effect of faults");
}

Lifetime parse_lifetime(const std::string& text) {
  return parse_word(kLifetimes, Setting::kFaultLifetime, text);
}

std::string lifetime_name(Lifetime lifetime) {
  return word_for(kLifetimes, lifetime);
}

std::uint64_t operand_of(const FaultModel& model) {
  return encode({}, model.value);  // fp32
}

void parse_shape(const std::string& text, FaultModel& model) {
  const std::string burst = "burst:", mbu = "mbu:";
  if (text == "bit") {
    model.lengths = {1};
  } else if (text.rfind(burst, 0) == 0) {
    const auto length = parse_number<int>(text.substr(burst.size()));
    if (!length || *length < 1 || *length > kLongestBurst) refuse_shape(text);
    model.lengths.assign(static_cast<std::size_t>(*length), 0);
    model.lengths.back() = 1;
  } else if (text.rfind(mbu, 0) == 0) {
    model.lengths = parse_probabilities(text.substr(mbu.size()), text);
  } else {
    refuse_shape(text);
  }
}

std::string shape_name(const FaultModel& model) {
  if (model.of_bits()) return "bit";
  if (model.lengths.back() == 1) return fmt::format("burst:{}", model.lengths.size());
  return fmt::format("mbu:{}", fmt::join(model.lengths, ","));
}

}  // namespace sentinel
