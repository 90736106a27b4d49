#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sentinel/graph/stored.hpp"

namespace sentinel {

/// Numbers begin ... end - 1.
struct NumberRange {
  std::uint64_t begin = 0, end = 0;
  bool operator==(const NumberRange& o) const { return begin == o.begin && end == o.end; }
};

/// Which part of a network's memory may fail: the population of faults. As a whole by default: the
/// weights of every Conv2d and Linear, copies included.
struct Selection {
  std::vector<TensorClass> targets = {TensorClass::kWeight};
  /// Globs over the layer part of names ("layer1.*"); "!GLOB" takes out again. Empty: all.
  std::vector<std::string> layers;
  /// Output channels of a layer, their copies included. Where any are named, no other layers count.
  struct Channels {
    std::string layer;
    std::vector<NumberRange> channels;
  };
  std::vector<Channels> channels;
  /// Bits of every stored word: "31", "23-30", "sign", "exponent", "mantissa", "message", "check".
  /// Empty: all.
  std::vector<std::string> bits;
  bool words = false;  // a site is a whole word, not a bit
};

/// Whether it is of outputs of nodes, and not of memory.
bool selects_outputs(const Selection& selection);
/// "weight", "weight,bias", "parameters" (all classes that are stored), "activation" or "post"
/// alone; each word once. UserError.
std::vector<TensorClass> parse_targets(const std::vector<std::string>& words);
/// "layer1.0.conv1=0-3,7". UserError.
Selection::Channels parse_channels(const std::string& text);
/// The text that it parses, numbers joined to ranges.
std::string channels_name(const Selection::Channels& channels);
/// The same part of memory in one spelling: names sorted, numbers of bits joined to ranges,
/// patterns such as "**" made simple; no pattern, and no bits, where they select everything.
/// Patterns that only happen to select the same layers of a network stay different.
Selection canonical(Selection selection);
/// "weight", "weight,bias": in the order of the classes.
std::string target_name(const Selection& selection);
/// "layers layer1.*; channels conv1=0-3; bits sign"; empty: all.
std::string selection_name(const Selection& selection);

/// Width of a tensor's stored words [bits].
int stored_bits(const StoredTensor& tensor);
/// Bits of the tensor's stored words that are selected, ascending. UserError where the layout
/// cannot grant a wish.
std::vector<std::uint8_t> selected_bits(const Selection& selection, const StoredTensor& tensor);
/// Whether a pattern with * (any text) and ? (one character) matches all of the text.
bool matches_glob(const std::string& pattern, const std::string& text);
bool selects_layer(const Selection& selection, const std::string& layer);

}  // namespace sentinel
