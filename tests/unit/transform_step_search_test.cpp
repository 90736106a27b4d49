#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "transform/step_search.hpp"

namespace sentinel {
namespace {

constexpr ToleranceOrder kOrders[] = {ToleranceOrder::kExhaustive, ToleranceOrder::kBisect,
                                      ToleranceOrder::kProportional};

std::vector<int> all_steps(int count) {
  std::vector<int> steps(static_cast<std::size_t>(count));
  std::iota(steps.begin(), steps.end(), 0);
  return steps;
}

struct Answer {
  bool changed = false;
  double disturbance = 0;
};

struct Walk {
  std::optional<int> first;
  std::vector<int> asked;
};
/// `answers`: by step.
Walk walk(const std::vector<Answer>& answers, const std::vector<int>& steps, int guess,
          ToleranceOrder order) {
  StepSearch search(order, steps, guess);
  Walk result;
  while (!search.done()) {
    result.asked.push_back(search.step());
    const Answer& own = answers.at(static_cast<std::size_t>(search.step()));
    search.answer(own.changed, own.disturbance);
  }
  result.first = search.first_change();
  return result;
}

/// Disturbances that double with every step from `first` on; changes from 4 on.
std::vector<Answer> doubling(int count, double first) {
  std::vector<Answer> answers;
  for (int step = 0; step < count; ++step) {
    const double disturbance = std::ldexp(first, step);
    answers.push_back({disturbance >= 4, disturbance});
  }
  return answers;
}

TEST(StepSearch, FindsTheFirstChangeInEveryOrderAndFromAnyGuess) {
  for (int exponent = -22; exponent <= 3; ++exponent) {
    const auto answers = doubling(21, std::ldexp(1.0, exponent));
    const std::optional<int> expected =
        exponent < -18 ? std::nullopt : std::optional<int>(std::max(0, 2 - exponent));
    for (int guess = -1; guess <= 21; ++guess)
      for (const ToleranceOrder order : kOrders) {
        const Walk found = walk(answers, all_steps(21), guess, order);
        EXPECT_EQ(found.first, expected) << exponent << " " << guess;
        const std::size_t most = order == ToleranceOrder::kProportional ? 7
                                 : order == ToleranceOrder::kBisect     ? 5
                                                                        : 21;
        EXPECT_LE(found.asked.size(), most) << exponent << " " << guess;
      }
  }
}

/// Answers without any order, for some of the steps.
struct Random {
  std::vector<int> steps;
  std::vector<Answer> answers;
};
Random random_answers(std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(0, 1);
  Random result;
  for (int step = 0; step < 21; ++step) {
    if (uniform(random) < 0.7) result.steps.push_back(step);
    result.answers.push_back({uniform(random) < 0.2, std::exp2(8 * uniform(random) - 5)});
  }
  return result;
}

TEST(StepSearch, ExhaustiveAsksEveryStepUpToTheFirstChange) {
  std::mt19937 random(6);  // the seed is the test's
  for (int round = 0; round < 1000; ++round) {
    const auto [steps, answers] = random_answers(random);
    std::vector<int> expected;
    std::optional<int> first;
    for (const int step : steps) {
      if (first) break;
      expected.push_back(step);
      if (answers[static_cast<std::size_t>(step)].changed) first = step;
    }
    const Walk found = walk(answers, steps, 10, ToleranceOrder::kExhaustive);
    EXPECT_EQ(found.asked, expected);
    EXPECT_EQ(found.first, first);
  }
}

TEST(StepSearch, ProportionalAsksEveryStepBelowTheFirstChangeThatIsNotBelowAQuietPair) {
  std::mt19937 random(7);  // the seed is the test's
  for (int round = 0; round < 2000; ++round) {
    const auto [steps, answers] = random_answers(random);
    const int guess = static_cast<int>(random() % 21);
    const Walk found = walk(answers, steps, guess, ToleranceOrder::kProportional);
    int quiet = -1;
    bool below = true;
    for (const int step : steps) {
      const Answer& own = answers[static_cast<std::size_t>(step)];
      const bool asked = std::count(found.asked.begin(), found.asked.end(), step) > 0;
      const bool now = asked && !own.changed && own.disturbance <= 1;
      if (now && below) quiet = step;
      below = now;
    }
    for (const int step : steps) {
      if (step <= quiet || step > found.first.value_or(21)) continue;
      EXPECT_EQ(std::count(found.asked.begin(), found.asked.end(), step), 1) << step;
      EXPECT_EQ(answers[static_cast<std::size_t>(step)].changed, step == found.first) << step;
    }
  }
}

TEST(StepSearch, OnlyTheExhaustiveOrderFindsAChangeBelowQuietSteps) {
  auto answers = doubling(21, 0x1p-12);
  answers[3].changed = true;  // 14 is the first of the others
  EXPECT_EQ(walk(answers, all_steps(21), 10, ToleranceOrder::kExhaustive).first, 3);
  EXPECT_EQ(walk(answers, all_steps(21), 10, ToleranceOrder::kProportional).first, 14);
  EXPECT_EQ(walk(answers, all_steps(21), 10, ToleranceOrder::kBisect).first, 14);
}

TEST(StepSearch, AnswersThatAreNotKnownAreNotQuiet) {
  const std::vector<Answer> answers(5, {false, INFINITY});
  const Walk found = walk(answers, all_steps(5), 3, ToleranceOrder::kProportional);
  EXPECT_EQ(found.asked.size(), 5u);
  EXPECT_EQ(found.first, std::nullopt);
  for (const ToleranceOrder order : kOrders) EXPECT_TRUE(walk(answers, {}, 3, order).asked.empty());
}

}  // namespace
}  // namespace sentinel
