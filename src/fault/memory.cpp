#include "sentinel/fault/memory.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kMostWords = 64;  // of a block, copies included

/// Divisors are 1 where no code makes blocks or copies. A division costs more than to look.
std::uint64_t quotient(std::uint64_t number, std::uint64_t divisor) {
  return divisor == 1 ? number : number / divisor;
}

std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

Word low_bits(int count) {
  return count >= 64 ? ~Word{0} : (Word{1} << count) - 1;
}

}  // namespace

/// How the values of one tensor become stored words.
struct Words {
  const StoredTensor& tensor;
  const float* values;
  const float* scales;  // null: the format has none
  BlockShape shape = block_shape(tensor.layout);
  bool coded = tensor.layout.code.has_value();

  std::uint64_t row_of(std::uint64_t element) const {
    return tensor.layout.scale_per_row && tensor.row > 0 ? element / tensor.row : 0;
  }
  float scale(std::uint64_t element) const { return scales ? scales[row_of(element)] : 1; }
  Word word(std::uint64_t element) const {
    return encode(tensor.layout.format, values[element], scale(element));
  }
  std::uint64_t original_blocks() const {
    const auto words = static_cast<std::uint64_t>(shape.words);
    return quotient(tensor.originals + words - 1, words);
  }
  std::uint64_t block_of(std::uint64_t element) const {
    const auto words = static_cast<std::uint64_t>(shape.words);
    if (element < tensor.originals) return quotient(element, words);
    return original_blocks() + quotient(element - tensor.originals, words);
  }
  /// Its first value, and how many it has.
  NumberRange values_of_block(std::uint64_t block) const {
    const auto words = static_cast<std::uint64_t>(shape.words);
    const bool copies = block >= original_blocks();
    const std::uint64_t begin =
        copies ? tensor.originals + (block - original_blocks()) * words : block * words;
    return {begin, std::min(begin + words, copies ? tensor.values : tensor.originals)};
  }
};

namespace {

/// The words of a block, as stored and as read.
struct Block {
  std::array<Word, kMostWords> stored{};
  Word check = 0;
  std::array<ReadWord, kMostWords> read{};

  void encode_from(const Words& words, const NumberRange& range) {
    if (!words.coded) {
      stored[0] = words.word(range.begin);
      return;
    }
    std::array<Word, kMostWords> plain;
    for (std::uint64_t i = range.begin; i < range.end; ++i) plain[i - range.begin] = words.word(i);
    encode_block(words.tensor.layout, plain.data(), static_cast<int>(range.end - range.begin),
                 stored.data(), &check);
  }
  void copy(const Block& from, std::uint64_t words) {
    std::copy_n(from.stored.begin(), words, stored.begin());
    check = from.check;
  }
  void decode(const Words& words, const NumberRange& range) {
    if (words.coded)
      decode_block(words.tensor.layout, stored.data(), static_cast<int>(range.end - range.begin),
                   check, read.data());
    else
      read[0] = {stored[0], false};
  }
};

float read_value(const Words& words, const ReadWord& read, float scale) {
  return read.flagged ? 0 : decode(words.tensor.layout.format, read.word, scale);
}

/// The stored word of a value, as if it were alone in its block.
Word stored_value(const Words& words, std::uint64_t element, float value) {
  const Word word = encode(words.tensor.layout.format, value, words.scale(element));
  if (!words.coded) return word;
  std::array<Word, kMostWords> stored{};
  Word check = 0;
  encode_block(words.tensor.layout, &word, 1, stored.data(), &check);
  return stored[0];
}

}  // namespace

Word after_fault(const FaultSite& site, Word before, int width, Word plain) {
  const int length = std::min<int>(site.length, width - site.bit);
  const Word mask = low_bits(length) << site.bit;
  switch (site.effect) {
    case Effect::kFlip:
      return before ^ mask;
    case Effect::kStuckAt0:
      return before & ~mask;
    case Effect::kStuckAt1:
      return before | mask;
    case Effect::kRandomWord:
      return site.operand & low_bits(width);
    case Effect::kValue:
      return plain;
  }
  throw Bug("unknown effect of faults");
}

/// How a tensor's values are stored.
Words Memory::words_of(std::size_t tensor) const {
  const std::int64_t scale = links_[tensor].scale;
  return {tensors_[tensor], values(tensor),
          scale < 0 ? nullptr : values(static_cast<std::size_t>(scale))};
}

/// Faults of one tensor and of the check words that belong to it.
struct Memory::Hits {
  std::size_t stored = 0;
  const Faults* faults = nullptr;
  NumberRange words = {}, checks = {};  // in `faults`
};

Memory::Memory(const Graph& graph) : tensors_(stored_tensors(graph)), links_(tensors_.size()) {
  std::map<std::string, std::size_t> by_name;
  for (std::size_t i = 0; i < tensors_.size(); ++i) by_name[tensors_[i].name] = i;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    const StoredTensor& tensor = tensors_[i];
    const std::string& name = tensor.name;
    const auto named = [&](const std::string& other) {
      const auto found = by_name.find(other);
      return found == by_name.end() ? -1 : static_cast<std::int64_t>(found->second);
    };
    Links& links = links_[i];
    const bool check = tensor.kind == TensorClass::kCheck;
    if (check || tensor.kind == TensorClass::kScale)
      links.data = named(name.substr(0, name.rfind(check ? ".check" : "_scale")));
    else if (has_scale(tensor.layout.format))
      links.scale = named(name + "_scale");
    if (tensor.kind == TensorClass::kWeight) {
      links.range.low = named(name + "_low");
      links.range.high = named(name + "_high");
      if (links.range.low >= 0) {
        links.range.row =
            tensor.values / tensors_[static_cast<std::size_t>(links.range.low)].values;
        for (const std::int64_t bound : {links.range.low, links.range.high})
          links_[static_cast<std::size_t>(bound)].bounds = static_cast<std::int64_t>(i);
      }
    }
    values_.push_back(check ? at::Tensor() : values_of(graph, tensor).to(at::kCPU).contiguous());
  }
}

/// By tensor, those that scale others too. Throws where a fault is none of the space.
std::vector<Memory::Hits> Memory::hits_of(const FaultSpace& space, const Faults& faults) const {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    space.index(faults[i]);
    if (i > 0 && !(faults[i - 1] < faults[i])) throw Bug("faults are not sorted and distinct");
  }
  std::map<std::size_t, Hits> hits;
  for (std::size_t begin = 0, end = 0; begin < faults.size(); begin = end) {
    while (end < faults.size() && faults[end].tensor == faults[begin].tensor) ++end;
    const std::size_t stored = space.tensors()[faults[begin].tensor].stored;
    const bool check = tensors_[stored].kind == TensorClass::kCheck;
    const std::size_t data = check ? static_cast<std::size_t>(links_[stored].data) : stored;
    Hits& own = hits[data];
    own.stored = data;
    own.faults = &faults;
    (check ? own.checks : own.words) = {begin, end};
  }
  // A tensor is read anew where its scales may be.
  std::vector<std::size_t> scaled;
  for (const auto& [stored, own] : hits)
    if (tensors_[stored].kind == TensorClass::kScale)
      scaled.push_back(static_cast<std::size_t>(links_[stored].data));
  for (const std::size_t data : scaled) hits[data].stored = data;
  std::vector<Hits> all;
  for (const auto& [stored, own] : hits) all.push_back(own);
  return all;
}

Reading Memory::read(const FaultSpace& space, const Faults& faults,
                     std::size_t most_records) const {
  const std::vector<Hits> hits = hits_of(space, faults);
  Reading reading;
  if (faults.size() <= most_records) reading.records.resize(faults.size());
  std::map<std::size_t, std::vector<ReadChange>> scales;  // by the tensor that they scale
  for (const Hits& own : hits)
    if (tensors_[own.stored].kind == TensorClass::kScale)
      scales[static_cast<std::size_t>(links_[own.stored].data)] = read_scale(own, reading);
  static const std::vector<ReadChange> kNone;
  for (const Hits& own : hits) {
    if (tensors_[own.stored].kind == TensorClass::kScale) continue;
    const auto changed = scales.find(own.stored);
    read_data(own, changed == scales.end() ? kNone : changed->second, reading);
  }
  return reading;
}

namespace {

/// Reads the blocks of one tensor that were hit, in order.
class BlockReader {
 public:
  BlockReader(const Words& words, std::uint32_t stored, const std::vector<ReadChange>& scales,
              Reading& reading)
      : words_(words), stored_(stored), reading_(reading) {
    for (const ReadChange& change : scales) scales_[change.element] = change.faulty;
    next_row_ = scales_.begin();
  }

  /// Values of the scales that are read otherwise, in no block that was hit, up to this one.
  void rows_before(std::uint64_t element) {
    while (next_row_ != scales_.end()) {
      const NumberRange row = values_of_row(next_row_->first);
      next_ = std::max(next_, row.begin);
      for (; next_ < std::min(row.end, element); ++next_) {
        const ReadWord word{words_.word(next_), false};  // no fault, so that no code changes it
        compare(next_, word, word);
      }
      if (next_ < row.end) return;
      ++next_row_;
    }
  }

  /// `faults` of the block: [begin, end) of its words, [first, last) of its check word.
  void read_block(std::uint64_t block, const Faults* faults, std::size_t begin, std::size_t end,
                  std::size_t first, std::size_t last) {
    const NumberRange range = words_.values_of_block(block);
    clean_.encode_from(words_, range);
    faulty_.copy(clean_,
                 (range.end - range.begin) * static_cast<std::uint64_t>(words_.shape.copies));
    for (std::size_t i = begin; i < end; ++i) put((*faults)[i], range, i);
    for (std::size_t i = first; i < last; ++i) put_check((*faults)[i], i);
    clean_.decode(words_, range);
    faulty_.decode(words_, range);
    for (std::uint64_t element = range.begin; element < range.end; ++element)
      compare(element, clean_.read[element - range.begin], faulty_.read[element - range.begin]);
    next_ = std::max(next_, range.end);
  }

 private:
  NumberRange values_of_row(std::uint64_t row) const {
    const StoredTensor& tensor = words_.tensor;
    const bool by_row = tensor.layout.scale_per_row && tensor.row > 0;
    return by_row ? NumberRange{row * tensor.row, (row + 1) * tensor.row}
                  : NumberRange{0, tensor.values};
  }

  void record(std::size_t number, const FaultSite& site, Word before, Word after) {
    if (!reading_.records.empty()) reading_.records[number] = {site, before, after};
    reading_.masked += before == after ? 1 : 0;
  }

  void put(const FaultSite& site, const NumberRange& range, std::size_t number) {
    const auto copies = static_cast<std::uint64_t>(words_.shape.copies);
    const std::uint64_t element = quotient(site.element, copies);
    const std::uint64_t copy = site.element - element * copies;
    Word& word = faulty_.stored[copy * (range.end - range.begin) + element - range.begin];
    const Word before = word;
    const Word plain =
        site.effect == Effect::kValue ? stored_value(words_, element, decode({}, site.operand)) : 0;
    word = after_fault(site, word, words_.shape.stored_bits, plain);
    record(number, site, before, word);
  }

  void put_check(const FaultSite& site, std::size_t number) {
    const Word before = faulty_.check;
    // Check words store no value.
    faulty_.check = after_fault(site, before, words_.shape.check_bits, before);
    record(number, site, before, faulty_.check);
  }

  void compare(std::uint64_t element, const ReadWord& clean, const ReadWord& faulty) {
    reading_.words_wrong += faulty.flagged || faulty.word != clean.word ? 1 : 0;
    reading_.words_flagged += faulty.flagged ? 1 : 0;
    float scale = words_.scale(element);
    if (!scales_.empty()) {
      const auto changed = scales_.find(words_.row_of(element));
      if (changed != scales_.end()) scale = changed->second;
    }
    const float before = words_.values[element];
    const bool same = bits_of(scale) == bits_of(words_.scale(element)) && !faulty.flagged &&
                      faulty.word == clean.word;
    const float after = same ? before : read_value(words_, faulty, scale);
    if (bits_of(before) != bits_of(after))
      reading_.changes.push_back({stored_, element, before, after});
  }

  const Words& words_;
  std::uint32_t stored_;
  Reading& reading_;
  Block clean_, faulty_;
  std::map<std::uint64_t, float> scales_;  // by row, as they are read
  std::map<std::uint64_t, float>::iterator next_row_;
  std::uint64_t next_ = 0;  // the first value that is not read yet
};

}  // namespace

Word Memory::word(std::size_t tensor, std::uint64_t element) const {
  return words_of(tensor).word(element);
}

void Memory::read_data(const Hits& hits, const std::vector<ReadChange>& scales,
                       Reading& reading) const {
  const Words words = words_of(hits.stored);
  BlockReader reader(words, static_cast<std::uint32_t>(hits.stored), scales, reading);
  const auto copies = static_cast<std::uint64_t>(words.shape.copies);
  std::size_t word = hits.words.begin, check = hits.checks.begin;
  while (word < hits.words.end || check < hits.checks.end) {
    std::uint64_t block = UINT64_MAX;
    if (word < hits.words.end)
      block = words.block_of(quotient((*hits.faults)[word].element, copies));
    if (check < hits.checks.end) block = std::min(block, (*hits.faults)[check].element);
    const std::size_t first_word = word, first_check = check;
    while (word < hits.words.end &&
           words.block_of(quotient((*hits.faults)[word].element, copies)) == block)
      ++word;
    while (check < hits.checks.end && (*hits.faults)[check].element == block) ++check;
    reader.rows_before(words.values_of_block(block).begin);
    reader.read_block(block, hits.faults, first_word, word, first_check, check);
  }
  reader.rows_before(UINT64_MAX);
}

/// Scales are no values that the network sees: what they change is read with their tensors.
std::vector<ReadChange> Memory::read_scale(const Hits& hits, Reading& reading) const {
  const std::size_t before = reading.changes.size();
  read_data(hits, {}, reading);
  std::vector<ReadChange> scales(reading.changes.begin() + static_cast<std::ptrdiff_t>(before),
                                 reading.changes.end());
  reading.changes.resize(before);
  return scales;
}

}  // namespace sentinel
