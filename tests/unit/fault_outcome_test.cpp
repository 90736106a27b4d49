#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/outcome.hpp"

namespace sentinel {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const float kNaN = std::nanf("");

at::Tensor rows(std::vector<std::vector<float>> values) {
  at::Tensor tensor = at::empty(
      {static_cast<std::int64_t>(values.size()), static_cast<std::int64_t>(values[0].size())});
  float* next = tensor.data_ptr<float>();
  for (const auto& row : values)
    for (const float value : row) *next++ = value;
  return tensor;
}

at::Tensor labels_of(std::vector<std::int64_t> labels) {
  return at::tensor(labels);
}

TEST(Classify, EachClassByHand) {
  const at::Tensor golden = rows({{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}});
  const at::Tensor faulty = rows({{1, 2, 3}, {1, 2.5F, 3}, {4, 2, 3}, {1, kNaN, 3}, {1, 2, kInf}});
  const TrialResult result = classify(faulty, golden, labels_of({2, 2, 0, 1, 2}));
  EXPECT_EQ(result.images, 5u);
  EXPECT_EQ(result.masked, 1u);
  EXPECT_EQ(result.sdc_noncritical, 1u);
  EXPECT_EQ(result.sdc_critical, 1u);
  EXPECT_EQ(result.due, 2u);
  EXPECT_EQ(result.correct, 3u);         // DUE counts as wrong
  EXPECT_EQ(result.correct_argmax, 5u);  // NaN is the largest, as is Inf
  EXPECT_EQ(result.top5, 3u);            // three classes: always, but for DUE
}

TEST(Classify, CountsWhatEachImageIs) {
  const at::Tensor golden = rows({{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}, {1, 2, 3}});
  const at::Tensor faulty = rows({{1, 2, 3}, {1, 2.5F, 3}, {4, 2, 3}, {1, kNaN, 3}, {1, 2, kInf}});
  const std::vector<ImageOutcome> wanted{ImageOutcome::kMasked, ImageOutcome::kSdcNoncritical,
                                         ImageOutcome::kSdcCritical, ImageOutcome::kDue,
                                         ImageOutcome::kDue};
  std::vector<FaultRecord> faults(6);  // of images 10 to 14, the last of all
  for (std::int32_t i = 0; i < 5; ++i) faults[static_cast<std::size_t>(i)].site.image = 10 + i;
  give_outcomes(faults, faulty, golden, 10);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(faults[i].outcome, wanted[i]) << i;
  EXPECT_FALSE(faults[5].outcome);
  faults[0].site.image = 9;
  EXPECT_THROW(give_outcomes(faults, faulty, golden, 10), Bug);
}

TEST(Classify, NegativeZeroIsNotMasked) {
  const TrialResult result = classify(rows({{0.0F, 1}}), rows({{-0.0F, 1}}), labels_of({1}));
  EXPECT_EQ(result.masked, 0u);
  EXPECT_EQ(result.sdc_noncritical, 1u);
}

TEST(Classify, ANonFiniteGoldenRunIsStillDue) {
  const at::Tensor z = rows({{kNaN, 1}, {kInf, 0}, {-kInf, 0}});
  EXPECT_EQ(classify(z, z, labels_of({0, 0, 0})).due, 3u);
}

TEST(Classify, TiesGoToTheLowerClass) {
  const at::Tensor golden = rows({{3, 3, 1}, {3, 3, 1}});
  const TrialResult result = classify(rows({{5, 5, 1}, {1, 5, 5}}), golden, labels_of({0, 0}));
  EXPECT_EQ(result.sdc_noncritical, 1u);
  EXPECT_EQ(result.sdc_critical, 1u);
  EXPECT_EQ(result.correct, 1u);
}

TEST(Classify, TopFive) {
  const at::Tensor z = rows(
      {{7, 6, 5, 4, 3, 2, 1}, {7, 6, 5, 4, 3, 2, 1}, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}});
  EXPECT_EQ(classify(z, z, labels_of({4, 5, 4, 5})).top5, 2u);
}

TEST(Classify, AgreesWithPyTorchsArgMax) {
  const at::Tensor z = rows({{1, kNaN, kInf, kNaN}, {kInf, kInf, 1, 2}, {-kInf, -5, -5, -6}});
  const at::Tensor expected = z.argmax(1);
  for (std::int64_t i = 0; i < z.size(0); ++i) {
    const at::Tensor row = z.narrow(0, i, 1);
    EXPECT_EQ(classify(row, row, expected.narrow(0, i, 1)).correct_argmax, 1u) << i;
  }
}

TEST(PredictionsOf, MarksDueByMinusOne) {
  const at::Tensor predictions =
      predictions_of(rows({{1, 2, 2}, {kNaN, 1, 2}, {1, kInf, 2}, {3, 1, 2}}));
  EXPECT_TRUE(at::equal(predictions, labels_of({1, -1, -1, 0})));
}

TEST(Classify, RefusesOtherShapes) {
  EXPECT_THROW(classify(rows({{1, 2}}), rows({{1, 2}, {1, 2}}), labels_of({0})), Bug);
  EXPECT_THROW(classify(rows({{1, 2}}), rows({{1, 2}}), labels_of({2})), Bug);
}

}  // namespace
}  // namespace sentinel
