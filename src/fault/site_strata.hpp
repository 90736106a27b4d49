#pragma once
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/sampling_words.hpp"
#include "sentinel/fault/population.hpp"
#include "sentinel/fault/sampler.hpp"

namespace sentinel {

/// The single faults of one network in strata: each has a name, and is made of parts of the
/// network's space.
class SiteStrata {
 public:
  /// Some bits of words side by side.
  struct Part {
    std::uint64_t first = 0;  // site of the space: the first of the first word
    std::uint64_t words = 0;
    std::uint64_t step = 1;  // sites of a word in the space
    std::vector<int> bits;
    std::uint64_t sites() const { return words * bits.size(); }
  };
  /// A uniform site is drawn by its number, or by its word and then its bit. The first serves
  /// all; the second, where all parts of a stratum have as many bits, keeps the sites of T1 as they
  /// always were.
  enum class DrawBy : std::uint8_t { kSite, kWordAndBit };

  /// `names`: of strata that may stay without sites.
  explicit SiteStrata(DrawBy by, const std::vector<std::string>& names = {});
  /// Adds a part with sites to the stratum of this name, or to a new one, the last. `cost`: of a
  /// trial there (Strata::costs).
  void add(const std::string& name, Part part, double cost = 1);

  /// Weights are shares of sites; costs means over sites, 1 without any.
  Strata strata() const;
  /// One site; none where the stratum has none. Pure function of its arguments; `space`: the one
  /// that the parts are of.
  Faults draw(const FaultSpace& space, std::size_t stratum, const RngKey& key) const;

 private:
  struct Stratum {
    std::string name;
    std::vector<Part> parts = {};
    std::uint64_t sites = 0;
    double cost = 0;  // of all its sites together
  };
  DrawBy by_;
  std::vector<Stratum> strata_;
};

/// By the class of the bit (bit_classes of the format), and last, known, the bits that a code
/// corrects; `channel`: its faults alone. Nothing where words are stored in several ways, or as
/// others than the format's.
std::optional<SiteStrata> strata_by_bits(const FaultSpace& space, const ChannelFaults* channel);
/// By layout and class of the bit, and last, known, all bits that a code corrects.
SiteStrata strata_by_layout(const FaultSpace& space);
/// By part of the memory: for each network all strata that some network has. UserError where words
/// are to be divided by bit, and faults hit whole words.
std::vector<SiteStrata> strata_by_part(DivideBy by, const std::vector<SpaceOfNetwork>& networks);

}  // namespace sentinel
