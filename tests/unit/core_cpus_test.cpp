#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "core/control_groups.hpp"
#include "sentinel/core/cpus.hpp"

namespace sentinel {
namespace {

CpuSet cpus(std::initializer_list<std::size_t> numbers) {
  CpuSet set;
  for (std::size_t number : numbers) set.set(number);
  return set;
}

/// The variables that default_threads looks at, as a test wants them; the old ones come back.
class Threads : public testing::Test {
 protected:
  void SetUp() override { keep(kNames[0], kept_[0]), keep(kNames[1], kept_[1]); }
  void TearDown() override {
    for (int k = 0; k < 2; ++k)
      if (!kept_[k].empty()) ::setenv(kNames[k], kept_[k].c_str(), 1);
  }
  static int with(const char* name, const char* value, double cpus) {
    ::setenv(name, value, 1);
    const int threads = default_threads(cpus, 1);
    ::unsetenv(name);
    return threads;
  }

 private:
  static void keep(const char* name, std::string& value) {
    if (const char* text = std::getenv(name)) value = text;
    ::unsetenv(name);
  }
  static constexpr const char* kNames[] = {"OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"};
  std::string kept_[2];
};

TEST(Cpus, QuotasOfBothVersions) {
  EXPECT_EQ(granted_cpus("150000 100000"), 1.5);
  EXPECT_EQ(granted_cpus("400000 100000"), 4);
  for (const char* none : {"max 100000", "-1 100000", "", " ", "garbage", "100000", "0 100000",
                           "100000 0", "100000 -5", "100000 x"})
    EXPECT_TRUE(std::isinf(granted_cpus(none))) << none;
}

TEST(Cpus, ControlGroupsFromTheInnermostUp) {
  using Paths = std::vector<std::filesystem::path>;
  EXPECT_EQ(control_groups("cpu", "0::/user/job\n", "/m"),
            (Paths{"/m/user/job", "/m/user", "/m/"}));
  EXPECT_EQ(control_groups("cpu", "5:cpuset:/x\n4:cpu,cpuacct:/job\n", "/m"),
            (Paths{"/m/cpu,cpuacct/job", "/m/cpu,cpuacct/"}));
  EXPECT_EQ(control_groups("memory", "1:memory:/\n", "/m"), Paths{"/m/memory/"});
  EXPECT_TRUE(control_groups("cpu", "garbage\n3:\n", "/m").empty());
}

TEST(Cpus, ProcessesBoundToTheSameShareThem) {
  const CpuSet both = cpus({0, 1});
  EXPECT_EQ(share_of_cpus(both, {both}), 2);
  EXPECT_EQ(share_of_cpus(both, {both, both}), 1);
  EXPECT_EQ(share_of_cpus(cpus({0}), {cpus({0}), cpus({1})}), 1);
  EXPECT_EQ(share_of_cpus(cpus({0, 1, 2}), {cpus({0, 1, 2}), cpus({2})}), 2.5);
}

TEST(Cpus, SomeAreAllowed) {
  EXPECT_GE(allowed_cpus().count(), 1u);
}

TEST_F(Threads, AreWholeCpus) {
  EXPECT_EQ(default_threads(1, 1), 1);
  EXPECT_EQ(default_threads(1.0 / 3, 1), 1);
  EXPECT_LE(default_threads(2.5, 1), 2);  // less where a control group grants the tests less
}

TEST_F(Threads, AsTheEnvironmentSays) {
  EXPECT_EQ(with("OMP_NUM_THREADS", "3", 8), 3);
  EXPECT_EQ(with("OMP_NUM_THREADS", "3,2", 8), 3);
  for (const char* none : {"", "0", "-2", "many", "3x", "99999", "99999999999"})
    EXPECT_EQ(with("OMP_NUM_THREADS", none, 1), 1) << none;
  EXPECT_EQ(with("SLURM_CPUS_PER_TASK", "1", 8), 1);
  EXPECT_EQ(with("SLURM_CPUS_PER_TASK", "4", 1), 1);
}

}  // namespace
}  // namespace sentinel
