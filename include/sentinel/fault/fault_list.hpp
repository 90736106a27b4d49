#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// The faults of each trial as a user lists them, in the words of one network
/// (docs/fault_lists.md).
class FaultList {
 public:
  /// `text`: the CSV file; `source` names it in messages. `space`: all classes that are stored, or
  /// the outputs of all nodes; nothing selected. `images`: those that faults in outputs may name.
  /// DataError with the line where a row is none of this network.
  FaultList(std::string_view text, const std::string& source, const FaultSpace& space,
            std::int64_t images = 0);

  std::uint64_t trials() const { return trials_; }
  std::uint64_t faults() const { return entries_.size(); }
  /// Of the whole file, as sha256sum prints.
  const std::string& sha256() const { return sha256_; }
  /// Sorted, distinct. Random words that the list leaves open are drawn in this order, from
  /// {seed, point 0, trial, kFaultEffects}.
  Faults of_trial(std::uint64_t trial, std::uint64_t seed) const;
  /// Ascending.
  std::vector<std::uint64_t> trials_with_faults() const;
  /// Of all trials, in the tensor of this name.
  std::uint64_t faults_in(const std::string& tensor) const;

 private:
  struct Entry {
    FaultSite site;
    std::uint64_t trial = 0;
    std::uint32_t line = 0;
    bool drawn = false;  // a random word that the list leaves open
  };
  class Parser;
  std::vector<Entry> entries_;                                 // by trial, then site
  std::vector<std::pair<std::string, std::uint64_t>> counts_;  // faults by tensor
  std::uint64_t trials_ = 0;
  std::string sha256_;
};

/// Bytes that a list may have.
constexpr std::uint64_t kMostListBytes = std::uint64_t{1} << 29;

/// Whether the first fault of a list hits the output of a node: by its target, or else because its
/// tensor is a node of the network. False for a list that cannot be read.
bool lists_outputs(std::string_view text, const Graph& graph);

}  // namespace sentinel
