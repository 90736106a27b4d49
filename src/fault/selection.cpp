#include "sentinel/fault/selection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/graph/outputs.hpp"

namespace sentinel {
namespace {

constexpr TensorClass kClasses[] = {TensorClass::kWeight, TensorClass::kBias,  TensorClass::kBn,
                                    TensorClass::kBound,  TensorClass::kScale, TensorClass::kCheck};

/// "3" or "0-3".
std::optional<NumberRange> parse_range(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = parse_number<std::uint32_t>(text.substr(0, dash));
  const auto last =
      dash == std::string_view::npos ? first : parse_number<std::uint32_t>(text.substr(dash + 1));
  if (!first || !last || *last < *first) return std::nullopt;
  return NumberRange{*first, std::uint64_t{*last} + 1};
}

/// Ascending, without overlap.
std::vector<NumberRange> merged(std::vector<NumberRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const NumberRange& a, const NumberRange& b) { return a.begin < b.begin; });
  std::vector<NumberRange> all;
  for (const NumberRange& range : ranges) {
    if (all.empty() || range.begin > all.back().end)
      all.push_back(range);
    else
      all.back().end = std::max(all.back().end, range.end);
  }
  return all;
}

std::string name_of(const std::vector<NumberRange>& ranges) {
  std::string text;
  for (const auto& [begin, end] : ranges) {
    if (!text.empty()) text += ',';
    text += begin + 1 == end ? fmt::format("{}", begin) : fmt::format("{}-{}", begin, end - 1);
  }
  return text;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

/// Where the bits of the word lie in the stored one; nothing where a code mixes them.
std::optional<int> message_offset(const Layout& layout) {
  if (!layout.code) return 0;
  switch (layout.code->kind) {
    case Code::Kind::kRepeat:
    case Code::Kind::kMset:
    case Code::Kind::kCep:
    case Code::Kind::kParity:
    case Code::Kind::kTmr:
    case Code::Kind::kSecded:
      return 0;
    case Code::Kind::kBch:
      return layout.code->n - 1 - layout.code->k;
    case Code::Kind::kSpw:
    case Code::Kind::kZeroSpace:
      return std::nullopt;
  }
  throw Bug("unknown code");
}

using Bits = std::set<std::uint8_t>;

[[noreturn]] void refuse_wish(const std::string& wish, const StoredTensor& tensor,
                              const std::string& why) {
  throw UserError(fmt::format("{} {}: {} is stored as {}, {}", spelled(Setting::kBits), wish,
                              tensor.name, layout_name(tensor.layout), why));
}

Bits bits_of_role(const std::string& wish, BitRole role, const StoredTensor& tensor) {
  Bits bits;
  const auto offset = message_offset(tensor.layout);
  if (!offset) refuse_wish(wish, tensor, "whose code moves bits; use numbers, message or check");
  if (tensor.kind != TensorClass::kCheck)
    for (int bit = 0; bit < word_bits(tensor.layout.format); ++bit)
      if (role_of(tensor.layout.format, bit) == role)
        bits.insert(static_cast<std::uint8_t>(*offset + bit));
  if (bits.empty()) refuse_wish(wish, tensor, "which has no such bits");
  return bits;
}

Bits bits_of_part(bool message, const StoredTensor& tensor) {
  Bits bits;
  for (int bit = 0; bit < stored_bits(tensor); ++bit) {
    const bool carries = tensor.kind != TensorClass::kCheck && is_message_bit(tensor.layout, bit);
    if (carries == message) bits.insert(static_cast<std::uint8_t>(bit));
  }
  return bits;
}

Bits bits_of_wish(const std::string& wish, const StoredTensor& tensor) {
  if (wish == "sign") return bits_of_role(wish, BitRole::kSign, tensor);
  if (wish == "exponent") return bits_of_role(wish, BitRole::kExponent, tensor);
  if (wish == "mantissa") return bits_of_role(wish, BitRole::kMantissa, tensor);
  if (wish == "message" || wish == "check") return bits_of_part(wish == "message", tensor);
  const auto range = parse_range(wish);
  if (!range)
    throw UserError(
        spelled(Setting::kBits) +
        " takes numbers (31, 23-30), sign, exponent, mantissa, message and check, not '" + wish +
        "'");
  const int width = stored_bits(tensor);
  if (range->end > static_cast<std::uint64_t>(width))
    refuse_wish(wish, tensor, fmt::format("whose words have the bits 0 to {}", width - 1));
  Bits bits;
  for (std::uint64_t bit = range->begin; bit < range->end; ++bit)
    bits.insert(static_cast<std::uint8_t>(bit));
  return bits;
}

}  // namespace

int stored_bits(const StoredTensor& tensor) {
  const BlockShape shape = block_shape(tensor.layout);
  return tensor.kind == TensorClass::kCheck ? shape.check_bits : shape.stored_bits;
}

bool selects_outputs(const Selection& selection) {
  return is_output(selection.targets.at(0));
}

std::vector<TensorClass> parse_targets(const std::vector<std::string>& words) {
  for (auto word = words.begin(); word != words.end(); ++word)
    if (std::find(words.begin(), word, *word) != word)
      throw UserError(spelled(Setting::kFaultTarget) + " " + joined(words) + " names " + *word +
                      " twice; name it once");
  for (const TensorClass kind : {TensorClass::kActivation, TensorClass::kPost})
    if (std::find(words.begin(), words.end(), class_name(kind)) != words.end()) {
      if (words.size() == 1) return {kind};
      throw UserError(spelled(Setting::kFaultTarget) + " " + joined(words) + ": " +
                      class_name(kind) + " is no one population with others; leave them out");
    }
  std::set<TensorClass> targets;
  for (const std::string& word : words) {
    const auto known = std::find_if(std::begin(kClasses), std::end(kClasses),
                                    [&](TensorClass kind) { return word == class_name(kind); });
    if (known != std::end(kClasses))
      targets.insert(*known);
    else if (word == "parameters")
      targets.insert(std::begin(kClasses), std::end(kClasses));
    else
      throw UserError(spelled(Setting::kFaultTarget) +
                      " takes weight, bias, bn, bound, scale, check and parameters (all of them), "
                      "or activation, or post, not '" +
                      word + "'");
  }
  return {targets.begin(), targets.end()};
}

Selection::Channels parse_channels(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  Selection::Channels channels{text.substr(0, equals), {}};
  const auto refuse = [&] {
    throw UserError(spelled(Setting::kChannels) +
                    " takes LAYER=NUMBERS, such as layer1.0.conv1=0-3,7, not '" + text + "'");
  };
  if (equals == std::string::npos || equals == 0) refuse();
  for (const std::string& part : split(text.substr(equals + 1), ',')) {
    const auto range = parse_range(part);
    if (!range) refuse();
    channels.channels.push_back(*range);
  }
  channels.channels = merged(channels.channels);
  return channels;
}

std::string channels_name(const Selection::Channels& channels) {
  return channels.layer + "=" + name_of(merged(channels.channels));
}

namespace {

void sort(std::vector<std::string>& words) {
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
}

/// The pattern in one spelling: of adjacent wildcards first all ?, then at most one *.
std::string canonical_glob(const std::string& glob) {
  std::string text;
  bool star = false;
  const auto end_wildcards = [&] {
    if (star) text += '*';
    star = false;
  };
  for (const char c : glob) {
    if (c == '*') {
      star = true;
      continue;
    }
    if (c != '?') end_wildcards();
    text += c;
  }
  end_wildcards();
  return text;
}

/// Patterns that select the same of every network; none where that is all of it.
std::vector<std::string> canonical_layers(std::vector<std::string> globs) {
  for (std::string& glob : globs) glob = canonical_glob(glob);
  const auto is_in = [](const std::string& glob) { return glob.rfind('!', 0) != 0; };
  if (std::find(globs.begin(), globs.end(), "*") != globs.end())
    globs.erase(std::remove_if(globs.begin(), globs.end(), is_in), globs.end());
  sort(globs);
  return globs;
}

}  // namespace

Selection canonical(Selection selection) {
  selection.layers = canonical_layers(std::move(selection.layers));
  std::sort(selection.channels.begin(), selection.channels.end(),
            [](const auto& a, const auto& b) { return a.layer < b.layer; });
  std::vector<NumberRange> numbers;
  std::vector<std::string> words;
  for (const std::string& wish : selection.bits) {
    if (const auto range = parse_range(wish))
      numbers.push_back(*range);
    else
      words.push_back(wish);
  }
  sort(words);
  const bool all = numbers.empty() && words == std::vector<std::string>{"check", "message"};
  if (all) words.clear();  // every bit is one or the other
  selection.bits.clear();
  for (const NumberRange& range : merged(std::move(numbers)))
    selection.bits.push_back(name_of({range}));
  selection.bits.insert(selection.bits.end(), words.begin(), words.end());
  return selection;
}

std::string target_name(const Selection& selection) {
  std::vector<std::string> names;
  for (const TensorClass kind : selection.targets) names.emplace_back(class_name(kind));
  return joined(names);
}

std::string selection_name(const Selection& selection) {
  std::vector<std::string> parts;
  if (!selection.layers.empty()) parts.push_back("layers " + joined(selection.layers));
  for (const Selection::Channels& own : selection.channels)
    parts.push_back("channels " + channels_name(own));
  if (!selection.bits.empty()) parts.push_back("bits " + joined(selection.bits));
  return fmt::format("{}", fmt::join(parts, "; "));
}

std::vector<std::uint8_t> selected_bits(const Selection& selection, const StoredTensor& tensor) {
  Bits bits;
  for (const std::string& wish : selection.bits) bits.merge(bits_of_wish(wish, tensor));
  if (selection.bits.empty())
    for (int bit = 0; bit < stored_bits(tensor); ++bit) bits.insert(static_cast<std::uint8_t>(bit));
  return {bits.begin(), bits.end()};
}

bool matches_glob(const std::string& pattern, const std::string& text) {
  std::size_t p = 0, t = 0, star = std::string::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p, ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (star != std::string::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string::npos;
}

bool selects_layer(const Selection& selection, const std::string& layer) {
  bool any = false, in = false;
  for (const std::string& glob : selection.layers) {
    const bool out = glob.rfind('!', 0) == 0;
    any = any || !out;
    if (!matches_glob(out ? glob.substr(1) : glob, layer)) continue;
    if (out) return false;
    in = true;
  }
  if (any && !in) return false;
  return selection.channels.empty() ||
         std::any_of(selection.channels.begin(), selection.channels.end(),
                     [&](const auto& own) { return own.layer == layer; });
}

}  // namespace sentinel
