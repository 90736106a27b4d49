#include "sentinel/models/model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- round trips ----

struct RoundTrip {
  const char* model;
  bool is_protected;
  RowLayout layout;
  Correction correction;
  bool per_channel;
  bool weight_bounds = false;
};

class RoundTripTest : public testing::TestWithParam<RoundTrip> {};

TEST_P(RoundTripTest, BitForBit) {
  const RoundTrip& p = GetParam();
  at::manual_seed(2);
  Graph g = initial_model(p.model, 10, 3);
  g.dataset = "cifar10";
  if (p.is_protected) protect(g, p.layout, p.correction, p.per_channel);
  if (p.weight_bounds) bound_weights_of(g, p.per_channel);
  const NodeId first = 1;
  const auto rows = static_cast<std::int64_t>(channel_counts(g)[1]);
  g.origin[g[first].name].out = Rng({1, 0, 0, Purpose::kShuffle}).permutation(rows);
  const Bytes file = serialize_model(g, {{"abc"}, "sentinelnn harden \xff", 7, ""});
  EXPECT_EQ(serialize_model(g, {{"abc"}, "sentinelnn harden \xff", 7, ""}), file);
  const Graph again = parse_model(file, "memory", "", "");
  expect_same_graph(g, again);
  expect_same_state(state_dict(g), state_dict(again));
  EXPECT_EQ(serialize_model(again, {{"abc"}, "sentinelnn harden \xff", 7, ""}), file);
  const at::Tensor x = test::values({2, 3, 32, 32});
  EXPECT_TRUE(same_bits(logits(g, x), logits(again, x)));
}

INSTANTIATE_TEST_SUITE_P(
    Graphs, RoundTripTest,
    testing::Values(RoundTrip{"resnet20", false, RowLayout::kOwn, Correction::kMin, false},
                    RoundTrip{"resnet20", true, RowLayout::kOwn, Correction::kRange, false},
                    RoundTrip{"resnet20", true, RowLayout::kGroup, Correction::kMin, true},
                    RoundTrip{"resnet20", false, RowLayout::kOwn, Correction::kMin, false, true},
                    RoundTrip{"resnet20", true, RowLayout::kGroup, Correction::kMin, true, true},
                    RoundTrip{"vgg11_bn", true, RowLayout::kGroup, Correction::kRange, true},
                    RoundTrip{"vgg11_bn", true, RowLayout::kOwn, Correction::kRange, true, true},
                    RoundTrip{"vgg11_bn", true, RowLayout::kOwn, Correction::kMin, false}));

TEST(StateDictTest, LayoutOfDuplicatedRowsInTheFile) {
  Graph g = initial_model("resnet20", 10, 3);
  const at::Tensor plain = as_conv(g[1].op)->weight.clone();
  protect(g, RowLayout::kGroup, Correction::kMin, false);
  const StateDict group = state_dict(g);
  const at::Tensor& rows = *group.find("conv1.weight");
  EXPECT_TRUE(same_bits(
      rows, at::cat({plain.narrow(0, 0, 3), plain.narrow(0, 0, 3), plain.narrow(0, 3, 13)})));
  std::vector<std::string> names;
  for (const auto& entry : group) names.push_back(entry.first);
  const auto first = std::find(names.begin(), names.end(), "conv1.duplicated");
  EXPECT_EQ(*(first - 1), "fc.bias");  // additional tensors come last
  EXPECT_EQ(std::find(names.begin(), names.end(), "relu.bound") - first, 1);
  Graph own = initial_model("resnet20", 10, 3);
  protect(own, RowLayout::kOwn, Correction::kRange, false);
  EXPECT_TRUE(same_bits(*state_dict(own).find("conv1.weight"),
                        at::cat({plain, plain.narrow(0, 15, 1), plain.narrow(0, 3, 1)})));
}

TEST(ParseModel, NamesMustAgreeWithTheRecord) {
  Graph g = initial_model("resnet20", 10, 3);
  g.dataset = "cifar10";
  const Bytes file = serialize_model(g, {});
  EXPECT_EQ(parse_model(file, "f", "resnet20", "cifar10").architecture, "resnet20");
  EXPECT_THROW(parse_model(file, "f", "resnet32", ""), UserError);
  EXPECT_THROW(parse_model(file, "f", "", "cifar100"), UserError);
  const Bytes plain = serialize_pth(state_dict(g));
  EXPECT_THAT(error_of<UserError>([&] { parse_model(plain, "f", "", "cifar10"); }),
              HasSubstr("give model"));
  EXPECT_THAT(error_of<UserError>([&] { parse_model(plain, "f", "resnet20", ""); }),
              HasSubstr("give dataset"));
  expect_same_graph(parse_model(plain, "f", "resnet20", "cifar10"), g);
}

TEST(ParseModel, DamagedRecordsAreDataErrors) {
  Graph g = initial_model("resnet20", 10, 3);
  g.dataset = "cifar10";
  g.origin["fc"].in = Rng({1, 0, 0, Purpose::kShuffle}).permutation(64);
  protect(g, RowLayout::kGroup, Correction::kRange, false);
  const StateDict tensors = state_dict(g);
  const std::string good = *parse_pth(serialize_model(g, {}), "f").metadata;
  const auto parse = [&](const std::string& record) {
    parse_model(serialize_pth(tensors, record), "f", "", "");
  };
  parse(good);
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::pair<std::string, std::string> damages[] = {
      {"\"resnet20\"", "\"alexnet\""},
      {"\"resnet20\"", "\"resnet32\""},
      {"\"resnet20\"", "20"},
      {"\"schema_version\": 1", "\"schema_version\": 9"},
      {"\"classes\": 10", "\"classes\": -10"},
      {"\"classes\": 10", "\"classes\": 100"},
      {"\"group\"", "\"neither\""},
      {"\"out_channels\": 16", "\"out_channels\": 17"},
      {"\"duplicated\": 3", "\"duplicated\": 0"},
      {"\"ranger-clamp\"", "\"ranger-lamp\""},
      {"\"origin\": {\n  \"fc\"", "\"origin\": {\n  \"fcc\""},
  };
  for (const auto& [from, to] : damages) {
    EXPECT_THROW(parse(replaced(from, to)), DataError) << from << " -> " << to;
  }
  EXPECT_THROW(parse(""), DataError);
  EXPECT_THROW(parse("[]"), DataError);
  EXPECT_THROW(parse("{}"), DataError);
  EXPECT_THROW(parse(good.substr(0, good.size() / 2)), DataError);
}

/// Saved again by PyTorch: the tensors are there, the record is not.
TEST(ParseModel, ProtectionWithoutARecordIsRefused) {
  Graph plain = initial_model("resnet20", 10, 3);
  Graph g = plain.clone();
  protect(g, RowLayout::kGroup, Correction::kRange, false);
  const StateDict tensors = state_dict(g);
  const auto refusal = [](const StateDict& file) {
    return error_of<DataError>(
        [&] { parse_model(serialize_pth(file), "again.pth", "resnet20", "cifar10"); });
  };
  EXPECT_THAT(refusal(tensors), HasSubstr("again.pth"));
  for (const std::string name :
       {"conv1.duplicated", "relu.bound", "conv1.range_low", "conv1.range_high"}) {
    StateDict one = state_dict(plain);
    one.set(name, *tensors.find(name));
    EXPECT_THAT(refusal(one), HasSubstr("has " + name + " but no record sentinelnn.json"));
  }
  EXPECT_EQ(refusal(state_dict(plain)), "");
}

TEST(ParseModel, BoundsAgreeWithTheRecord) {
  Graph plain = initial_model("resnet20", 10, 3);
  plain.dataset = "cifar10";
  Graph bounded = plain.clone();
  protect(bounded, RowLayout::kOwn, Correction::kRange, false);
  const auto record = [](const Graph& g) {
    return *parse_pth(serialize_model(g, {}), "f").metadata;
  };
  const auto error = [](const StateDict& tensors, const std::string& text) {
    return error_of<DataError>(
        [&] { parse_model(serialize_pth(tensors, text), "my.pth", "", ""); });
  };
  const StateDict good = state_dict(bounded);
  const std::string missing =
      error(without(without(good, "layer1.0.relu.bound"), "relu.bound"), record(bounded));
  EXPECT_THAT(missing, HasSubstr("my.pth"));
  EXPECT_THAT(missing, HasSubstr("2 missing entries (relu.bound, layer1.0.relu.bound)"));
  StateDict extra = state_dict(plain);
  extra.set("relu.bound", at::ones({}));
  EXPECT_THAT(error(extra, record(plain)), HasSubstr("relu.bound, but the record has no"));

  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = NAN;
  const auto with = [&](const std::string& name, const at::Tensor& tensor) {
    StateDict tensors = good;
    tensors.set(name, tensor);
    return error(tensors, record(bounded));
  };
  for (const float bad : {-1.F, -kInf, kNan}) {
    EXPECT_THAT(with("relu.bound", at::full({}, bad)), HasSubstr("relu.bound is negative"));
  }
  for (const float fine : {0.F, 3.F, kInf}) EXPECT_EQ(with("relu.bound", at::full({}, fine)), "");
  EXPECT_EQ(with("relu.bound", at::ones({16, 32, 32})), "");
  EXPECT_THAT(with("relu.bound", at::ones({16, 32, 31})), HasSubstr("'relu'"));
  EXPECT_THAT(with("relu.bound", at::ones({15, 32, 32})), HasSubstr("relu.bound is"));
  for (const char* end : {"conv1.range_low", "conv1.range_high"}) {
    EXPECT_THAT(with(end, at::tensor({1.F, kNan})), HasSubstr("conv1.range_low is above"));
  }
  EXPECT_THAT(with("conv1.range_low", at::full({2}, 2e30F)), HasSubstr("conv1.range_low is above"));
  EXPECT_EQ(with("conv1.range_low", at::full({2}, -kInf)), "");
}

TEST(ParseModel, EveryClippingComesBackWithItsBounds) {
  for (const auto& [clipping, name] : rules::kClippings)
    for (const BoundsPer per : {BoundsPer::kLayer, BoundsPer::kChannel, BoundsPer::kNeuron}) {
      Graph graph = initial_model("vgg11_bn", 10, 3);
      graph.dataset = "cifar10";
      const auto shapes = output_shapes(graph);
      for (NodeId id = 0; id < graph.size(); ++id) {
        if (!std::holds_alternative<Activation>(graph[id].op)) continue;
        std::vector<std::int64_t> shape = shapes[static_cast<std::size_t>(id)];
        if (per != BoundsPer::kNeuron) shape.resize(per == BoundsPer::kLayer ? 0 : 1);
        graph[id].op = BoundedActivation{at::rand(shape), clipping};
      }
      const Bytes file = serialize_model(graph, {});
      expect_same_graph(parse_model(file, "memory", "", ""), graph);
      const auto record = nlohmann::json::parse(*parse_pth(file, "memory").metadata);
      EXPECT_EQ(record.at("restriction").at("kind"), name);
      EXPECT_EQ(record.at("restriction").at("per"), rules::bounds_name(per));
    }
}

/// Networks of earlier versions have no lower bounds.
TEST(ParseModel, LowBoundsComeBackWhereThereAreAny) {
  for (const bool both : {false, true}) {
    Graph graph = initial_model("mobilenetv2_x0_5", 10, 3);
    graph.dataset = "cifar10";
    for (NodeId id = 0; id < graph.size(); ++id) {
      const auto* plain = std::get_if<Activation>(&graph[id].op);
      if (!plain) continue;
      BoundedActivation op{at::ones({}), Clipping::kRangerClamp, plain->kind};
      if (both) op.low = at::rand({}) - 1;
      graph[id].op = op;
    }
    const Bytes file = serialize_model(graph, {});
    expect_same_graph(parse_model(file, "memory", "", ""), graph);
    if (!both) continue;
    StateDict lost;
    for (const auto& [name, tensor] : state_dict(graph))
      if (name != "features.0.2.bound_low") lost.set(name, tensor);
    const std::string record = *parse_pth(file, "f").metadata;
    EXPECT_THAT(error_of<DataError>([&] { parse_model(serialize_pth(lost, record), "f", "", ""); }),
                HasSubstr("1 missing entry (features.0.2.bound_low)"));
    StateDict tensors = state_dict(graph);
    for (const float bad : {2.0F, NAN}) {
      tensors.set("features.0.2.bound_low", at::full({}, bad));
      EXPECT_THAT(
          error_of<DataError>([&] { parse_model(serialize_pth(tensors, record), "f", "", ""); }),
          HasSubstr("features.0.2.bound_low is above bound"));
    }
  }
}

TEST(ParseModel, SmoothIsForReLUsAlone) {
  Graph graph = initial_model("mobilenetv2_x0_5", 10, 3);
  graph.dataset = "cifar10";
  for (NodeId id = 0; id < graph.size(); ++id)
    if (const auto* plain = std::get_if<Activation>(&graph[id].op))
      graph[id].op = BoundedActivation{at::ones({}), Clipping::kSmooth, plain->kind};
  const Bytes file = serialize_model(graph, {});
  EXPECT_THAT(error_of<DataError>([&] { parse_model(file, "f", "", ""); }),
              HasSubstr("smooth, which is for ReLUs alone"));
}

TEST(ParseModel, WeightBoundsAgreeWithTheRecordAndHoldTheWeights) {
  Graph plain = initial_model("resnet20", 10, 3), bounded = plain.clone();
  plain.dataset = bounded.dataset = "cifar10";
  bound_weights_of(bounded, false);
  const auto record = [](const Graph& g) {
    return *parse_pth(serialize_model(g, {}), "r").metadata;
  };
  const auto message = [](const StateDict& tensors, const std::string& text) {
    return error_of<DataError>([&] { parse_model(serialize_pth(tensors, text), "f", "", ""); });
  };
  EXPECT_THAT(message(state_dict(plain), record(bounded)), HasSubstr("conv1.weight_low"));
  EXPECT_THAT(message(state_dict(bounded), record(plain)), HasSubstr("no weight bounds"));
  const auto with = [&](const std::string& name, const at::Tensor& tensor) {
    StateDict changed = state_dict(bounded);
    changed.set(name, tensor);
    return message(changed, record(bounded));
  };
  const at::Tensor weight = *state_dict(bounded).find("fc.weight");
  EXPECT_THAT(with("fc.weight_high", at::scalar_tensor(1e-9)),
              HasSubstr("outside its weight bounds"));
  EXPECT_THAT(with("fc.weight_high", at::scalar_tensor(-9.0)), HasSubstr("above weight_high"));
  EXPECT_THAT(with("fc.weight_low", at::scalar_tensor(-HUGE_VAL)), HasSubstr("not finite"));
  EXPECT_THAT(with("fc.weight_low", at::scalar_tensor(std::nan(""))), HasSubstr("not finite"));
  EXPECT_THAT(with("fc.weight_low", at::zeros({3})), HasSubstr("fc.weight_low"));
  EXPECT_THAT(with("fc.weight", weight * 2), HasSubstr("outside its weight bounds"));
  EXPECT_THAT(error_of<DataError>([&] {
                parse_model(serialize_pth(state_dict(bounded)), "f", "resnet20", "cifar10");
              }),
              HasSubstr("no record"));
}

TEST(ParseModel, DamagedAdditionalTensorsAreDataErrors) {
  Graph g = initial_model("resnet20", 10, 3);
  g.dataset = "cifar10";
  protect(g, RowLayout::kOwn, Correction::kRange, false);
  const StateDict good = state_dict(g);
  const std::string record = *parse_pth(serialize_model(g, {}), "f").metadata;
  const auto with = [&](const std::string& name, const at::Tensor& tensor) {
    StateDict tensors = good;
    tensors.set(name, tensor);
    parse_model(serialize_pth(tensors, record), "f", "", "");
  };
  with("conv1.duplicated", at::tensor(std::vector<std::int64_t>{4, 3}));
  for (const std::vector<std::int64_t>& list :
       std::vector<std::vector<std::int64_t>>{{3, 3}, {-1, 3}, {16, 3}, {3}, {}}) {
    EXPECT_THROW(with("conv1.duplicated", at::tensor(list, at::kLong)), DataError);
  }
  EXPECT_THROW(with("conv1.duplicated", at::ones({2})), DataError);
  EXPECT_THROW(with("conv1.range_low", at::ones({3})), DataError);
  EXPECT_THROW(with("relu.bound", at::ones({15})), DataError);
  EXPECT_THROW(with("fc.bound", at::ones({})), DataError);
  const StateDict rest = without(good, "conv1.range_high");
  EXPECT_THROW(parse_model(serialize_pth(rest, record), "f", "", ""), DataError);
}

// ---- real files ----

TEST(RealFiles, ResNet20AndVgg11RoundTrip) {
  for (const std::string name : {"resnet20", "vgg11_bn"}) {
    const std::string path = data_file("cifar10_" + name + ".pth");
    SKIP_WITHOUT(path);
    const StateDict tensors = read_pth(path).tensors;
    EXPECT_THAT(matching_models(tensors), ElementsAre(name));
    expect_same_state(state_dict(build_model(name, 10, tensors, path)), tensors);
  }
}

TEST(RealFiles, PrunedByTheSeedTool) {
  const std::string path = data_file("seed_resnet20_pruned_0.1.pth");
  SKIP_WITHOUT(path);
  const ModelCost cost = model_cost(build_model("resnet20", 10, read_pth(path).tensors, path));
  EXPECT_EQ(cost.parameters, 224968);
  EXPECT_EQ(cost.macs, 34423620);
}

TEST(RealFiles, HardenedByTheSeedTool) {
  const std::string path = data_file("seed_resnet20_hardened_0.1.pth");
  SKIP_WITHOUT(path);
  Graph g = build_model("resnet20", 10, read_pth(path).tensors, path);
  g.dataset = "cifar10";
  const ModelCost cost = model_cost(g);
  EXPECT_EQ(cost.parameters, 297365);
  EXPECT_EQ(cost.macs, 44183168);
  const auto& conv = std::get<DuplicatedConv>(g[g.find("layer3.0.downsample.0")].op);
  EXPECT_EQ(conv.duplicated.size(), 6U);
  EXPECT_EQ(conv.layout, RowLayout::kGroup);
  EXPECT_EQ(conv.correction, Correction::kMin);
  expect_same_graph(parse_model(serialize_model(g, {}), "memory", "", ""), g);
}

// The correction must let every fault-free value pass: copies are computed in another convolution,
// whose rounding must not differ.
TEST(RealFiles, DuplicationChangesNoLogit) {
  for (const std::string name : {"resnet20", "vgg11_bn"}) {
    const std::string path = data_file("cifar10_" + name + ".pth");
    SKIP_WITHOUT(path);
    at::manual_seed(1);
    const at::Tensor x = test::values({16, 3, 32, 32});
    for (const std::int64_t copies : {1, 7, 16}) {
      Graph g = build_model(name, 10, read_pth(path).tensors, path);
      const auto format =
          copies == 7 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
      g.to(at::kCPU, format);
      const at::Tensor expected = logits(g, x.contiguous(format));
      for (NodeId id = 0; id < g.size(); ++id) {
        const auto* conv = std::get_if<Conv>(&g[id].op);
        if (conv == nullptr) continue;
        std::vector<std::int64_t> last;
        for (std::int64_t k = 1; k <= copies; ++k) last.push_back(conv->weight.size(0) - k);
        g[id].op = test::duplicated(*conv, last);
      }
      g.to(at::kCPU, format);
      EXPECT_TRUE(same_bits(logits(g, x.contiguous(format)), expected)) << name << " " << copies;
    }
  }
}

}  // namespace
}  // namespace sentinel
