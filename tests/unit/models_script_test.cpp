#include "sentinel/models/script.hpp"

#include <ATen/core/grad_mode.h>
#include <torch/script.h>

#include <cstring>
#include <limits>

#include "models/script_limits.hpp"
#include "models/script_recorder.hpp"
#include "models/script_source.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/io/script_file.hpp"
#include "unit/io_support.hpp"
#include "unit/models_support.hpp"
#include "unit/rule_edges.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::HasSubstr;
using testing::IsSupersetOf;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int kCalls = 4;  // the first two only profile; then PyTorch optimises what it runs

enum class Weights { kUnbounded, kLayer, kRow };

void bound_weights(Graph& g, Weights kind) {
  if (kind == Weights::kUnbounded) return;
  const auto bound = [&](const at::Tensor& weight, WeightBounds& bounds) {
    const at::Tensor rows = weight.flatten(1);
    bounds = kind == Weights::kRow ? WeightBounds{at::amin(rows, 1), at::amax(rows, 1)}
                                   : WeightBounds{rows.min(), rows.max()};
  };
  for (NodeId id = 0; id < g.size(); ++id) {
    if (Conv* conv = as_conv(g[id].op)) bound(conv->weight, conv->bounds);
    if (auto* linear = std::get_if<Linear>(&g[id].op)) bound(linear->weight, linear->bounds);
  }
}

/// A duplicated convolution of three groups with every kind of geometry.
Graph grouped_graph(Correction correction, bool bias) {
  Graph g;
  NodeId x = g.add("x", Input{6, {9, 8}}, {});
  Conv plain = conv(9, 6, 3, 1, 3, bias);
  plain.stride = {2, 1};
  plain.padding = {1, 2};
  plain.dilation = {2, 1};
  x = g.add("0", duplicated(std::move(plain), {8, 0, 4, 3}, correction), {x});
  x = g.add("0.bn", batch_norm(9), {x});
  x = g.add("pool", AdaptiveAvgPool{{2, 3}}, {x});
  const NodeId sum = g.add("sum", Add{}, {x, x, x});
  x = g.add("flatten", Flatten{}, {sum});
  x = g.add("flat.relu", BoundedActivation{at::rand({54}), Clipping::kRanger}, {x});
  Linear last = linear(4, 54);
  if (!bias) last.bias = at::Tensor();
  g.add("fc", std::move(last), {x});
  return g;
}

/// A network and its exported file, loaded again.
class Twins {
 public:
  explicit Twins(Graph graph) : graph_(std::move(graph)) {
    const TemporaryFolder folder;
    export_script(graph_, folder / "net.ts");
    module_ = torch::jit::load(folder / "net.ts");
  }

  at::Tensor ours(const at::Tensor& images) const {
    Trace trace{images};
    return run(graph_, trace);
  }
  at::Tensor theirs(const at::Tensor& images) { return module_.forward({images}).toTensor(); }
  const Graph& graph() const { return graph_; }
  const torch::jit::Module& module() const { return module_; }

  void expect_same(const std::string& what) {
    const auto& input = std::get<Input>(graph_[0].op);
    const at::NoGradGuard no_grad;
    for (const std::int64_t n : {3, 1}) {
      const at::Tensor images = values({n, input.channels, input.size[0], input.size[1]});
      const at::Tensor logits = ours(images);
      for (int call = 0; call < kCalls; ++call) {
        EXPECT_TRUE(same_bits(theirs(images), logits)) << what << ", call " << call;
      }
    }
  }

  /// The stored tensor here and there.
  std::vector<at::Tensor> both(NodeId id, const std::string& suffix) const {
    at::Tensor own;
    for_each_tensor(graph_[id].op, [&](const char* name, const at::Tensor& tensor) {
      if (name == suffix) own = tensor;
    });
    torch::jit::Module module = module_;
    for (const std::string& name : path_of(graph_[id].name)) {
      module = module.attr(name).toModule();
    }
    return {own, module.attr(suffix).toTensor()};
  }
  void store(NodeId id, std::int64_t element, float value) {
    for (at::Tensor& tensor : both(id, "weight")) tensor.view(-1)[element] = value;
  }
  void flip(NodeId id, std::int64_t element, unsigned bit) {
    for (const at::Tensor& tensor : both(id, "weight")) {
      std::uint32_t word = 0;
      float* place = tensor.data_ptr<float>() + element;
      std::memcpy(&word, place, sizeof word);
      word ^= 1U << bit;
      std::memcpy(place, &word, sizeof word);
    }
  }
  std::vector<NodeId> weighted() const {
    std::vector<NodeId> nodes;
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Op& op = graph_[id].op;
      if (as_conv(op) || std::holds_alternative<Linear>(op)) nodes.push_back(id);
    }
    return nodes;
  }

 private:
  Graph graph_;
  torch::jit::Module module_;
};

/// In every layer one flip of a high exponent bit, a NaN and an Inf, one after the other; in a
/// duplicated layer the last row, a copy, is hit too.
void expect_same_with_faults(Twins& twins, const std::string& what) {
  for (const NodeId id : twins.weighted()) {
    const at::Tensor weight = twins.both(id, "weight").front();
    const at::Tensor intact = weight.clone();
    const std::int64_t last = weight.numel() - 1;
    twins.flip(id, at::randint(last, {}).item<std::int64_t>(), 30);
    twins.expect_same(what + ", flip in " + twins.graph()[id].name);
    twins.store(id, 1, kNan);
    twins.store(id, last, kInfinity);
    twins.expect_same(what + ", NaN and Inf in " + twins.graph()[id].name);
    for (at::Tensor& tensor : twins.both(id, "weight")) tensor.copy_(intact);
  }
}

TEST(Script, EveryOperatorGivesTheSameBits) {
  at::manual_seed(5);
  for (const Weights weights : {Weights::kUnbounded, Weights::kLayer, Weights::kRow}) {
    for (const std::int64_t groups : {1, 2}) {
      Graph concat = concat_graph(groups);
      bound_weights(concat, weights);
      Twins twins(std::move(concat));
      twins.expect_same("concat");
      expect_same_with_faults(twins, "concat");
    }
    Graph residual = residual_graph();
    bound_weights(residual, weights);
    Twins twins(std::move(residual));
    twins.expect_same("residual");
    expect_same_with_faults(twins, "residual");
  }
}

TEST(Script, GroupedDuplicatedConvolutionsToo) {
  at::manual_seed(6);
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    for (const bool bias : {false, true}) {
      Graph graph = grouped_graph(correction, bias);
      bound_weights(graph, bias ? Weights::kRow : Weights::kUnbounded);
      Twins twins(std::move(graph));
      twins.expect_same("grouped");
      expect_same_with_faults(twins, "grouped");
    }
  }
}

/// Sums that are nothing but rounding, in which the kernels for originals and copies differ: that
/// both are right only the equal rows show.
TEST(Script, EqualStoredRowsCountAsEqual) {
  at::manual_seed(10);
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    Graph g;
    NodeId x = g.add("x", Input{8, {8, 8}}, {});
    x = g.add("cat", Concat{}, {x, x, x, x});
    Conv plain = conv(6, 32, 3, 1, 2, true);
    const at::Tensor half = values({6, 8, 3, 3});
    plain.weight = at::cat({half, -half}, 1);
    plain.bias.zero_();
    x = g.add("conv", duplicated(std::move(plain), {0, 5}, correction), {x});
    g.add("flatten", Flatten{}, {x});
    Twins(std::move(g)).expect_same("rounding");
  }
}

/// A network that gives its one weight, stored twice.
TEST(Script, EveryPairOfResultsIsCorrectedAlike) {
  const std::vector<float> stored = {0,     -0.0F, 1,     1 + 1e-6F, 3.5F,      -3,
                                     4.25F, -90,   3e38F, kNan,      kInfinity, -kInfinity};
  const at::Tensor one = at::ones({1, 1, 1, 1});
  const at::NoGradGuard no_grad;
  for (const Correction correction : {Correction::kRange, Correction::kMin}) {
    Graph g;
    NodeId x = g.add("x", Input{1, {1, 1}}, {});
    DuplicatedConv twice = duplicated(conv(1, 1, 1), {0}, correction);
    if (twice.low.defined()) {
      twice.low.fill_(-4);
      twice.high.fill_(4);
    }
    x = g.add("conv", std::move(twice), {x});
    g.add("flatten", Flatten{}, {x});
    Twins twins(std::move(g));
    for (const float original : stored) {
      for (const float copy : stored) {
        twins.store(1, 0, original);
        twins.store(1, 1, copy);
        EXPECT_TRUE(same_bits(twins.theirs(one), twins.ours(one))) << original << " and " << copy;
      }
    }
  }
}

/// A network that is one bounded activation.
TEST(Script, EveryBoundActsAlike) {
  const at::Tensor bounds = at::tensor(test::edge_bounds());
  const std::int64_t channels = bounds.numel();
  at::Tensor x = at::tensor(test::edge_values(1.0F)).view({-1, 1, 1, 1});
  x = x.repeat({1, channels, 1, 2});
  const at::NoGradGuard no_grad;
  for (const ActivationKind kind : {ActivationKind::kRelu, ActivationKind::kSilu})
    for (const auto& [clipping, name] : rules::kClippings) {
      if (!rules::can_restrict(clipping, kind)) continue;
      const at::Tensor of_neurons = at::stack({bounds, bounds.roll(1)}, 1).unsqueeze(1);
      std::vector<BoundedActivation> all = {{bounds, clipping, kind},
                                            {of_neurons, clipping, kind},
                                            {at::scalar_tensor(1.0F), clipping, kind}};
      for (std::int64_t k = 0; kind != ActivationKind::kRelu && k < channels; ++k)
        for (const at::Tensor& own : {bounds, of_neurons})
          all.push_back({own, clipping, kind, own.roll(k, 0)});
      for (const BoundedActivation& op : all) {
        Graph g;
        const NodeId in = g.add("x", Input{channels, {1, 2}}, {});
        g.add("flatten", Flatten{}, {g.add("bounded", op, {in})});
        Twins twins(std::move(g));
        EXPECT_TRUE(same_bits(twins.theirs(x), twins.ours(x)))
            << name << " " << activation_name(kind) << " " << op.bound.sizes();
      }
    }
}

TEST(Script, ResNet20ProtectedInEveryWay) {
  at::manual_seed(7);
  for (const bool other : {false, true}) {
    for (const Weights weights : {Weights::kUnbounded, Weights::kLayer, Weights::kRow}) {
      Graph graph = initial_model("resnet20", 10, 3);
      protect(graph, other ? RowLayout::kGroup : RowLayout::kOwn,
              other ? Correction::kMin : Correction::kRange, other);
      bound_weights(graph, weights);
      Twins twins(std::move(graph));
      twins.expect_same("resnet20");
      twins.flip(twins.graph().find("layer1.1.conv2"), 17, 30);
      twins.store(twins.graph().find("layer3.0.downsample.0"), 5, kNan);
      twins.expect_same("resnet20 with faults");
    }
  }
}

TEST(Script, VggsAndPlainNetworks) {
  at::manual_seed(8);
  Twins(initial_model("resnet32", 100, 3)).expect_same("resnet32");
  Graph vgg = initial_model("vgg11_bn", 10, 3);
  protect(vgg, RowLayout::kOwn, Correction::kRange, true);
  Twins twins(std::move(vgg));
  twins.expect_same("vgg11");
  twins.store(twins.graph().find("features.8"), 11, kNan);
  twins.expect_same("vgg11 with a fault");
}

/// Not only the same: the protection has to act in PyTorch.
TEST(Script, ProtectionCatchesWhatIsStoredAfterLoading) {
  at::manual_seed(9);
  const at::NoGradGuard no_grad;
  const at::Tensor images = values({2, 3, 32, 32});
  for (const Weights weights : {Weights::kUnbounded, Weights::kLayer, Weights::kRow}) {
    Graph graph = initial_model("resnet20", 10, 3);
    bound_weights(graph, weights);
    Twins twins(std::move(graph));
    for (const NodeId id : twins.weighted()) twins.store(id, 0, id % 2 ? kNan : kInfinity);
    const bool finite = at::isfinite(twins.theirs(images)).all().item<bool>();
    EXPECT_EQ(finite, weights != Weights::kUnbounded);
  }
  Graph graph = residual_graph();
  Twins twins(std::move(graph));
  const at::Tensor small = values({2, 3, 8, 8}), intact = twins.theirs(small);
  twins.store(twins.graph().find("a.conv2"), 7 * 36, kNan);  // row 7: the copy of channel 1
  EXPECT_TRUE(same_bits(twins.theirs(small), intact));
}

TEST(Script, NamesAreThoseOfTheCheckpoint) {
  Graph graph = initial_model("resnet20", 10, 3);
  protect(graph, RowLayout::kOwn, Correction::kRange, false);
  bound_weights(graph, Weights::kRow);
  const Twins twins(std::move(graph));
  std::vector<std::string> expected, names;
  for (const auto& entry : state_dict(twins.graph())) expected.push_back(entry.first);
  for (const auto& named : twins.module().named_parameters()) {
    names.push_back(named.name);
    EXPECT_FALSE(named.value.requires_grad()) << named.name;
  }
  EXPECT_THAT(names, IsSupersetOf({"conv1.weight", "layer2.0.downsample.1.bias", "fc.bias"}));
  for (const auto& named : twins.module().named_buffers()) names.push_back(named.name);
  EXPECT_THAT(names, testing::UnorderedElementsAreArray(expected));
}

/// Read by our own readers, it has the tensors that LibTorch finds, in LibTorch's order.
TEST(Script, TensorsAreReadWithoutLibTorch) {
  Graph graph = initial_model("resnet20", 10, 3);
  protect(graph, RowLayout::kOwn, Correction::kRange, false);
  const TemporaryFolder folder;
  export_script(graph, folder / "net.ts");
  const ScriptContents contents = read_script(read_file(folder / "net.ts"), "net.ts");
  const auto theirs = script_state(torch::jit::load(folder / "net.ts"));
  ASSERT_EQ(contents.tensors.size(), theirs.size());
  std::size_t i = 0;
  for (const auto& [name, tensor] : contents.tensors) {
    EXPECT_EQ(name, theirs[i].first);
    EXPECT_TRUE(at::equal(tensor, theirs[i++].second)) << name;
  }
}

/// Arguments that the walk's kernels crash on, or that take forever, are refused before.
TEST(Script, CallsThatWouldEndTheProgramAreKnown) {
  const auto fault = [](const std::string& name, const std::vector<c10::IValue>& inputs) {
    return WalkLimits::fault_of_call(name, inputs);
  };
  const at::Tensor wide = at::zeros({1}).expand({1, 1 << 20});
  EXPECT_THAT(fault("remainder", {7, 0}), HasSubstr("by zero"));
  EXPECT_THAT(fault("floordiv", {7, -1}), HasSubstr("by zero or -1"));
  EXPECT_THAT(fault("div", {at::ones({2}, at::kLong), at::zeros({2}, at::kLong)}),
              HasSubstr("by zero"));
  EXPECT_EQ(fault("div", {at::ones({2}), at::zeros({2})}), "");
  EXPECT_EQ(fault("floor_divide", {at::ones({}, at::kLong), 2}), "");
  EXPECT_THAT(fault("native_channel_shuffle", {at::ones({1, 4, 2, 2}), 0}),
              HasSubstr("shuffles by a number"));
  EXPECT_THAT(fault("split", {wide, 1, 1}), HasSubstr("too many parts"));
  EXPECT_THAT(fault("mul", {c10::List<std::int64_t>({1, 2}), 1 << 30}), HasSubstr("too long"));
  const at::Tensor square = at::zeros({1, 1}).expand({1 << 15, 1 << 15});
  EXPECT_THAT(fault("matmul", {square, square}), HasSubstr("multiplies more"));
}

TEST(Script, LimitOfTensorsEndsWithItsScope) {
  {
    const TensorLimit limit("net.ts", 1 << 20);
    EXPECT_NO_THROW(at::empty({1 << 10}));
    EXPECT_THAT(error_of<DataError>([] { at::empty({1 << 20}); }),
                HasSubstr("net.ts: it wants a tensor of 4194304 bytes"));
  }
  EXPECT_NO_THROW(at::empty({1 << 20}));
}

TEST(Script, ForwardHasOneReadableLinePerNode) {
  const std::string source = script_source(initial_model("vgg11_bn", 10, 3));
  EXPECT_THAT(source,
              HasSubstr("def forward(self, images: Tensor) -> Tensor:\n    x_0 = images\n"));
  EXPECT_THAT(source, HasSubstr("features_0_1 = torch.conv2d(x_0, getattr(self.features, "
                                "\"0\").weight, getattr(self.features, \"0\").bias, [1, 1], "
                                "[1, 1], [1, 1], 1)\n"));
}

TEST(Script, TheSameGraphGivesTheSameBytesAndAnErrorNamesThePath) {
  const TemporaryFolder folder;
  const Graph graph = residual_graph();
  for (const std::string file : {"a.ts", "b.ts"}) export_script(graph, folder / file);
  EXPECT_EQ(read_file(folder / "a.ts"), read_file(folder / "b.ts"));
  EXPECT_THAT(error_of<EnvironmentError>([&] { export_script(graph, folder / "no/net.ts"); }),
              HasSubstr("no/net.ts"));
}

}  // namespace
}  // namespace sentinel
