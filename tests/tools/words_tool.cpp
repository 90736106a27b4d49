// Drives the module words from Python: binary arrays on standard input and output.
//
//   words_tool scale  LAYOUT   f32 amax                        -> f32 scale
//   words_tool encode LAYOUT   f32 value, f32 scale            -> u64 word
//   words_tool decode LAYOUT   u64 word, f32 scale, f32 unused -> f32 value
//   words_tool store  LAYOUT   u64 words of blocks             -> u64 stored words, check word
//   words_tool read   LAYOUT   u64 stored words, check word    -> u64 word, u64 flagged
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "sentinel/words/layout.hpp"

namespace sentinel {
namespace {

struct ValueAndScale {
  float value, scale;
};
struct WordAndScale {
  Word word;
  float scale, unused;
};

/// Reads `size` elements at once until the input ends.
template <class T>
bool take(std::vector<T>& elements, std::size_t size) {
  elements.resize(size);
  return std::fread(elements.data(), sizeof(T), size, stdin) == size;
}

template <class T>
void give(const std::vector<T>& elements) {
  std::fwrite(elements.data(), sizeof(T), elements.size(), stdout);
}

/// One element of output for one of input.
template <class From, class To, class F>
void each(F&& f) {
  std::vector<From> in;
  while (take(in, 1)) give(std::vector<To>{f(in[0])});
}

void store(const Layout& layout) {
  const BlockShape shape = block_shape(layout);
  std::vector<Word> words;
  while (take(words, static_cast<std::size_t>(shape.words))) {
    std::vector<Word> stored(words.size() * static_cast<std::size_t>(shape.copies) + 1);
    encode_block(layout, words.data(), shape.words, stored.data(), &stored.back());
    give(stored);
  }
}

void read(const Layout& layout) {
  const BlockShape shape = block_shape(layout);
  const auto count = static_cast<std::size_t>(shape.words);
  std::vector<Word> stored;
  while (take(stored, count * static_cast<std::size_t>(shape.copies) + 1)) {
    std::vector<ReadWord> words(count);
    decode_block(layout, stored.data(), shape.words, stored.back(), words.data());
    std::vector<Word> out;
    for (const ReadWord& word : words) {
      out.push_back(word.word);
      out.push_back(word.flagged);
    }
    give(out);
  }
}

int run(const std::string& command, const Layout& layout) {
  const NumberFormat& format = layout.format;
  if (command == "scale")
    each<float, float>([&](float amax) { return scale_of(format, amax); });
  else if (command == "encode")
    each<ValueAndScale, Word>([&](ValueAndScale in) { return encode(format, in.value, in.scale); });
  else if (command == "decode")
    each<WordAndScale, float>([&](WordAndScale in) { return decode(format, in.word, in.scale); });
  else if (command == "store")
    store(layout);
  else if (command == "read")
    read(layout);
  else
    return 64;
  return 0;
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  try {
    return sentinel::run(argv[1], sentinel::parse_layout(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 64;
  }
}
