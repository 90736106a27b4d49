#include "sentinel/core/error.hpp"
#include "sentinel/words/layout.hpp"
#include "words/bch.hpp"
#include "words/hamming.hpp"
#include "words/in_place.hpp"

namespace sentinel {
namespace {

using Kind = Code::Kind;

/// out[i] = code(in[i])
template <class To, class Coder>
void map(const Word* in, int count, To* out, Coder&& code) {
  for (int i = 0; i < count; ++i) out[i] = code(in[i]);
}

ReadWord unflagged(Word word) {
  return {word, false};
}

}  // namespace

BlockShape block_shape(const Layout& layout) {
  const int width = word_bits(layout.format);
  if (!layout.code) return {1, 1, width, 0};
  const Code& code = *layout.code;
  switch (code.kind) {
    case Kind::kRepeat:
      return {1, code.n, width, 0};
    case Kind::kMset:
    case Kind::kCep:
    case Kind::kParity:
    case Kind::kTmr:
      return {1, 1, width, 0};
    case Kind::kSecded:
      return {code.n / width, 1, width, hamming_check_bits(code.n)};
    case Kind::kSpw:
      return {1, 1, width + hamming_check_bits(width), 0};
    case Kind::kZeroSpace:
      return {8, 1, 8, 0};
    case Kind::kBch:
      return {1, 1, code.n, 0};
  }
  return {};
}

bool codes_incomplete_blocks(const Layout& layout) {
  return !layout.code || layout.code->kind != Kind::kZeroSpace;
}

bool keeps_words(const Layout& layout) {
  if (!layout.code) return true;
  switch (layout.code->kind) {
    case Kind::kMset:
    case Kind::kCep:
    case Kind::kParity:
    case Kind::kTmr:
      return false;
    case Kind::kRepeat:
    case Kind::kSecded:
    case Kind::kSpw:
    case Kind::kZeroSpace:
    case Kind::kBch:
      return true;
  }
  throw Bug("unknown code");
}

bool may_flag(const Layout& layout) {
  if (!layout.code) return false;
  switch (layout.code->kind) {
    case Kind::kRepeat:
    case Kind::kMset:
    case Kind::kCep:
    case Kind::kTmr:
      return false;
    case Kind::kSecded:
      return layout.code->zero;
    case Kind::kParity:
    case Kind::kSpw:
    case Kind::kZeroSpace:
    case Kind::kBch:
      return true;
  }
  return false;
}

void encode_block(const Layout& layout, const Word* words, int count, Word* stored, Word* check) {
  const auto each = [&](auto&& coder) { map(words, count, stored, coder); };
  const auto as_it_is = [](Word word) { return word; };
  if (!layout.code) return each(as_it_is);
  const Code& code = *layout.code;
  const int width = word_bits(layout.format);
  switch (code.kind) {
    case Kind::kRepeat:
      for (int copy = 0; copy < code.n; ++copy, stored += count)
        map(words, count, stored, as_it_is);
      return;
    case Kind::kMset:
      return each([&](Word word) { return mset_encode(width, word); });
    case Kind::kCep:
      return each([&](Word word) { return cep_encode(width, code.n, word); });
    case Kind::kParity:
      return each(parity_encode);
    case Kind::kTmr:
      return each([&](Word word) { return tmr_encode(code, word); });
    case Kind::kSecded:
      each(as_it_is);
      *check = secded_check(width, words, count);
      return;
    case Kind::kSpw:
      return each([&](Word word) { return spw_encode(width, word); });
    case Kind::kZeroSpace:
      return zero_space_encode(words, count, stored);
    case Kind::kBch:
      return each([&bch = bch_code(code.n, code.k)](Word word) { return bch.encode(word); });
  }
}

void decode_block(const Layout& layout, const Word* stored, int count, Word check,
                  ReadWord* words) {
  const auto each = [&](auto&& coder) { map(stored, count, words, coder); };
  if (!layout.code) return each(unflagged);
  const Code& code = *layout.code;
  const int width = word_bits(layout.format);
  switch (code.kind) {
    case Kind::kRepeat:
      for (int i = 0; i < count; ++i) words[i] = unflagged(majority(stored + i, count, code.n));
      return;
    case Kind::kMset:
      return each([&](Word word) { return unflagged(mset_decode(width, word)); });
    case Kind::kCep:
      return each([&](Word word) { return unflagged(cep_decode(width, code.n, word)); });
    case Kind::kParity:
      return each(parity_decode);
    case Kind::kTmr:
      return each([&](Word word) { return unflagged(tmr_decode(code, word)); });
    case Kind::kSecded:
      return secded_decode(width, code.zero, stored, count, check, words);
    case Kind::kSpw:
      return each([&](Word word) { return spw_decode(width, word); });
    case Kind::kZeroSpace:
      return zero_space_decode(stored, count, words);
    case Kind::kBch:
      return each([&bch = bch_code(code.n, code.k)](Word word) { return bch.decode(word); });
  }
}

bool is_message_bit(const Layout& layout, int bit) {
  if (!layout.code) return true;
  const Code& code = *layout.code;
  switch (code.kind) {
    case Kind::kRepeat:
    case Kind::kSecded:
      return true;
    case Kind::kMset:
      return bit >= 2;
    case Kind::kCep:
      return bit >= cep_chunks(word_bits(layout.format), code.n);
    case Kind::kParity:
      return bit >= 1;
    case Kind::kTmr:
      return bit >= tmr_check_bits(code);
    case Kind::kSpw:
      return is_spw_message_bit(bit);
    case Kind::kZeroSpace:
      return bit != 6;
    case Kind::kBch:
      return bit >= code.n - 1 - code.k && bit < code.n - 1;
  }
  return true;
}

}  // namespace sentinel
