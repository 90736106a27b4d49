#include "fault/site_strata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sentinel/words/misreads.hpp"

namespace sentinel {
namespace {

using Bits = std::vector<int>;
using Part = SiteStrata::Part;

/// "bit 30", "bits 29-23", "bits 22-0, 31"; of ascending bits.
std::string name_of_bits(const Bits& bits) {
  std::string name = bits.size() == 1 ? "bit " : "bits ";
  for (std::size_t first = 0, last = 0; first < bits.size(); first = last + 1) {
    for (last = first; last + 1 < bits.size() && bits[last + 1] == bits[last] + 1;) ++last;
    if (first > 0) name += ", ";
    name += first == last ? fmt::format("{}", bits[first])
                          : fmt::format("{}-{}", bits[last], bits[first]);
  }
  return name;
}

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
Bits selected(const FaultTensor& tensor, const Bits& bits) {
  Bits own;
  for (const int bit : tensor.bits)
    if (std::count(bits.begin(), bits.end(), bit) > 0) own.push_back(bit);
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

/// Whether all words of a space are stored alike, as those of a format.
bool stored_alike(const FaultSpace& space) {
  if (space.tensors().empty() || space.of_words()) return false;
  const FaultTensor& first = space.tensors().front();
  if (first.kind == TensorClass::kCheck || block_shape(first.layout).words > 1 ||
      first.word_bits != word_bits(first.layout.format) ||
      (first.layout.code && first.layout.code->kind == Code::Kind::kRepeat))
    return false;
  return std::all_of(space.tensors().begin(), space.tensors().end(), [&](const FaultTensor& own) {
    return own.layout == first.layout && own.bits == first.bits;
  });
}

/// fp32, of a channel. Every silent stratum costs an interval trials of its own, and the first
/// fails often.
const std::vector<Bits>& classes_of_channel() {
  static const std::vector<Bits> classes = {
      {30}, {23, 24, 25, 26, 27, 28, 29}, {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                           12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 31}};
  return classes;
}

/// All words of a space, or of a channel, no bits of them.
Part words_of(const FaultSpace& space, const ChannelFaults* channel) {
  const std::uint64_t width = space.tensors().front().bits.size();
  if (!channel) return {0, space.sites() / width, width, {}};
  const ChannelOrder order(*channel, space, {});
  return {order.first_bit(), order.bits() / width, width, {}};
}

/// Strata by layout, as they are made.
class ByLayout {
 public:
  explicit ByLayout(const FaultSpace& space) {
    for (const FaultTensor& tensor : space.tensors()) add(tensor);
    for (Part& part : corrected_) strata_.add("bits that a code corrects", std::move(part), 0);
  }
  SiteStrata strata() && { return std::move(strata_); }

 private:
  void add(const FaultTensor& tensor);
  void add_words(const FaultTensor& tensor, const NumberRange& words, bool coded);

  SiteStrata strata_{SiteStrata::DrawBy::kSite};
  std::vector<Part> corrected_;
};

void ByLayout::add(const FaultTensor& tensor) {
  const std::vector<NumberRange> uncoded = uncoded_words(tensor);
  std::uint64_t before = 0;  // selected words before the range
  for (const NumberRange& range : tensor.ranges) {
    std::uint64_t begin = range.begin;
    const auto add_until = [&](std::uint64_t end, bool coded) {
      end = std::clamp(end, begin, range.end);
      const std::uint64_t first = before + begin - range.begin;
      if (end > begin) add_words(tensor, {first, first + end - begin}, coded);
      begin = end;
    };
    for (const NumberRange& words : uncoded) {
      add_until(words.begin, true);
      add_until(words.end, false);
    }
    add_until(range.end, true);
    before += range.end - range.begin;
  }
}

/// `words`: among the selected ones of the tensor.
void ByLayout::add_words(const FaultTensor& tensor, const NumberRange& words, bool coded) {
  const std::uint64_t step = tensor.bits.size();
  const auto part = [&](const Bits& bits) {
    return Part{tensor.first_site + words.begin * step, words.end - words.begin, step,
                selected(tensor, bits)};
  };
  const Bits silent = silent_bits(tensor, coded);
  const std::string name =
      layout_name(tensor.layout) + (coded ? ": " : ", blocks that are not complete: ");
  Bits left(static_cast<std::size_t>(tensor.word_bits));
  std::iota(left.begin(), left.end(), 0);
  left = without(left, silent);
  for (const Bits& bits : classes_of(tensor, coded)) {
    const Bits own = without(bits, silent);
    strata_.add(name + name_of_bits(own), part(own));
    left = without(left, own);
  }
  strata_.add(name + "check bits", part(left));
  corrected_.push_back(part(silent));
}

}  // namespace

std::optional<SiteStrata> strata_by_bits(const FaultSpace& space, const ChannelFaults* channel) {
  if (!stored_alike(space)) return std::nullopt;
  const FaultTensor& first = space.tensors().front();
  const bool coarse = channel && first.layout.format.kind == NumberFormat::Kind::kFp32;
  const Bits silent = selected(first, silent_bits(first, true));
  SiteStrata strata(SiteStrata::DrawBy::kWordAndBit);
  Part part = words_of(space, channel);
  for (const Bits& bits : coarse ? classes_of_channel() : classes_of(first, true)) {
    part.bits = selected(first, without(bits, silent));
    strata.add(name_of_bits(part.bits), part);
  }
  part.bits = silent;
  strata.add(name_of_bits(silent) + ", corrected", part, 0);
  return strata;
}

SiteStrata strata_by_layout(const FaultSpace& space) {
  return ByLayout(space).strata();
}

}  // namespace sentinel
