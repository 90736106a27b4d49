#include <algorithm>
#include <iterator>
#include <limits>
#include <sstream>

#include "corrupt/target.hpp"

namespace sentinel::test {
namespace {

std::size_t below(std::mt19937_64& random, std::size_t end) {
  return end == 0 ? 0 : static_cast<std::size_t>(random() % end);
}

/// The numbers at which readers break, as 8 bytes.
std::uint64_t extreme(std::mt19937_64& random) {
  constexpr std::uint64_t kWhole[] = {0,          1,          2,          0x7f,       0xff,
                                      0x7fff,     0xffff,     1u << 24,   0x7fffffff, 0x80000000,
                                      0xfffffffe, 0xffffffff, 1ull << 32, INT64_MAX,  1ull << 63,
                                      ~0ull - 1,  ~0ull};
  constexpr double kReal[] = {std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity(),
                              1e300,
                              -1e300,
                              -1,
                              0.5,
                              4e9};
  const std::size_t pick = below(random, std::size(kWhole) + std::size(kReal));
  if (pick < std::size(kWhole)) return kWhole[pick];
  std::uint64_t bits = 0;
  std::memcpy(&bits, &kReal[pick - std::size(kWhole)], sizeof bits);
  return bits;
}

void overwrite(Bytes& file, std::size_t at, const void* data, std::size_t size) {
  size = std::min(size, file.size() - at);
  std::memcpy(file.data() + at, data, size);
}

void insert(Bytes& file, std::size_t at, const Bytes& part) {
  file.insert(file.begin() + static_cast<std::ptrdiff_t>(at), part.begin(), part.end());
}

Bytes part_of(const Bytes& file, std::mt19937_64& random) {
  const std::size_t begin = below(random, file.size());
  const std::size_t size = below(random, std::min<std::size_t>(file.size() - begin, 200)) + 1;
  const auto from = file.begin() + static_cast<std::ptrdiff_t>(begin);
  return {from, from + static_cast<std::ptrdiff_t>(std::min(size, file.size() - begin))};
}

void change_bytes(Bytes& file, std::mt19937_64& random) {
  for (std::size_t n = below(random, 4) + 1; n > 0; --n)
    file[below(random, file.size())] = static_cast<std::byte>(random());
}

void change_number(Bytes& file, std::mt19937_64& random) {
  const std::uint64_t value = extreme(random);
  overwrite(file, below(random, file.size()), &value, std::size_t{1} << below(random, 4));
}

void change_length(Bytes& file, std::mt19937_64& random) {
  const std::size_t at = below(random, file.size());
  const Bytes part = part_of(file, random);
  if (random() % 2 == 0) return insert(file, at, part);
  const auto begin = file.begin() + static_cast<std::ptrdiff_t>(at);
  file.erase(begin, begin + static_cast<std::ptrdiff_t>(std::min(part.size(), file.size() - at)));
}

void put_word(const Target& target, Bytes& file, std::mt19937_64& random) {
  const std::string& word = target.words[below(random, target.words.size())];
  const std::size_t at = below(random, file.size());
  if (random() % 2 == 0)
    insert(file, at, to_bytes(word));
  else
    overwrite(file, at, word.data(), word.size());
}

}  // namespace

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

Bytes changed(const Target& target, Bytes file, std::mt19937_64& random) {
  if (file.empty()) file = to_bytes("x");
  switch (below(random, target.words.empty() ? 3 : 4)) {
    case 0:
      change_bytes(file, random);
      break;
    case 1:
      change_number(file, random);
      break;
    case 2:
      change_length(file, random);
      break;
    default:
      put_word(target, file, random);
  }
  if (random() % 8 != 0) target.repair(file);
  return file;
}

}  // namespace sentinel::test
