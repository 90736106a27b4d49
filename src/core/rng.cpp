#include "sentinel/core/rng.hpp"

#include <Random123/philox.h>

#include <charconv>
#include <cmath>
#include <numeric>
#include <utility>

#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"

namespace sentinel {
namespace {
constexpr double kTwoToMinus53 = 1.0 / 9007199254740992.0;
}

Rng::Rng(const RngKey& key) {
  if (key.trial >> 56) throw Bug("a trial number needs more than 56 bits");
  const auto high = static_cast<std::uint32_t>(key.trial >> 32);
  key_ = {static_cast<std::uint32_t>(key.seed), static_cast<std::uint32_t>(key.seed >> 32)};
  counter_ = {0, static_cast<std::uint32_t>(key.trial),
              high | static_cast<std::uint32_t>(key.purpose) << 24, key.point};
}

std::uint32_t point_of_network(std::uint32_t point, std::size_t network) {
  if (point >> 24 || network >= kMostNetworks)
    throw Bug("point " + std::to_string(point) + " of network " + std::to_string(network) +
              " has no random stream of its own");
  return point | static_cast<std::uint32_t>(network) << 24;
}

std::uint32_t Rng::bits32() {
  if (used_ == 4) {
    const r123::Philox4x32::ctr_type counter = {
        {counter_[0], counter_[1], counter_[2], counter_[3]}};
    const r123::Philox4x32::key_type key = {{key_[0], key_[1]}};
    const auto block = r123::Philox4x32()(counter, key);
    for (std::size_t i = 0; i < 4; ++i) block_[i] = block[i];
    if (++counter_[0] == 0) throw Bug("a random stream is used up");
    used_ = 0;
  }
  return block_[static_cast<std::size_t>(used_++)];
}

std::uint64_t Rng::bits64() {
  const std::uint64_t low = bits32();
  return static_cast<std::uint64_t>(bits32()) << 32 | low;
}

double Rng::uniform() {
  return static_cast<double>(bits64() >> 11) * kTwoToMinus53;
}

double Rng::uniform_positive() {
  return static_cast<double>((bits64() >> 11) + 1) * kTwoToMinus53;
}

std::uint64_t Rng::below(std::uint64_t n) {
  // Values under 2^64 mod n are drawn again, so that every residue is equally likely.
  const std::uint64_t rejected = (0 - n) % n;
  std::uint64_t value = bits64();
  while (value < rejected) value = bits64();
  return value % n;
}

double Rng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(uniform_positive()));
  return radius * std::cos(2.0 * M_PI * uniform());
}

std::vector<std::int64_t> Rng::permutation(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[below(i)]);
  return order;
}

std::uint64_t seed_of(const std::string& name) {
  std::uint64_t seed = 0;
  const std::string digits = sha256_hex(name).substr(0, 16);
  std::from_chars(digits.data(), digits.data() + digits.size(), seed, 16);
  return seed;
}

}  // namespace sentinel
