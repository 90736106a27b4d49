#include "fault/word_units.hpp"

#include <algorithm>

#include "sentinel/fault/memory.hpp"

namespace sentinel {
namespace {

bool all_bits(const FaultTensor& tensor) {
  return tensor.bits.size() == static_cast<std::size_t>(tensor.word_bits);
}

/// The tensor of a space with this name; -1: none.
std::int64_t tensor_named(const FaultSpace& space, const std::string& name) {
  for (std::size_t t = 0; t < space.tensors().size(); ++t)
    if (space.tensors()[t].name == name) return static_cast<std::int64_t>(t);
  return -1;
}

/// Check words whose own words are hit too are in their units.
bool is_alone(const FaultSpace& space, const FaultTensor& check) {
  const std::string end = ".check";
  return tensor_named(space, check.name.substr(0, check.name.size() - end.size())) < 0;
}

bool has_bare_bits(const Layout& layout) {
  return !layout.code || leaves_bits_bare(layout);
}

std::vector<WordUnits::PartBit> table_of(const Misreads& misreads, std::size_t bits) {
  std::vector<WordUnits::PartBit> table(bits);
  for (int part = 0; part < misreads.parts(); ++part)
    for (int bit = 0; bit < misreads.bits(); ++bit)
      table[static_cast<std::size_t>(misreads.place(part, bit))] = {part, bit};
  return table;
}

}  // namespace

std::optional<WordUnits> WordUnits::all(const FaultSpace& space) {
  WordUnits units;
  if (!units.add_all(space, nullptr)) return std::nullopt;
  return units;
}

std::optional<WordUnits> WordUnits::critical(const Graph& graph, const FaultSpace& space) {
  WordUnits units;
  if (!units.add_all(space, &graph)) return std::nullopt;
  units.mark_zeros(graph, space);
  return units;
}

/// With a graph, words that have bare bits count by their critical bit.
bool WordUnits::add_all(const FaultSpace& space, const Graph* graph) {
  ranges_of_.resize(space.tensors().size());
  for (std::uint32_t t = 0; t < space.tensors().size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    const Layout& layout = tensor.layout;
    if (!all_bits(tensor)) return false;
    if (tensor.kind == TensorClass::kCheck) {
      if (is_alone(space, tensor)) return false;
      continue;
    }
    bare_ = bare_ || leaves_bits_bare(layout);
    const bool by_critical_bit = graph && has_bare_bits(layout);
    if (block_shape(layout).words > 1) {
      if (!add_blocks(space, t)) return false;
    } else if (!by_critical_bit || critical_bit(layout.format)) {
      add_words(tensor, t, kind_of(layout, {}, by_critical_bit));
    }
  }
  return !ranges_.empty();
}

void WordUnits::add_words(const FaultTensor& tensor, std::uint32_t number, std::size_t kind) {
  const auto copies = static_cast<std::uint64_t>(block_shape(tensor.layout).copies);
  for (const NumberRange& selected : tensor.ranges) {
    Range range;
    range.kind = kind;
    range.data = number;
    range.element = selected.begin;
    range.stored_words = copies;
    range.word_bits = tensor.word_bits;
    range.units = (selected.end - selected.begin) / copies;
    add(std::move(range));
  }
}

/// Blocks of the originals, then of the copies of duplicated channels, each with a last block that
/// may be incomplete.
bool WordUnits::add_blocks(const FaultSpace& space, std::uint32_t number) {
  const FaultTensor& tensor = space.tensors()[number];
  const std::int64_t check = tensor_named(space, tensor.name + ".check");
  if (!tensor.whole() || (check >= 0 && !space.tensors()[static_cast<std::size_t>(check)].whole()))
    return false;
  const auto words = static_cast<std::uint64_t>(block_shape(tensor.layout).words);
  std::uint64_t element = 0, check_word = 0;
  const auto append = [&](std::uint64_t units, std::uint64_t own) {
    if (units == 0) return;
    const CodedWords coded{static_cast<int>(own), check >= 0};
    Range range;
    range.kind = kind_of(tensor.layout, coded, false);
    range.data = number;
    range.check = check;
    range.element = element;
    range.check_word = check_word;
    range.stored_words = own;
    range.word_bits = tensor.word_bits;
    range.units = units;
    add(std::move(range));
    element += units * own;
    check_word += units;
  };
  for (const std::uint64_t values : {tensor.originals, tensor.elements - tensor.originals}) {
    append(values / words, words);
    const std::uint64_t rest = values % words;
    if (codes_incomplete_blocks(tensor.layout))
      append(rest > 0 ? 1 : 0, rest);
    else
      append(rest, 1);
  }
  return true;
}

/// Words are read wrongly by their critical bit where it is 0.
void WordUnits::mark_zeros(const Graph& graph, const FaultSpace& space) {
  const Memory memory(graph);
  for (Range& range : ranges_) {
    const FaultTensor& tensor = space.tensors()[range.data];
    const Layout& layout = tensor.layout;
    if (!has_bare_bits(layout)) continue;
    const int bit = *critical_bit(layout.format);
    range.may_be_wrong.resize(range.units);
    std::uint64_t zeros = 0;
    for (std::uint64_t i = 0; i < range.units; ++i) {
      const bool zero = (memory.word(tensor.stored, range.element + i) >> bit & 1) == 0;
      range.may_be_wrong[i] = zero;
      zeros += zero ? 1 : 0;
    }
    kinds_[range.kind].units -= range.units - zeros;
  }
}

std::size_t WordUnits::kind_of(const Layout& layout, const CodedWords& words, bool critical) {
  const auto known = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) {
    return key.layout == layout && key.words == words.words;
  });
  if (known != keys_.end()) return static_cast<std::size_t>(known - keys_.begin());
  keys_.push_back({layout, words.words});
  kinds_.push_back({critical ? *Misreads::of_critical_bit(layout) : Misreads::of(layout, words)});
  const BlockShape shape = block_shape(layout);
  const int bits = words.words * shape.copies * shape.stored_bits + shape.check_bits;
  part_bits_.push_back(table_of(kinds_.back().misreads, static_cast<std::size_t>(bits)));
  return kinds_.size() - 1;
}

void WordUnits::add(Range range) {
  Kind& kind = kinds_[range.kind];
  range.first = ranges_.empty() ? 0 : ranges_.back().first + ranges_.back().units;
  range.first_of_kind = kind.all;
  kind.all += range.units;
  kind.units += range.units;
  ranges_of_[range.data].push_back(ranges_.size());
  if (range.check >= 0) ranges_of_[static_cast<std::size_t>(range.check)].push_back(ranges_.size());
  ranges_.push_back(std::move(range));
}

const WordUnits::Range& WordUnits::range_of(std::uint64_t unit) const {
  return *(std::upper_bound(
               ranges_.begin(), ranges_.end(), unit,
               [](std::uint64_t number, const Range& range) { return number < range.first; }) -
           1);
}

bool WordUnits::in_blocks() const {
  return std::any_of(keys_.begin(), keys_.end(), [](const Key& key) { return key.words > 1; });
}

std::uint64_t WordUnits::unit(std::size_t kind, std::uint64_t number) const {
  const Range* found = nullptr;
  for (const Range& range : ranges_)
    if (range.kind == kind && range.first_of_kind <= number) found = &range;
  return found->first + number - found->first_of_kind;
}

bool WordUnits::may_be_wrong(std::uint64_t unit) const {
  const Range& range = range_of(unit);
  return range.may_be_wrong.empty() || range.may_be_wrong[unit - range.first];
}

std::optional<std::uint64_t> WordUnits::unit_of(const FaultSite& site) const {
  for (const std::size_t number : ranges_of_[site.tensor]) {
    const Range& range = ranges_[number];
    const bool is_data = range.data == site.tensor;
    const std::uint64_t first = is_data ? range.element : range.check_word;
    if (site.element < first) continue;
    const std::uint64_t own = (site.element - first) / (is_data ? range.stored_words : 1);
    if (own < range.units) return range.first + own;
  }
  return std::nullopt;
}

WordUnits::PartBit WordUnits::part_bit(std::uint64_t unit, const FaultSite& site) const {
  const Range& range = range_of(unit);
  std::uint64_t word = range.stored_words;
  if (range.data == site.tensor)
    word = site.element - range.element - (unit - range.first) * range.stored_words;
  return part_bits_[range.kind][word * static_cast<std::uint64_t>(range.word_bits) + site.bit];
}

FaultSite WordUnits::site(std::uint64_t unit, int part, int bit) const {
  const Range& range = range_of(unit);
  const auto place = static_cast<std::uint64_t>(kinds_[range.kind].misreads.place(part, bit));
  const auto width = static_cast<std::uint64_t>(range.word_bits);
  const std::uint64_t data = range.stored_words * width, own = unit - range.first;
  if (place < data)
    return {range.data, range.element + own * range.stored_words + place / width,
            static_cast<std::uint8_t>(place % width)};
  return {static_cast<std::uint32_t>(range.check), range.check_word + own,
          static_cast<std::uint8_t>(place - data)};
}

}  // namespace sentinel
