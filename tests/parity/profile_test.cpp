// Importance scores and activation ranges against an independent PyTorch program.
#include <cmath>
#include <iostream>

#include "parity/support.hpp"
#include "sentinel/protect/importance.hpp"
#include "sentinel/protect/transform.hpp"

namespace sentinel::parity {
namespace {

constexpr double kScoreTolerance = 1e-6;    // relative; both sum in double, in another order
constexpr double kMaximumTolerance = 1e-4;  // relative; f32 convolutions in another order

class Profile : public RealData {};

void expect_scores(const std::string& model, const std::string& method) {
  const ReferenceFile file = reference(model);
  const Graph graph = load(model);
  const ChannelScores ours = importance_method(method)->score({graph});
  EXPECT_EQ(ours.size(), file.members("importance/" + method).size());
  double largest = 0;
  for (const LayerScores& layer : ours) {
    const at::Tensor theirs = file.tensor("importance/" + method + "/" + layer.layer);
    ASSERT_EQ(static_cast<std::int64_t>(layer.scores.size()), theirs.numel()) << layer.layer;
    for (std::size_t c = 0; c < layer.scores.size(); ++c) {
      const double expected = theirs.data_ptr<double>()[c];
      const double deviation = std::abs(layer.scores[c] - expected) / expected;
      EXPECT_LE(deviation, kScoreTolerance) << layer.layer << " channel " << c;
      largest = std::max(largest, deviation);
    }
  }
  std::cout << "[ parity   ] " << model << " " << method << ": at most " << largest
            << " relative\n";
}

TEST_P(Profile, NormsOfEveryChannel) {
  expect_scores(GetParam(), "l1-norm");
  expect_scores(GetParam(), "l2-norm");
}

TEST_P(Profile, LargestActivations) {
  const ReferenceFile file = reference(GetParam());
  const Dataset train = images(Split::kTrain).first(file.number("relu_maxima", "train_images"));
  const auto relus = activation_ranges(load(GetParam()), train, Comm::local(), at::kCPU).relus;
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
