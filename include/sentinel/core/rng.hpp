#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sentinel {

/// What a stream of random numbers is for. Values are part of the file format: never renumber.
enum class Purpose : std::uint8_t {
  kFaults = 1,      // sites in the original model's words
  kCopyFaults = 2,  // sites in the copies of duplicated channels
  kImageBlock = 3,
  kAudit = 4,
  kSynthetic = 5,
  kInitialWeights = 6,
  kShuffle = 7,
  kAugment = 8,
  kDropout = 9,
  kChannelSites = 10,    // order of the bits of a channel (channel-FI)
  kPositions = 11,       // of an output map, for deepvigor
  kStrata = 12,          // which stratum a trial comes from
  kCriticalFaults = 13,  // sites of a stratum's critical flips
  kImageOrder = 14,      // partition of the images into blocks
  kFaultEffects = 15,    // lengths and random words of faults
  kCopyEffects = 16,     // the same of those in copies
  kLayoutFaults = 17,    // sites in tensors that another network stores otherwise
  kLayoutEffects = 18,   // lengths and random words of these
};

/// Names one stream; two different keys give independent streams.
struct RngKey {
  std::uint64_t seed = 0;
  std::uint32_t point = 0;  // which (fault model, BER) of the campaign
  std::uint64_t trial = 0;  // < 2^56
  Purpose purpose = Purpose::kFaults;
};

/// RngKey::point of a network that draws faults of its own: point + 2^24 network. Bug from 2^24
/// points and 2^8 networks on, whose streams would be those of others.
std::uint32_t point_of_network(std::uint32_t point, std::size_t network);
inline constexpr std::size_t kMostNetworks = 1 << 8;

/// Counter-based generator Philox4x32-10 (Salmon et al., SC'11; Random123): a pure function of its
/// key. Integers and uniform() are identical on every platform, normal() up to the last bits of the
/// platform's log and cos. Key = seed; counter = {block, trial low, trial high | purpose
/// << 24, point}, pinned by a known-answer test.
class Rng {
 public:
  explicit Rng(const RngKey& key);

  std::uint32_t bits32();
  std::uint64_t bits64();
  /// Uniform in [0, 1), 53 random bits.
  double uniform();
  /// Uniform in (0, 1].
  double uniform_positive();
  /// Uniform in [0, n), exactly (no modulo bias); n >= 1.
  std::uint64_t below(std::uint64_t n);
  /// Standard normal (Box-Muller).
  double normal();
  /// A uniform random order of 0 … n-1 (Fisher-Yates).
  std::vector<std::int64_t> permutation(std::int64_t n);

 private:
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

/// Tells the streams of this name from those of others: to be XORed to a seed.
std::uint64_t seed_of(const std::string& name);

}  // namespace sentinel
