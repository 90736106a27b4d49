#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/fault/selection.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/words/effect.hpp"

namespace sentinel {

/// A tensor whose words may be hit. Values that are stored several times have their words side by
/// side; check words that a code keeps apart are a tensor of their own. Of the outputs of a node
/// the words are those of one image.
struct FaultTensor {
  NodeId node = 0;
  std::string name;  // "layer1.0.conv1.weight"
  TensorClass kind = TensorClass::kWeight;
  Layout layout;
  std::size_t stored = 0;       // its number in stored_tensors(), where it is stored
  int word_bits = 32;           // of a stored word, 1 ... 64
  std::uint64_t elements = 0;   // stored words, copies of duplicated channels included
  std::uint64_t originals = 0;  // the first of them; the rest are those copies
  std::uint64_t row = 0;        // stored words of one output channel; 0: not by channel
  // Its selected part, ascending.
  std::vector<NumberRange> ranges;  // of elements
  std::vector<std::uint8_t> bits;   // of each word; {0} where sites are words
  std::uint64_t selected = 0;       // elements in `ranges`
  std::uint64_t first_site = 0;     // number of its first site in the space

  std::uint64_t sites() const { return selected * bits.size(); }
  /// Whole channels, all bits: as in a space without selection.
  bool whole() const { return selected == elements; }
};

/// Every image is hit; faults in memory always do so.
inline constexpr std::int32_t kAllImages = -1;

/// Where a fault hits, and what it does there. Elements are numbered row-major over the stored
/// words of [out + d, in/groups, kh, kw], whatever the memory format.
struct FaultSite {
  std::uint32_t tensor = 0;  // index into FaultSpace::tensors()
  std::uint64_t element = 0;
  std::uint8_t bit = 0;  // the lowest that is hit; 0 = least significant
  Effect effect = Effect::kFlip;
  std::uint8_t length = 1;          // adjacent bits from `bit` upwards, cut at the end of the word
  std::int32_t image = kAllImages;  // whose output is hit
  std::uint64_t operand = 0;        // kRandomWord: random bits; kValue: the bits of the float
  bool operator==(const FaultSite& o) const;
  bool operator<(const FaultSite& o) const;
};
using Faults = std::vector<FaultSite>;  // sorted, distinct: by image, then place

/// All sites that may fail in a model, numbered 0 … sites()-1 by (tensor in execution order,
/// element, bit): the bits of the words that are selected, or these words themselves.
class FaultSpace {
 public:
  /// Names that the network has not select nothing (require_selected). UserError where a
  /// layout cannot grant the wished bits.
  explicit FaultSpace(const Graph& graph, const Selection& selection = {});
  const std::vector<FaultTensor>& tensors() const { return tensors_; }
  std::uint64_t sites() const { return sites_; }
  bool of_words() const { return words_; }
  /// Whether its words are outputs of nodes, and not stored.
  bool of_outputs() const { return outputs_; }
  /// `at` and `index` are inverse bijections; effects are those of a flip.
  FaultSite at(std::uint64_t index) const;
  std::uint64_t index(const FaultSite& site) const;

 private:
  std::vector<FaultTensor> tensors_;
  std::uint64_t sites_ = 0;
  bool words_ = false, outputs_ = false;
};

/// UserError where a layer or a channel that the selection names is in none of these networks.
void require_selected(const std::vector<const Graph*>& graphs, const Selection& selection);

/// Translates sites of an original model into a model made from it (rows and columns sorted,
/// pruned, duplicated).
class SiteMap {
 public:
  /// Each with its own space, made by the same selection. Tensors are shared where both store them
  /// alike; where words are coded in blocks, also of the same shape.
  SiteMap(const Graph& original, const Graph& model, const Selection& selection = {});
  /// The same physical word in the model; pruned ones drop out. Only rows of originals are ever
  /// named.
  Faults translate(const Faults& in_original) const;
  /// Whether faults of the model's tensor of this number come from the original, but for copies.
  bool shared(std::size_t tensor) const { return shared_.at(tensor); }
  /// Sites of the original's space that `translate` finds in the model.
  std::uint64_t shared_sites(const FaultSpace& original) const;

 private:
  struct TensorMap {
    std::int64_t tensor = -1;                     // in the model; -1: gone, or stored otherwise
    std::int64_t out = 0, in = 1, window = 1;     // original shape [out, in, window]
    std::int64_t copies = 1;                      // stored words of a value
    std::vector<std::int64_t> row_of, column_of;  // original channel -> the model's, -1: pruned
    std::int64_t model_in = 1;
  };
  static bool add_rows(const Graph& original, const Graph& model, const FaultTensor& tensor,
                       const FaultTensor& other, TensorMap& map);
  std::vector<TensorMap> maps_;
  std::vector<bool> shared_;  // by tensor of the model
};

}  // namespace sentinel
