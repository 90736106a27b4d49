// The same laws for Comm::local() (run without mpirun) and Comm::world() (run with mpirun -n 3).
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <numeric>
#include <set>
#include <thread>

#include "sentinel/comm/comm.hpp"
#include "sentinel/comm/pool.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

const Comm* world = nullptr;  // set by main, as MPI may be initialised once only

Bytes number(std::uint64_t n) {
  ByteWriter writer;
  writer.write(n);
  return writer.take();
}

std::uint64_t number_in(const Bytes& bytes) {
  return ByteReader(bytes, "number").read<std::uint64_t>();
}

/// Hands out 0 … count-1.
NextChunk numbers_below(std::uint64_t count, std::uint64_t& next) {
  return [count, &next]() -> std::optional<Bytes> {
    if (next == count) return std::nullopt;
    return number(next++);
  };
}

TEST(Pool, EveryChunkIsWorkedOnceAndSunkOnRankZero) {
  for (bool dedicated : {false, true}) {
    if (dedicated && world->size() == 1) continue;
    std::uint64_t next = 0;
    std::vector<std::uint64_t> sunk;
    run_pool(
        *world, numbers_below(1000, next),
        [](const Bytes& chunk) { return number(number_in(chunk) * 2); },
        [&](const Bytes& result) { sunk.push_back(number_in(result)); }, {dedicated});
    if (world->rank() != 0) {
      EXPECT_TRUE(sunk.empty());
      continue;
    }
    std::sort(sunk.begin(), sunk.end());
    ASSERT_EQ(sunk.size(), 1000u);
    for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_EQ(sunk[i], 2 * i);
  }
}

TEST(Pool, EveryRankWorks) {
  std::uint64_t next = 0;
  std::set<std::uint64_t> ranks;
  run_pool(
      *world, numbers_below(30, next),
      [](const Bytes&) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return number(static_cast<std::uint64_t>(world->rank()));
      },
      [&](const Bytes& result) { ranks.insert(number_in(result)); });
  if (world->rank() == 0) {
    EXPECT_EQ(ranks.size(), static_cast<std::size_t>(world->size()));
  }
}

TEST(Pool, LargeMessagesArriveWhole) {
  std::uint64_t next = 0;
  run_pool(
      *world, numbers_below(6, next),
      [](const Bytes& chunk) { return Bytes(5'000'000, static_cast<std::byte>(number_in(chunk))); },
      [&](const Bytes& result) {
        ASSERT_EQ(result.size(), 5'000'000u);
        EXPECT_EQ(result.front(), result.back());
      });
}

TEST(Pool, AnErrorOfWorkReachesEveryRankWithItsCode) {
  std::uint64_t next = 0;
  try {
    run_pool(
        *world, numbers_below(100, next),
        [](const Bytes& chunk) {
          if (number_in(chunk) == 17) throw DataError("images.bin", 5, "broken");
          return chunk;
        },
        [](const Bytes&) {});
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_STREQ(error.what(), "images.bin: at byte 5: broken");
  }
}

TEST(Pool, AnErrorOfTheSinkReachesEveryRank) {
  std::uint64_t next = 0;
  const auto sink = [](const Bytes&) { throw EnvironmentError("disk full"); };
  try {
    run_pool(
        *world, numbers_below(100, next), [](const Bytes& chunk) { return chunk; }, sink);
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kEnvironment);
  } catch (const EnvironmentError&) {
    EXPECT_EQ(world->size(), 1);  // inline there is nobody to share it with
  }
}

TEST(Pool, StopSeenByAnyRankReachesAll) {
  std::uint64_t next = 0;
  std::uint64_t sunk = 0;
  const auto first = [&]() -> std::optional<Bytes> {
    if (stop_signal() != 0 || next == 100000) return std::nullopt;
    return number(next++);
  };
  run_pool(
      *world, first,
      [](const Bytes& chunk) {
        if (world->rank() == world->size() - 1) request_stop(SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        return chunk;
      },
      [&](const Bytes&) { ++sunk; });
  EXPECT_EQ(stop_signal(), SIGUSR1);
  if (world->rank() == 0) {
    EXPECT_EQ(sunk, next);  // what was handed out was finished
    EXPECT_LT(next, 100000u);
  }
  request_stop(0);
}

TEST(Pool, DedicatedDriverAloneIsAnError) {
  if (world->size() > 1) GTEST_SKIP() << "needs one rank";
  std::uint64_t next = 0;
  EXPECT_THROW(run_pool(
                   *world, numbers_below(1, next), [](const Bytes& b) { return b; },
                   [](const Bytes&) {}, {true}),
               UserError);
}

TEST(Comm, GatherKeepsRankOrderAndBroadcastGivesRankZeros) {
  const Bytes own(static_cast<std::size_t>(world->rank() + 1),
                  static_cast<std::byte>(world->rank()));
  const auto all = world->gather(own);
  if (world->rank() == 0) {
    ASSERT_EQ(all.size(), static_cast<std::size_t>(world->size()));
    for (std::size_t r = 0; r < all.size(); ++r)
      EXPECT_EQ(all[r], Bytes(r + 1, static_cast<std::byte>(r)));
  }
  Bytes bytes = number(static_cast<std::uint64_t>(world->rank()) + 40);
  world->broadcast(bytes);
  EXPECT_EQ(number_in(bytes), 40u);
}

TEST(Comm, FromRootSharesResultAndError) {
  EXPECT_EQ(number_in(world->from_root(
                [] { return number(static_cast<std::uint64_t>(world->rank()) + 7); })),
            7u);
  try {
    world->from_root([]() -> Bytes { throw UserError("ratio 2 lies outside (0, 1)"); });
    FAIL() << "no error";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_STREQ(error.what(), "ratio 2 lies outside (0, 1)");
  }
}

TEST(Comm, AgreeThrowsEverywhereWhenOneRankFails) {
  EXPECT_NO_THROW(world->agree([] {}));
  EXPECT_THROW(world->agree([] {
    if (world->rank() == world->size() - 1) throw Bug("only here");
  }),
               SharedError);
}

}  // namespace
}  // namespace sentinel

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const sentinel::Comm comm = sentinel::Comm::world();
  sentinel::world = &comm;
  const int failed = RUN_ALL_TESTS();
  int anywhere = failed;
  sentinel::Bytes bytes(1, static_cast<std::byte>(failed));
  for (const sentinel::Bytes& one : comm.gather(bytes)) anywhere |= static_cast<int>(one.at(0));
  return anywhere;
}
