// Restrictions of activations against an independent computation in double.
#include <fmt/format.h>

#include <cmath>

#include "parity/support.hpp"
#include "sentinel/graph/fused.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel::parity {
namespace {

constexpr double kTolerance = 1e-6;           // relative; f32
constexpr double kHalfOfTheLeast = 0x1p-150;  // f32 below its normal numbers
constexpr double kMaximumTolerance = 1e-4;    // relative; f32 convolutions in another order

class Bounds : public RealData {
 protected:
  static ReferenceFile memory() { return reference("memory_" + std::string(net())); }
  static const char* net() { return GetParam() == "vgg11_bn" ? "vgg11" : "resnet20"; }
};

void expect_close(const at::Tensor& ours, const at::Tensor& theirs, const std::string& what) {
  const at::Tensor a = ours.flatten().to(at::kDouble), b = theirs.flatten().to(at::kDouble);
  const at::Tensor good = (a - b).abs() <= b.abs() * kTolerance + kHalfOfTheLeast;
  EXPECT_TRUE(good.all().item<bool>()) << what << "\n" << at::stack({a, b}, 1);
}

/// One value for each channel [1, C], with a bound of its own.
struct Table {
  explicit Table(const ReferenceFile& file)
      : x(file.tensor("activations/table/x").unsqueeze(0)),
        bound(file.tensor("activations/table/b")) {}
  at::Tensor x, bound;
};

TEST_P(Bounds, EveryClippingIsAsInTheTable) {
  const ReferenceFile file = memory();
  const Table table(file);
  for (const auto& [clipping, name] : rules::kClippings) {
    const at::Tensor theirs = file.tensor(std::string("activations/table/") + name);
    const BoundedActivation op{table.bound, clipping};
    expect_close(apply(op, {table.x}), theirs, fmt::format("{} by run", name));
    Graph graph;
    graph.add("x", Input{table.bound.size(0)}, {});
    graph.add("relu", op, {0});
    expect_close(FusedNet(graph).compute(1, {table.x.clone()}), theirs,
                 fmt::format("{} in one pass", name));
  }
}

TEST_P(Bounds, TheSlopeOfSmoothByItsBoundIsAsInTheTable) {
  const ReferenceFile file = memory();
  const Table table(file);
  const BoundedActivation op{table.bound.clone().requires_grad_(), Clipping::kSmooth};
  apply(op, {table.x}).sum().backward();
  expect_close(op.bound.grad(), file.tensor("activations/table/dsmooth_db"), "slope");
}

TEST_P(Bounds, TheLargestActivationOfEveryNeuronChannelAndLayer) {
  const ReferenceFile file = memory();
  const Graph graph = load(GetParam());
  const Dataset train = images(Split::kTrain).first(1017);
  for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
    Graph bounded = restrict_activations(graph, Clipping::kRanger, per);
    calibrate(bounded, activation_ranges(graph, train, Comm::local(), at::kCPU, per));
    for (const std::string& site : file.members("activations/maxima")) {
      const at::Tensor theirs =
          file.tensor(fmt::format("activations/maxima/{}/{}", site, rules::bounds_name(per)));
      const auto& op = std::get<BoundedActivation>(bounded[bounded.find(site)].op);
      ASSERT_EQ(op.bound.sizes(), theirs.sizes()) << site;
      EXPECT_TRUE(
          at::allclose(op.bound, theirs * (1 + 0x1p-10), kMaximumTolerance, kMaximumTolerance))
          << site << " per " << rules::bounds_name(per);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Bounds, models(), model_name);

}  // namespace
}  // namespace sentinel::parity
