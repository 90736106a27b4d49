#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <new>
#include <set>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/engine_path.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/outcome_counts.hpp"
#include "sentinel/core/portable_math.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes bytes;
  for (int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

TEST(Printable, IsOneLineWithoutControlCharacters) {
  EXPECT_EQ(printable("a \"b\" \\c"), "a \"b\" \\c");
  EXPECT_EQ(printable("schl\u00fcssel \"a\\b\""), "schl\u00fcssel \"a\\b\"");
  EXPECT_EQ(printable("x\ny\x1b[31m\"z\""), "x y\\u001b[31m\"z\"");
  EXPECT_EQ(printable("\xff"), "\ufffd");
  // DEL, the second set of control characters, and marks that turn the direction of text.
  EXPECT_EQ(printable("a\x7f\u009b2J\u202e\u2066z\u00e9\u4e2d"),
            "a\\u007f\\u009b2J\\u202e\\u2066z\u00e9\u4e2d");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a\\u0000b");
}

TEST(Printable, KeepsTheEndsOfLines) {
  EXPECT_EQ(printable_lines("a\x1b\n\nb"), "a\\u001b\n\nb");
  EXPECT_EQ(printable_lines("a\n"), "a\n");
  EXPECT_EQ(printable_lines(""), "");
}

TEST(Failure, SaysHowTheProgramEnds) {
  const auto of = [](auto throws) {
    try {
      throws();
    } catch (const std::exception& error) {
      return failure_of(error);
    }
    return Failure{ExitCode::kDone, ""};
  };
  const Failure own = of([] { throw DataError("net.pth", 7, "is cut"); });
  EXPECT_EQ(own.code, ExitCode::kData);
  EXPECT_EQ(own.message, "net.pth: at byte 7: is cut");
  const std::runtime_error torch("DefaultCPUAllocator: can't allocate memory: you tried ...");
  for (const Failure& memory : {of([] { throw std::bad_alloc(); }), of([&] { throw torch; })}) {
    EXPECT_EQ(memory.code, ExitCode::kEnvironment);
    EXPECT_EQ(memory.message.find("out of memory; "), 0u);
  }
  for (const char* text :
       {"CUDA out of memory. Tried to allocate 2.00 GiB\nmore", "HIP out of memory",
        "CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"}) {
    const Failure device = of([&] { throw std::runtime_error(text); });
    EXPECT_EQ(device.code, ExitCode::kEnvironment);
    EXPECT_EQ(device.message.find("out of device memory; "), 0u);
    EXPECT_EQ(device.message.find('\n'), std::string::npos);
  }
  const Failure bug = of([] { throw std::runtime_error("shapes differ"); });
  EXPECT_EQ(bug.code, ExitCode::kBug);
  EXPECT_EQ(bug.message.find("bug, please report: shapes differ"), 0u);
}

TEST(Rng, PhiloxKnownAnswer) {
  // Random123's kat_vectors, philox4x32 10 rounds, all counters and keys zero; our stream with zero
  // key differs in the purpose only, so the layout is pinned by the values after it.
  Rng rng({0, 0, 0, static_cast<Purpose>(0)});
  EXPECT_EQ(rng.bits32(), 0x6627e8d5u);
  EXPECT_EQ(rng.bits32(), 0xe169c58du);
  EXPECT_EQ(rng.bits32(), 0xbc57ac4cu);
  EXPECT_EQ(rng.bits32(), 0x9b00dbd8u);
}

TEST(Rng, KnownAnswerPinsTheLayout) {
  // Computed by an independent Philox4x32-10 (checked on Random123's vectors): two blocks of one
  // stream.
  Rng rng({0x299f31d0a4093822ull, 7, 0x00a1b2c3d4e5f607ull, Purpose::kCopyFaults});
  for (std::uint32_t expected : {0xe8300bf4u, 0xafb87b30u, 0x4b0b0f80u, 0xd6f2f037u, 0xbe5c29cfu,
                                 0xb30b1696u, 0x5cc1767fu, 0x8951ac87u})
    EXPECT_EQ(rng.bits32(), expected);
}

TEST(Rng, EveryPartOfTheKeyMakesAnotherStream) {
  const RngKey key{1, 2, 3, Purpose::kFaults};
  std::set<std::uint64_t> seen;
  for (const RngKey& k :
       {key, RngKey{2, 2, 3, Purpose::kFaults}, RngKey{1ull << 32 | 1, 2, 3, Purpose::kFaults},
        RngKey{1, 3, 3, Purpose::kFaults}, RngKey{1, 2, 4, Purpose::kFaults},
        RngKey{1, 2, 3 | 1ull << 40, Purpose::kFaults}, RngKey{1, 2, 3, Purpose::kCopyFaults}})
    seen.insert(Rng(k).bits64());
  EXPECT_EQ(seen.size(), 7u);
}

TEST(Rng, NetworksHaveStreamsOfTheirOwnWithinTheBounds) {
  EXPECT_EQ(point_of_network(7, 0), 7u);
  EXPECT_EQ(point_of_network(7, 3), 7u + (3u << 24));
  EXPECT_EQ(point_of_network((1u << 24) - 1, kMostNetworks - 1), UINT32_MAX);
  EXPECT_THROW(point_of_network(1u << 24, 0), Bug);
  EXPECT_THROW(point_of_network(0, kMostNetworks), Bug);
}

TEST(Rng, SameKeySameStream) {
  const RngKey key{42, 3, 1000, Purpose::kFaults};
  Rng a(key), b(key);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.bits64(), b.bits64());
}

TEST(Rng, BelowIsUniform) {
  Rng rng({7, 0, 0, Purpose::kShuffle});
  std::array<int, 6> counts{};
  const int draws = 60000;
  for (int i = 0; i < draws; ++i) ++counts.at(rng.below(6));
  double chi2 = 0;
  for (int count : counts) chi2 += std::pow(count - draws / 6.0, 2) / (draws / 6.0);
  EXPECT_LT(chi2, 25.7);  // 99.99 % quantile with 5 degrees of freedom
}

TEST(Rng, PermutationHoldsEveryNumberOnce) {
  auto order = Rng({1, 2, 3, Purpose::kShuffle}).permutation(100);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Rng, NormalHasUnitVariance) {
  Rng rng({5, 0, 0, Purpose::kSynthetic});
  const int n = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const double x = rng.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2.0 / n));
}

/// Distance in units of the last place of `expected`.
double ulps(double value, double expected) {
  const double unit = std::nextafter(std::abs(expected), INFINITY) - std::abs(expected);
  return std::abs(value - expected) / unit;
}

TEST(PortableMath, LogIsWithinFourUlp) {
  Rng rng({11, 0, 0, Purpose::kSynthetic});
  double worst = 0;
  const auto check = [&](double x) { worst = std::max(worst, ulps(portable_log(x), std::log(x))); };
  for (int i = 0; i < 100000; ++i) {
    check(rng.uniform_positive());
    check(std::ldexp(1 + rng.uniform(), static_cast<int>(rng.below(2000)) - 1000));
    check(1 + std::ldexp(rng.uniform() - 0.5, -static_cast<int>(rng.below(52))));
  }
  for (const double x : {std::numeric_limits<double>::denorm_min(), 0x1p-1022, 0x1p-53, 0.5, 2.0,
                         M_SQRT1_2, M_SQRT2, std::numeric_limits<double>::max()})
    check(x);
  EXPECT_LE(worst, 4);
  EXPECT_EQ(portable_log(1), 0);
}

TEST(PortableMath, Log1pIsWithinFourUlp) {
  Rng rng({13, 0, 0, Purpose::kSynthetic});
  double worst = 0;
  const auto check = [&](double x) {
    worst = std::max(worst, ulps(portable_log1p(x), std::log1p(x)));
  };
  for (int i = 0; i < 100000; ++i) {
    const double x = std::ldexp(rng.uniform_positive(), -static_cast<int>(rng.below(1000)));
    check(x);
    if (x < 1) check(-x);
  }
  EXPECT_LE(worst, 4);
  EXPECT_EQ(portable_log1p(-1), -INFINITY);
  const double tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(portable_log1p(-tiny), -tiny);
}

// To the last bit: another value here means other fault sites than on other machines.
TEST(PortableMath, KnownAnswers) {
  EXPECT_EQ(portable_log(0.3), -0x1.34378fcbda721p+0);
  EXPECT_EQ(portable_log(3), 0x1.193ea7aad030ap+0);
  EXPECT_EQ(portable_log(1e-10), -0x1.7069e2aa2aa5bp+4);
  EXPECT_EQ(portable_log1p(-1e-8), -0x1.5798ee3fdb764p-27);
  EXPECT_EQ(portable_log1p(-0.26), -0x1.3454e4b8a9f9p-2);
}

TEST(Bytes, ReaderNeverPassesTheEnd) {
  const Bytes bytes = bytes_of({1, 0, 0, 0, 9});
  ByteReader reader(bytes, "some.bin");
  EXPECT_EQ(reader.read<std::uint32_t>(), 1u);
  try {
    reader.read<std::uint32_t>();
    FAIL() << "read past the end";
  } catch (const DataError& error) {
    EXPECT_EQ(std::string(error.what()).rfind("some.bin: at byte 4:", 0), 0u) << error.what();
  }
}

TEST(Bytes, ListLongerThanDataIsRefused) {
  ByteWriter writer;
  writer.write<std::uint64_t>(~0ull);
  const Bytes bytes = writer.take();
  ByteReader reader(bytes, "some.bin");
  EXPECT_THROW(read_vector<std::int64_t>(reader), DataError);
}

TEST(Hash, KnownAnswer) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 sha;
  sha.update("a");
  sha.update("bc");
  EXPECT_EQ(sha.hex(), sha256_hex("abc"));
}

TEST(Settings, MessagesSpellThemAsChosen) {
  const auto message = [] { return failure_of(std::bad_alloc()).message; };
  EXPECT_EQ(spelled(Setting::kHalfWidth), "half-width");
  EXPECT_NE(message().find("a smaller batch-size or cache-budget"), std::string::npos);
  spell_settings([](Setting setting) { return "<" + plain_name(setting) + ">"; });
  EXPECT_EQ(spelled(Setting::kHalfWidth), "<half-width>");
  EXPECT_NE(message().find("a smaller <batch-size> or <cache-budget>"), std::string::npos);
  spell_settings(plain_name);
}

TEST(File, AtomicWriteReplacesAndReadsBack) {
  const std::string path = ::testing::TempDir() + "sentinel_core_file";
  write_file_atomic(path, std::string_view("first"));
  write_file_atomic(path, std::string_view("second"));
  EXPECT_EQ(read_file(path), (Bytes{std::byte{'s'}, std::byte{'e'}, std::byte{'c'}, std::byte{'o'},
                                    std::byte{'n'}, std::byte{'d'}}));
  EXPECT_THROW(read_file(path, 3), DataError);
  sync_parent(path);
  std::filesystem::remove(path);
  EXPECT_THROW(read_file(path), DataError);
  EXPECT_THROW(read_file(::testing::TempDir()), DataError);
  EXPECT_THROW(sync_parent("/nonexistent/file"), EnvironmentError);
  EXPECT_THROW(write_file_atomic("/nonexistent/file", std::string_view("x")), EnvironmentError);
}

TEST(OutcomeCounts, AreComparedInEveryCount) {
  OutcomeCounts some{8, 7, 6, 5, 4, 3, 2, 1};
  EXPECT_EQ(values_of(some), (std::array<std::uint32_t, 8>{8, 7, 6, 5, 4, 3, 2, 1}));
  EXPECT_EQ(largest_difference(some, some), 0u);
  for (std::uint32_t OutcomeCounts::*count :
       {&OutcomeCounts::images, &OutcomeCounts::correct, &OutcomeCounts::top5,
        &OutcomeCounts::masked, &OutcomeCounts::sdc_noncritical, &OutcomeCounts::sdc_critical,
        &OutcomeCounts::due, &OutcomeCounts::correct_argmax}) {
    OutcomeCounts other = some;
    other.*count += 9;
    EXPECT_EQ(largest_difference(some, other), 9u);
    EXPECT_EQ(largest_difference(other, some), 9u);
  }
}

TEST(Words, AreReadAndRefusedByName) {
  EXPECT_EQ(parse_engine(Setting::kEngine, "fast"), EnginePath::kFast);
  EXPECT_EQ(engine_name(EnginePath::kReference), "reference");
  EXPECT_THROW(engine_name(static_cast<EnginePath>(2)), Bug);
  try {
    parse_engine(Setting::kEngine, "slow");
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "engine slow is unknown; choose fast or reference");
  }
}

}  // namespace
}  // namespace sentinel
