#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/fault/strata.hpp"

namespace sentinel {

/// "bit 30", "bits 29-23", "bits 22-0, 31"; of ascending bits.
std::string name_of_bits(const std::vector<int>& bits);

/// Single flips in words that are stored in several ways: by layout and class of the bit
/// (bit_classes of the format), and last, known, all bits that a code corrects.
class BitStrata {
 public:
  /// Nothing where there is only one.
  static std::optional<BitStrata> of(const FaultSpace& space);

  const Strata& strata() const { return strata_; }
  /// A uniform site of a stratum; pure function of its arguments. `space`: that it was made of.
  FaultSite draw(const FaultSpace& space, std::size_t stratum, const RngKey& key) const;

 private:
  /// Bits of the selected words [begin, end) of a tensor.
  struct Part {
    std::uint32_t tensor;
    std::uint64_t begin, end;
    std::vector<std::uint8_t> bits;
    std::uint64_t sites() const { return (end - begin) * bits.size(); }
  };
  using Parts = std::vector<Part>;
  void add_words(const FaultSpace& space, std::uint32_t tensor, const NumberRange& words,
                 bool coded);
  void add(const std::string& name, Part part);
  void weigh(const FaultSpace& space);

  Strata strata_;
  std::vector<Parts> parts_;  // by stratum
  Parts corrected_;
};

}  // namespace sentinel
