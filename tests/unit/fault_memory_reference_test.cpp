#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>

#include "sentinel/fault/memory.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"

// Memory reads the blocks that were hit; here all of memory is encoded, hit and decoded.

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 17;

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

/// All words of one tensor: of its originals, then of the copies of duplicated channels.
struct Image {
  struct Block {
    std::uint64_t first, count;  // values
    std::vector<Word> stored;    // [copies][count]
    Word check = 0;
  };
  std::vector<Block> blocks;
  std::vector<float> values;
};

/// The network's memory as its layouts say, in the order of stored_tensors().
class Full {
 public:
  explicit Full(const Graph& graph) : tensors_(stored_tensors(graph)), images_(tensors_.size()) {
    for (std::size_t t = 0; t < tensors_.size(); ++t) number_[tensors_[t].name] = t;
    for (std::size_t t = 0; t < tensors_.size(); ++t) {
      if (tensors_[t].kind == TensorClass::kCheck) continue;
      const at::Tensor values = values_of(graph, tensors_[t]).contiguous();
      images_[t].values.assign(values.data_ptr<float>(), values.data_ptr<float>() + values.numel());
    }
    for (std::size_t t = 0; t < tensors_.size(); ++t)
      if (tensors_[t].kind != TensorClass::kCheck) encode_all(t);
  }

  void hit(const FaultSpace& space, const FaultSite& site) {
    const FaultTensor& tensor = space.tensors()[site.tensor];
    Word mask = 0;
    for (int bit = site.bit; bit < std::min(site.bit + site.length, tensor.word_bits); ++bit)
      mask |= Word{1} << bit;
    word_at(tensor.stored, site.element) ^= mask;
  }

  /// The values of a tensor as they are read; counts words that are read wrongly, and flagged.
  std::vector<float> read(std::size_t t, std::uint32_t& wrong, std::uint32_t& flagged) const {
    const Layout& layout = tensors_[t].layout;
    std::uint32_t unused = 0;
    const auto scale = number_.find(tensors_[t].name + "_scale");
    std::vector<float> scales;
    if (scale != number_.end()) scales = read(scale->second, unused, unused);
    std::vector<float> values;
    for (const Image::Block& block : images_[t].blocks) {
      std::vector<ReadWord> words(block.count);
      for (std::uint64_t i = 0; i < block.count; ++i) words[i] = {block.stored[i], false};
      if (layout.code)
        decode_block(layout, block.stored.data(), static_cast<int>(block.count), block.check,
                     words.data());
      for (std::uint64_t i = 0; i < block.count; ++i) {
        const std::uint64_t element = block.first + i;
        wrong += words[i].flagged || words[i].word != word(t, element) ? 1 : 0;
        flagged += words[i].flagged ? 1 : 0;
        const float own = scales.empty() ? 1 : scales[row_of(t, element)];
        values.push_back(words[i].flagged ? 0 : decode(layout.format, words[i].word, own));
      }
    }
    return values;
  }

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const std::vector<float>& clean(std::size_t t) const { return images_[t].values; }

 private:
  std::uint64_t row_of(std::size_t t, std::uint64_t element) const {
    return tensors_[t].layout.scale_per_row ? element / tensors_[t].row : 0;
  }
  Word word(std::size_t t, std::uint64_t element) const {
    const auto scale = number_.find(tensors_[t].name + "_scale");
    const float own =
        scale == number_.end() ? 1 : images_[scale->second].values[row_of(t, element)];
    return encode(tensors_[t].layout.format, images_[t].values[element], own);
  }

  void encode_all(std::size_t t) {
    const StoredTensor& tensor = tensors_[t];
    const BlockShape shape = block_shape(tensor.layout);
    const auto words = static_cast<std::uint64_t>(shape.words);
    for (std::uint64_t first = 0; first < tensor.values;) {
      const std::uint64_t end = first < tensor.originals ? tensor.originals : tensor.values;
      const std::uint64_t count = std::min(words, end - first);
      std::vector<Word> plain;
      for (std::uint64_t i = 0; i < count; ++i) plain.push_back(word(t, first + i));
      Image::Block block{first, count,
                         std::vector<Word>(count * static_cast<std::uint64_t>(shape.copies)), 0};
      encode_block(tensor.layout, plain.data(), static_cast<int>(count), block.stored.data(),
                   &block.check);
      images_[t].blocks.push_back(std::move(block));
      first += count;
    }
  }

  Word& word_at(std::size_t t, std::uint64_t element) {
    const std::string& name = tensors_[t].name;
    if (tensors_[t].kind == TensorClass::kCheck)
      return images_[number_.at(name.substr(0, name.size() - 6))].blocks.at(element).check;
    const auto copies = static_cast<std::uint64_t>(block_shape(tensors_[t].layout).copies);
    const std::uint64_t value = element / copies, copy = element % copies;
    for (Image::Block& block : images_[t].blocks)
      if (value < block.first + block.count)
        return block.stored[copy * block.count + value - block.first];
    throw std::out_of_range(name);
  }

  std::vector<StoredTensor> tensors_;
  std::vector<Image> images_;
  std::map<std::string, std::size_t> number_;
};

struct Storing {
  const char *weight, *others, *scales;
};
const Storing kStorings[] = {{"fp32", "fp16+repeat:3", "fp32"},
                             {"int8:channel", "fp32", "fp16"},
                             {"int5:tensor+bch:16,5", "fp16+repeat:3", "fp16+repeat:3"},
                             {"int8:channel+secded:64,zero", "bf16", "fp32"},
                             {"int4:channel+secded:128", "fp32+repeat:5", "fp16"},
                             {"fp8:e5m2:tensor+spw", "int8:tensor", "fp32+repeat:3"},
                             {"fp32+cep:d3", "fp32+tmr:sign-exponent", "fp32"},
                             {"int7:channel+zero-space", "fixed:15.16", "fp32"}};

Graph stored(const Storing& how) {
  Graph graph = test::hardened(test::residual_net(), test::random_images(8).images, true);
  test::bound_weights(graph, true);
  const bool scaled = has_scale(parse_layout(how.others).format);
  for (const StoredTensor& tensor : stored_tensors(graph)) {
    const bool weight = tensor.kind == TensorClass::kWeight;
    if (scaled && tensor.kind == TensorClass::kBound) continue;
    store_as(graph, tensor.name, parse_layout(weight ? how.weight : how.others),
             parse_layout(how.scales));
  }
  return graph;
}

void compare(const Graph& graph, const FaultSpace& space, const Faults& faults,
             const std::string& name) {
  const Reading reading = Memory(graph).read(space, faults);
  Full full(graph);
  for (const FaultSite& site : faults) full.hit(space, site);
  std::uint32_t wrong = 0, flagged = 0;
  std::size_t next = 0;
  for (std::size_t t = 0; t < full.tensors().size(); ++t) {
    const TensorClass kind = full.tensors()[t].kind;
    if (kind == TensorClass::kCheck) continue;
    const std::vector<float> read = full.read(t, wrong, flagged);
    if (kind == TensorClass::kScale) continue;  // no value that the network sees
    for (std::uint64_t element = 0; element < read.size(); ++element) {
      if (bits_of(read[element]) == bits_of(full.clean(t)[element])) continue;
      ASSERT_LT(next, reading.changes.size()) << name << " " << full.tensors()[t].name;
      const ReadChange& change = reading.changes[next++];
      ASSERT_EQ(change.stored, t) << name;
      ASSERT_EQ(change.element, element) << name << " " << full.tensors()[t].name;
      ASSERT_EQ(bits_of(change.faulty), bits_of(read[element])) << name;
    }
  }
  EXPECT_EQ(next, reading.changes.size()) << name;
  EXPECT_EQ(reading.words_wrong, wrong) << name;
  EXPECT_EQ(reading.words_flagged, flagged) << name;
}

TEST(Memory, ReadsWhatDecodingAllOfItGives) {
  Selection all;
  all.targets = parse_targets({"parameters"});
  FaultModel burst;
  parse_shape("mbu:0.4,0.3,0.3", burst);
  for (const Storing& how : kStorings) {
    const Graph graph = stored(how);
    const FaultSpace space(graph, all);
    for (const double ber : {1e-4, 1e-3, 2e-2})
      for (const bool bursts : {false, true}) {
        const RngKey key{kSeed, 0, bursts ? 1u : 0u};
        Faults faults = draw(BinomialFaults{ber}, space, key);
        if (bursts) give_effects(burst, faults, key);
        compare(graph, space, faults, std::string(how.weight) + " " + how.others);
      }
  }
}

}  // namespace
}  // namespace sentinel
