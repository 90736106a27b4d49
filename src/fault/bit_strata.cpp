#include "fault/bit_strata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sentinel/words/misreads.hpp"

namespace sentinel {
namespace {

using Bits = std::vector<int>;

/// Bits of a stored word whose flip alone changes no value. `coded`: in a block that has its check
/// bits.
Bits silent_bits(const FaultTensor& tensor, bool coded) {
  if (!coded) return {6};  // zero-space reads bit 6 of its bytes as their bit 7
  if (tensor.kind != TensorClass::kCheck) return corrected_bits(tensor.layout);
  Bits all(static_cast<std::size_t>(tensor.word_bits));
  std::iota(all.begin(), all.end(), 0);
  return corrects_single_flips(tensor.layout) ? all : Bits();
}

/// Classes of stored bits, as far as the format has them.
std::vector<Bits> classes_of(const FaultTensor& tensor, bool coded) {
  if (tensor.kind == TensorClass::kCheck) return {};
  std::vector<Bits> classes = bit_classes(tensor.layout.format);
  for (Bits& bits : classes) {
    for (int& bit : bits) bit += !coded && bit == 6 ? 1 : 0;  // the sign of int7 in a byte
    std::sort(bits.begin(), bits.end());
  }
  return classes;
}

/// The bits that a space has of a tensor's words, of these.
std::vector<std::uint8_t> selected(const FaultTensor& tensor, const Bits& bits) {
  std::vector<std::uint8_t> own;
  for (const std::uint8_t bit : tensor.bits)
    if (std::count(bits.begin(), bits.end(), int{bit}) > 0) own.push_back(bit);
  return own;
}

Bits without(const Bits& bits, const Bits& others) {
  Bits left;
  for (const int bit : bits)
    if (std::count(others.begin(), others.end(), bit) == 0) left.push_back(bit);
  return left;
}

/// Where the words of blocks that are not complete, and not coded, begin and end: of originals, of
/// copies.
std::vector<NumberRange> uncoded_words(const FaultTensor& tensor) {
  if (tensor.kind == TensorClass::kCheck || codes_incomplete_blocks(tensor.layout)) return {};
  const auto words = static_cast<std::uint64_t>(block_shape(tensor.layout).words);
  const std::uint64_t copies = tensor.elements - tensor.originals;
  return {{tensor.originals - tensor.originals % words, tensor.originals},
          {tensor.elements - copies % words, tensor.elements}};
}

}  // namespace

std::string name_of_bits(const std::vector<int>& bits) {
  std::string name = bits.size() == 1 ? "bit " : "bits ";
  for (std::size_t first = 0, last = 0; first < bits.size(); first = last + 1) {
    for (last = first; last + 1 < bits.size() && bits[last + 1] == bits[last] + 1;) ++last;
    if (first > 0) name += ", ";
    name += first == last ? fmt::format("{}", bits[first])
                          : fmt::format("{}-{}", bits[last], bits[first]);
  }
  return name;
}

std::optional<BitStrata> BitStrata::of(const FaultSpace& space) {
  BitStrata strata;
  for (std::uint32_t t = 0; t < space.tensors().size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    const std::vector<NumberRange> uncoded = uncoded_words(tensor);
    std::uint64_t before = 0;  // selected words before the range
    for (const NumberRange& range : tensor.ranges) {
      std::uint64_t begin = range.begin;
      const auto add = [&](std::uint64_t end, bool coded) {
        end = std::clamp(end, begin, range.end);
        const std::uint64_t first = before + begin - range.begin;
        if (end > begin) strata.add_words(space, t, {first, first + end - begin}, coded);
        begin = end;
      };
      for (const NumberRange& words : uncoded) {
        add(words.begin, true);
        add(words.end, false);
      }
      add(range.end, true);
      before += range.end - range.begin;
    }
  }
  strata.weigh(space);
  if (strata.strata_.names.size() < 2) return std::nullopt;
  return strata;
}

/// `words`: among the selected ones of the tensor.
void BitStrata::add_words(const FaultSpace& space, std::uint32_t number, const NumberRange& words,
                          bool coded) {
  const FaultTensor& tensor = space.tensors()[number];
  const Bits silent = silent_bits(tensor, coded);
  const std::string name =
      layout_name(tensor.layout) + (coded ? ": " : ", blocks that are not complete: ");
  Bits left(static_cast<std::size_t>(tensor.word_bits));
  std::iota(left.begin(), left.end(), 0);
  left = without(left, silent);
  for (const Bits& bits : classes_of(tensor, coded)) {
    const Bits own = without(bits, silent);
    add(name + name_of_bits(own), {number, words.begin, words.end, selected(tensor, own)});
    left = without(left, own);
  }
  add(name + "check bits", {number, words.begin, words.end, selected(tensor, left)});
  Part corrected{number, words.begin, words.end, selected(tensor, silent)};
  if (corrected.sites() > 0) corrected_.push_back(std::move(corrected));
}

void BitStrata::add(const std::string& name, Part part) {
  if (part.sites() == 0) return;
  const auto known = std::find(strata_.names.begin(), strata_.names.end(), name);
  const auto number = static_cast<std::size_t>(known - strata_.names.begin());
  if (known == strata_.names.end()) {
    strata_.names.push_back(name);
    strata_.costs.push_back(1);
    parts_.emplace_back();
  }
  parts_[number].push_back(std::move(part));
}

void BitStrata::weigh(const FaultSpace& space) {
  strata_.version = 2;
  if (!corrected_.empty()) {
    strata_.names.push_back("bits that a code corrects");
    strata_.costs.push_back(0);
    parts_.push_back(std::move(corrected_));
  }
  for (const Parts& parts : parts_) {
    std::uint64_t sites = 0;
    for (const Part& part : parts) sites += part.sites();
    strata_.weights.push_back(static_cast<double>(sites) / static_cast<double>(space.sites()));
  }
}

FaultSite BitStrata::draw(const FaultSpace& space, std::size_t stratum, const RngKey& key) const {
  const Parts& parts = parts_.at(stratum);
  std::uint64_t sites = 0;
  for (const Part& part : parts) sites += part.sites();
  Rng rng(key);
  std::uint64_t number = rng.below(sites);
  auto part = parts.begin();
  for (; number >= part->sites(); ++part) number -= part->sites();
  const FaultTensor& tensor = space.tensors()[part->tensor];
  const std::uint64_t word = part->begin + number / part->bits.size();
  FaultSite site = space.at(tensor.first_site + word * tensor.bits.size());
  site.bit = part->bits[number % part->bits.size()];
  return site;
}

}  // namespace sentinel
