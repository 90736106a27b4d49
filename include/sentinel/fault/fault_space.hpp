#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// What kind of stored value a fault hits. Values are part of the file format.
enum class FaultKind : std::uint8_t { kWeight = 0 };

/// How a tensor's values are stored as words: words = encode(values), values = decode(words).
/// Faults hit words, the network sees decoded values. Only the IEEE-754 single word itself so far
/// (both directions the identity).
enum class WeightCodec : std::uint8_t { kFloat32 = 0 };
int word_bits(WeightCodec codec);

/// A tensor whose words may be hit.
struct FaultTensor {
  NodeId node = 0;
  std::string name;  // "layer1.0.conv1.weight"
  FaultKind kind = FaultKind::kWeight;
  WeightCodec codec = WeightCodec::kFloat32;
  std::uint64_t elements = 0;   // copies included
  std::uint64_t originals = 0;  // the first of them; the rest are copies of duplicated channels
  std::uint64_t row = 0;        // elements of one output channel's filter
  std::uint64_t first_bit = 0;  // number of its first bit in the space
};

/// One bit of one stored word. Elements are numbered row-major over the logical shape [out + d,
/// in/groups, kh, kw], whatever the memory format.
struct FaultSite {
  std::uint32_t tensor = 0;  // index into FaultSpace::tensors()
  std::uint64_t element = 0;
  std::uint8_t bit = 0;  // 0 = least significant
  bool operator==(const FaultSite& o) const {
    return tensor == o.tensor && element == o.element && bit == o.bit;
  }
  bool operator<(const FaultSite& o) const;
};
using Faults = std::vector<FaultSite>;  // sorted, distinct

/// All bits that may flip in a model, numbered 0 … bits()-1 by (tensor in execution order, element,
/// bit). The default space: `weight` of every Conv2d and Linear, copies included.
class FaultSpace {
 public:
  explicit FaultSpace(const Graph& graph);
  const std::vector<FaultTensor>& tensors() const { return tensors_; }
  std::uint64_t bits() const { return bits_; }
  /// `at` and `index` are inverse bijections.
  FaultSite at(std::uint64_t index) const;
  std::uint64_t index(const FaultSite& site) const;

 private:
  std::vector<FaultTensor> tensors_;
  std::uint64_t bits_ = 0;
};

/// Translates sites of an original model into a model made from it (rows and columns sorted,
/// pruned, duplicated).
class SiteMap {
 public:
  SiteMap(const Graph& original, const Graph& model);
  /// The same physical weight in the model; pruned ones drop out. Only rows of originals are ever
  /// named.
  Faults translate(const Faults& in_original) const;

 private:
  struct TensorMap {
    std::int64_t tensor = -1;                     // in the model; -1: gone
    std::int64_t out = 0, in = 0, window = 1;     // original shape [out, in, window]
    std::vector<std::int64_t> row_of, column_of;  // original channel -> the model's, -1: pruned
    std::int64_t model_in = 0;
  };
  std::vector<TensorMap> maps_;
};

}  // namespace sentinel
