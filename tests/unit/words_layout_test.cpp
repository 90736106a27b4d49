#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/words/layout.hpp"

namespace sentinel {
namespace {

TEST(LayoutNames, ComeBack) {
  for (const char* name : {"fp32",
                           "fp16",
                           "bf16",
                           "fp8:e4m3:channel",
                           "fp8:e5m2:tensor",
                           "int2:channel",
                           "int8:tensor",
                           "int26:channel",
                           "fixed:15.16",
                           "fixed:15.16,trunc",
                           "fixed:0.1",
                           "fixed:63.0",
                           "fp16+repeat:7",
                           "fp32+repeat:31",
                           "fp32+mset",
                           "fp16+cep:d15",
                           "int8:channel+parity",
                           "fp32+tmr:31,30,26,25,24",
                           "fp32+tmr:sign-exponent",
                           "fp32+secded:64",
                           "int8:tensor+secded:128,zero",
                           "fp32+spw",
                           "int7:channel+zero-space",
                           "int5:channel+bch:16,5",
                           "fp16+bch:32,16",
                           "fixed:15.16,trunc+repeat:3"}) {
    const Layout layout = parse_layout(name);
    EXPECT_EQ(layout_name(layout), name);
    EXPECT_EQ(parse_layout(layout_name(layout)), layout);
  }
}

TEST(LayoutNames, StateTheScalesThatAreMeantWhereNoneAreNamed) {
  EXPECT_EQ(layout_name(parse_layout("int5+bch:16,5")), "int5:channel+bch:16,5");
  EXPECT_EQ(layout_name(parse_layout("fp8:e4m3")), "fp8:e4m3:channel");
}

/// The message of the refusal.
std::string refusal(const std::string& layout) {
  try {
    parse_layout(layout);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(LayoutNames, AreReadStrictly) {
  for (const char* wrong : {"",
                            "fp",
                            "FP32",
                            "fp32 ",
                            " fp32",
                            "fp32:",
                            "fp8",
                            "fp8:e3m4",
                            "int",
                            "int1",
                            "int9",
                            "int08",
                            "int+8",
                            "int8:",
                            "int8:row",
                            "int8:channel:tensor",
                            "fp32:channel",
                            "fixed",
                            "fixed:",
                            "fixed:1",
                            "fixed:1.",
                            "fixed:.1",
                            "fixed:1.2.3",
                            "fixed:01.2",
                            "fixed:-1.2",
                            "fixed:0.0",
                            "fixed:40.40",
                            "fixed:3.12,cut",
                            "fixed:3.12:tensor",
                            "fp32+",
                            "+mset",
                            "fp32+mset+mset",
                            "fp32+mset ",
                            "fp32+mset,",
                            "fp32+cep",
                            "fp32+cep:3",
                            "fp32+cep:d4",
                            "fp32+repeat",
                            "fp32+repeat:",
                            "fp32+repeat:1",
                            "fp32+repeat:4",
                            "fp32+repeat:33",
                            "fp32+repeat:03",
                            "fp32+repeat:3x",
                            "fp32+tmr:",
                            "fp32+tmr:30,",
                            "fp32+tmr:sign",
                            "fp32+secded",
                            "fp32+secded:32",
                            "fp32+secded:64,",
                            "int4+bch:8,5",
                            "int4+bch:8",
                            "int4+bch:8,4,",
                            "int4+bch:08,4"})
    EXPECT_THAT(refusal(wrong), testing::StartsWith("layout '" + std::string(wrong) + "': "));
}

TEST(LayoutNames, AreRefusedWhereTheCodeDoesNotFit) {
  for (const auto& [wrong, why] : std::vector<std::pair<const char*, const char*>>{
           {"bf16+mset", "needs fp32 or fp16"},
           {"int8+cep:d3", "needs fp32 or fp16"},
           {"fp8:e4m3+parity", "would become NaN"},
           {"fp8:e4m3+tmr:6", "would become NaN"},
           {"int26+parity", "more than 24 bits"},
           {"fixed:15.16+tmr:31", "more than 24 bits"},
           {"fp16+tmr:sign-exponent", "needs fp32"},
           {"fp16+tmr:16", "highest is 15"},
           {"fp32+tmr:30,30", "named twice"},
           {"fp32+tmr:30,3", "would be overwritten"},
           {"bf16+tmr:15,14,13,12", "more than the mantissa"},
           {"int5+secded:64", "5 bits, which do not divide 64; take a format of 2, 4, 8"},
           {"int5+spw", "32, 16 or 8 bits"},
           {"int8+zero-space", "it needs int7"},
           {"int6+bch:16,5", "words of 5 bits, these have 6; take int5"},
           {"fp32+bch:32,6", "words of 6 bits, these have 32"}}) {
    EXPECT_THAT(refusal(wrong), testing::StartsWith("layout '" + std::string(wrong) + "': "));
    EXPECT_THAT(refusal(wrong), testing::HasSubstr(why));
  }
}

TEST(LayoutNames, ThatAreWrongLeadToThoseThatExist) {
  EXPECT_EQ(refusal("int9"),
            "layout 'int9': there is no format 'int9'; formats are fp32, fp16, bf16, fp8:e4m3, "
            "fp8:e5m2, int2 to int8, int11, int12, int16, int21, int26 and fixed:I.F[,trunc]");
  EXPECT_THAT(refusal("int4+bch:8,5"),
              testing::HasSubstr("8,4 16,5 16,7 16,11 32,6 32,11 32,16 32,21 32,26"));
}

TEST(Layouts, SayWhatTheyAre) {
  EXPECT_TRUE(is_plain(parse_layout("fp32")));
  EXPECT_FALSE(is_plain(parse_layout("fp32+mset")));
  EXPECT_FALSE(is_plain(parse_layout("fp16")));
  for (const char* name :
       {"fp32", "fp32+mset", "fp32+cep:d3", "fp32+tmr:30", "fp16+repeat:3", "fp32+secded:64"})
    EXPECT_FALSE(may_flag(parse_layout(name))) << name;
  for (const char* name :
       {"int8+parity", "fp32+secded:64,zero", "fp32+spw", "int7+zero-space", "int4+bch:8,4"})
    EXPECT_TRUE(may_flag(parse_layout(name))) << name;
  EXPECT_FALSE(codes_incomplete_blocks(parse_layout("int7+zero-space")));
  EXPECT_TRUE(codes_incomplete_blocks(parse_layout("fp32+secded:64")));
}

TEST(Layouts, StateTheBitsThatTheyStore) {
  const auto bits = [](const char* name) {
    const BlockShape shape = block_shape(parse_layout(name));
    return (shape.stored_bits * shape.copies * shape.words + shape.check_bits) / shape.words;
  };
  EXPECT_EQ(bits("fp32"), 32);
  EXPECT_EQ(bits("fp16+repeat:7"), 112);
  EXPECT_EQ(bits("fp32+secded:64"), 36);
  EXPECT_EQ(block_shape(parse_layout("fp32+secded:128")).check_bits, 9);
  EXPECT_EQ(bits("int8+secded:64"), 9);
  EXPECT_EQ(bits("fp32+spw"), 39);
  EXPECT_EQ(bits("fp16+spw"), 22);
  EXPECT_EQ(bits("int8+spw"), 13);
  EXPECT_EQ(bits("int7+zero-space"), 8);
  EXPECT_EQ(bits("int6+bch:32,6"), 32);
}

/// As the words themselves say.
TEST(KeptWords, AreThoseThatAreReadAsTheyWere) {
  for (const char* name :
       {"int8", "fp16+repeat:7", "fp32+mset", "fp16+mset", "fp32+cep:d3", "int8+parity",
        "fp32+tmr:sign-exponent", "int8+tmr:7", "int8+secded:64", "int8+secded:128,zero",
        "int8+spw", "int7+zero-space", "int5+bch:16,5"}) {
    const Layout layout = parse_layout(name);
    const BlockShape shape = block_shape(layout);
    std::uint64_t state = 1;
    bool same = true;
    for (int trial = 0; trial < 100; ++trial) {
      std::vector<Word> words(static_cast<std::size_t>(shape.words));
      for (Word& word : words) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        word = state >> (64 - word_bits(layout.format));
        // int7 has no -64, which zero-space could not store
        if (layout.format.integer == 7 && word == 64) word = 0;
      }
      std::vector<Word> stored(words.size() * static_cast<std::size_t>(shape.copies));
      std::vector<ReadWord> read(words.size());
      Word check = 0;
      encode_block(layout, words.data(), shape.words, stored.data(), &check);
      decode_block(layout, stored.data(), shape.words, check, read.data());
      for (std::size_t i = 0; i < words.size(); ++i)
        same = same && !read[i].flagged && read[i].word == words[i];
    }
    EXPECT_EQ(keeps_words(layout), same) << name;
  }
}

}  // namespace
}  // namespace sentinel
