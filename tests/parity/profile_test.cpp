// Importance scores and activation ranges against an independent PyTorch program.
#include <cmath>
#include <iostream>

#include "parity/support.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel::parity {
namespace {

constexpr double kScoreTolerance = 1e-6;     // relative; both sum in double, in another order
constexpr double kSalienceTolerance = 1e-5;  // relative; the reference's BN scales are f32
constexpr double kVulGainTolerance = 1e-3;   // relative; small margins magnify f32 rounding
constexpr double kMaximumTolerance = 1e-4;   // relative; f32 convolutions in another order

class Profile : public RealData {};

void expect_scores(const std::string& model, const std::string& method, double tolerance,
                   const Dataset* images = nullptr) {
  const ReferenceFile file = reference(model);
  const Graph graph = load(model);
  const ChannelScores ours = importance_method(method)->score({graph, images});
  EXPECT_EQ(ours.size(), file.members("importance/" + method).size());
  double largest = 0;
  for (const LayerScores& layer : ours) {
    const at::Tensor theirs = file.tensor("importance/" + method + "/" + layer.layer);
    ASSERT_EQ(static_cast<std::int64_t>(layer.scores.size()), theirs.numel()) << layer.layer;
    for (std::size_t c = 0; c < layer.scores.size(); ++c) {
      const double expected = theirs.data_ptr<double>()[c];
      const double difference = std::abs(layer.scores[c] - expected);
      EXPECT_LE(difference, tolerance * expected) << layer.layer << " channel " << c;
      if (expected > 0) largest = std::max(largest, difference / expected);
    }
  }
  std::cout << "[ parity   ] " << model << " " << method << ": at most " << largest
            << " relative\n";
}

TEST_P(Profile, NormsOfEveryChannel) {
  expect_scores(GetParam(), "l1-norm", kScoreTolerance);
  expect_scores(GetParam(), "l2-norm", kScoreTolerance);
}

TEST_P(Profile, SalienceOfEveryChannel) {
  expect_scores(GetParam(), "salience", kSalienceTolerance);
}

TEST_P(Profile, VulGainOfEveryChannel) {
  const auto count = reference(GetParam()).number("importance/vul-gain", "train_images");
  const Dataset train = images(Split::kTrain).first(count);
  expect_scores(GetParam(), "vul-gain", kVulGainTolerance, &train);
}

TEST_P(Profile, LargestActivations) {
  const ReferenceFile file = reference(GetParam());
  const Dataset train = images(Split::kTrain).first(file.number("relu_maxima", "train_images"));
  const auto relus =
      activation_ranges(load(GetParam()), train, Comm::local(), at::kCPU).activations;
  EXPECT_EQ(relus.size(), file.members("relu_maxima").size());
  double largest = 0;
  for (const auto& site : relus) {
    const double expected = file.tensor("relu_maxima/" + site.name).item<double>();
    const double ours = *std::max_element(site.high.begin(), site.high.end());
    const double deviation = std::abs(ours - expected) / expected;
    EXPECT_LE(deviation, kMaximumTolerance) << site.name;
    largest = std::max(largest, deviation);
  }
  std::cout << "[ parity   ] " << GetParam() << " largest activations: at most " << largest
            << " relative\n";
}

INSTANTIATE_TEST_SUITE_P(Models, Profile, models(), model_name);

}  // namespace
}  // namespace sentinel::parity
