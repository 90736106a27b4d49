#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "sentinel/core/outcome_counts.hpp"
#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// A fault as it found a stored word, and as it left it.
struct FaultRecord {
  FaultSite site;
  Word before = 0, after = 0;
  std::optional<ImageOutcome> outcome = {};  // of the one image that saw it
};

/// A value of a stored tensor that is read otherwise than without faults.
struct ReadChange {
  std::uint32_t stored = 0;   // number of the tensor in stored_tensors()
  std::uint64_t element = 0;  // row-major
  float clean = 0, faulty = 0;
};

/// A network's memory as it is read with faults.
struct Reading {
  std::vector<FaultRecord> records;  // in the order of the faults; none where they are too many
  std::vector<ReadChange> changes;   // by (tensor, element); the bits of clean and faulty differ
  std::uint32_t masked = 0;          // faults that left their word as it was
  std::uint32_t words_wrong = 0;     // words that are decoded as others than were stored
  std::uint32_t words_flagged = 0;   // words that a code gave up, read as 0
};

/// The weight bounds of a tensor: what is outside, or NaN, is read as 0.
struct ReadRange {
  std::int64_t low = -1, high = -1;  // numbers of their tensors; -1: none
  std::uint64_t row = 1;             // values that share an entry
};

/// A word after a fault hit it. `width`: its bits; `plain`: the word that stores the value of
/// kValue.
Word after_fault(const FaultSite& site, Word before, int width, Word plain);

struct Words;  // how the values of a tensor are stored

/// A network's memory: words by tensor, made from the values when they are asked for. Reads the
/// graph, which must be free of faults whenever this does, and outlive it.
class Memory {
 public:
  explicit Memory(const Graph& graph);
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// The values of a tensor without faults, row-major, on the host; none of check words.
  const float* values(std::size_t tensor) const { return values_[tensor].data_ptr<float>(); }
  /// The word of a value, before any code.
  Word word(std::size_t tensor, std::uint64_t element) const;

  /// Puts faults of a space of this graph into their words and reads what changes: blocks that
  /// were hit are decoded, and all values of a scale that is read otherwise. Weight bounds are a
  /// later step. Bug where a fault is none of the space, before anything is done. Of more faults
  /// than `most_records` no records are made.
  Reading read(const FaultSpace& space, const Faults& faults,
               std::size_t most_records = SIZE_MAX) const;
  /// The same changes for a network whose weights went through their bounds once
  /// (weight_bounds.cpp).
  std::vector<ReadChange> through_bounds(std::vector<ReadChange> changes) const;

 private:
  struct Hits;
  Words words_of(std::size_t tensor) const;
  /// The tensors that belong to one; -1: none.
  struct Links {
    std::int64_t data = -1;    // of scales and check words, what they are for
    std::int64_t scale = -1;   // its scales
    std::int64_t bounds = -1;  // of weight bounds, the weight
    ReadRange range = {};
  };
  std::vector<Hits> hits_of(const FaultSpace& space, const Faults& faults) const;
  void read_data(const Hits& hits, const std::vector<ReadChange>& scales, Reading& reading) const;
  std::vector<ReadChange> read_scale(const Hits& hits, Reading& reading) const;

  std::vector<StoredTensor> tensors_;
  std::vector<Links> links_;
  std::vector<at::Tensor> values_;  // contiguous; the graph's own where it can be
};

/// Lets a network's weights go through their bounds, and takes these out.
void take_weight_bounds(Graph& graph);

}  // namespace sentinel
