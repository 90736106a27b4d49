#include "sentinel/models/model.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/graph_support.hpp"

namespace sentinel {
namespace {

using test::same_bits;
using testing::ElementsAre;
using testing::HasSubstr;

std::string data_file(const std::string& name) {
  const char* folder = std::getenv("SENTINELNN_TEST_DATA");
  return std::string(folder != nullptr ? folder : SENTINEL_TEST_DATA_DEFAULT) + "/models/" + name;
}

#define SKIP_WITHOUT(file)                                     \
  if (!std::filesystem::exists(std::filesystem::path(file))) { \
    GTEST_SKIP() << (file) << " is not here";                  \
  }

/// The error's text; empty where nothing is thrown.
template <class E, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

StateDict without(const StateDict& tensors, const std::string& name) {
  StateDict rest;
  for (const auto& entry : tensors) {
    if (entry.first != name) rest.set(entry.first, entry.second);
  }
  return rest;
}

void expect_same_state(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  auto other = b.begin();
  for (auto entry = a.begin(); entry != a.end(); ++entry, ++other) {
    EXPECT_EQ(entry->first, other->first);
    EXPECT_TRUE(same_bits(entry->second, other->second)) << entry->first;
  }
}

void expect_same_graph(const Graph& a, const Graph& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.dataset, b.dataset);
  EXPECT_EQ(a.state_order, b.state_order);
  ASSERT_EQ(a.origin.size(), b.origin.size());
  for (const auto& [name, channels] : a.origin) {
    EXPECT_EQ(channels.out, b.origin.at(name).out);
    EXPECT_EQ(channels.in, b.origin.at(name).in);
  }
  for (NodeId id = 0; id < a.size(); ++id) {
    EXPECT_EQ(a[id].name, b[id].name);
    EXPECT_EQ(a[id].inputs, b[id].inputs);
    ASSERT_EQ(a[id].op.index(), b[id].op.index()) << a[id].name;
    std::vector<at::Tensor> left, right;
    for_each_tensor(a[id].op, [&](const char*, const at::Tensor& t) { left.push_back(t); });
    for_each_tensor(b[id].op, [&](const char*, const at::Tensor& t) { right.push_back(t); });
    ASSERT_EQ(left.size(), right.size()) << a[id].name;
    for (std::size_t i = 0; i < left.size(); ++i) {
      EXPECT_TRUE(same_bits(left[i], right[i])) << a[id].name;
    }
    if (const auto* conv = std::get_if<DuplicatedConv>(&a[id].op)) {
      const auto& twin = std::get<DuplicatedConv>(b[id].op);
      EXPECT_EQ(conv->duplicated, twin.duplicated);
      EXPECT_EQ(conv->correction, twin.correction);
      EXPECT_EQ(conv->layout, twin.layout);
    }
    if (const auto* relu = std::get_if<BoundedRelu>(&a[id].op)) {
      EXPECT_EQ(relu->clipping, std::get<BoundedRelu>(b[id].op).clipping);
    }
  }
}

/// Duplicates channels of every convolution and bounds every ReLU.
void protect(Graph& g, RowLayout layout, Correction correction, bool per_channel) {
  const auto counts = channel_counts(g);
  for (NodeId id = 0; id < g.size(); ++id) {
    const std::int64_t c = counts[static_cast<std::size_t>(id)];
    Op& op = g[id].op;
    if (std::holds_alternative<Relu>(op)) {
      op = BoundedRelu{per_channel ? at::rand({c}) : at::scalar_tensor(2.5, at::kFloat),
                       Clipping::kRangerClamp};
    } else if (const auto* conv = std::get_if<Conv>(&op)) {
      const auto chosen = layout == RowLayout::kGroup ? std::vector<std::int64_t>{0, 1, 2}
                                                      : std::vector<std::int64_t>{c - 1, 3};
      DuplicatedConv twice = test::duplicated(*conv, chosen, correction);
      twice.layout = layout;
      if (twice.high.defined()) twice.high[0].fill_(std::numeric_limits<float>::infinity());
      op = std::move(twice);
    }
  }
}

// ---- building ----

TEST(Models, NamesAreSortedAndAllBuild) {
  EXPECT_THAT(model_names(), ElementsAre("resnet20", "resnet32", "resnet44", "resnet56", "vgg11_bn",
                                         "vgg13_bn", "vgg16_bn", "vgg19_bn"));
  for (const std::string& name : model_names()) {
    const Graph g = initial_model(name, 100, 1);
    EXPECT_EQ(class_count(g), 100) << name;
    EXPECT_THAT(matching_models(state_dict(g)), ElementsAre(name));
  }
  EXPECT_THAT(error_of<UserError>([] { initial_model("resnet21", 10, 1); }), HasSubstr("resnet20"));
}

TEST(Models, CostOfResNet20AndVgg11) {
  const ModelCost resnet = model_cost(initial_model("resnet20", 10, 1));
  EXPECT_EQ(resnet.parameters, 272474);
  EXPECT_EQ(resnet.macs, 40813184);
  const ModelCost vgg = model_cost(initial_model("vgg11_bn", 10, 1));
  EXPECT_EQ(vgg.parameters, 9756426);  // published for pytorch-cifar-models: 9.76 M, 153.29 M
  EXPECT_NEAR(static_cast<double>(vgg.macs), 153.29e6, 0.4e6);
}

TEST(Models, InitialisationHasTheRightScaleAndIsReproducible) {
  const Graph a = initial_model("resnet20", 10, 5), b = initial_model("resnet20", 10, 5);
  expect_same_graph(a, b);
  const auto weight = as_conv(a[a.find("layer3.1.conv2")].op)->weight;
  const auto other = as_conv(initial_model("resnet20", 10, 6)[a.find("layer3.1.conv2")].op)->weight;
  EXPECT_FALSE(same_bits(weight, other));
  // 36 864 normal numbers: their standard deviation is known to 0.4 %.
  EXPECT_NEAR(weight.std().item<double>(), std::sqrt(2.0 / (64 * 9)), 0.02 * std::sqrt(2.0 / 576));
  const auto& fc = std::get<Linear>(a[a.find("fc")].op);
  EXPECT_LE(fc.weight.abs().max().item<double>(), 1.0 / 8);
  EXPECT_GT(fc.weight.abs().max().item<double>(), 0.95 / 8);
  const Graph vgg = initial_model("vgg11_bn", 10, 5);
  EXPECT_NEAR(std::get<Linear>(vgg[vgg.find("classifier.0")].op).weight.std().item<double>(), 0.01,
              1e-4);
}

TEST(Models, CallSitesAreNamedAsTorchvisionDoes) {
  const Graph g = initial_model("resnet20", 10, 1);
  std::vector<std::string> relus;
  for (const Node& node : g.nodes()) {
    if (std::holds_alternative<Relu>(node.op)) relus.push_back(node.name);
  }
  ASSERT_EQ(relus.size(), 19U);
  EXPECT_EQ(relus[0], "relu");
  EXPECT_EQ(relus[1], "layer1.0.relu");
  EXPECT_EQ(relus[2], "layer1.0.relu_1");
  EXPECT_EQ(relus[18], "layer3.2.relu_1");
  EXPECT_EQ(g[0].name, "x");
  EXPECT_EQ(g[g.size() - 2].name, "flatten");
  EXPECT_EQ(g[g.size() - 1].name, "fc");
  const Graph vgg = initial_model("vgg11_bn", 10, 1);
  EXPECT_TRUE(std::holds_alternative<MaxPool>(vgg[vgg.find("features.28")].op));
  EXPECT_TRUE(std::holds_alternative<Linear>(vgg[vgg.find("classifier.6")].op));
}

TEST(Models, GroupsOfResNet20) {
  const Graph g = initial_model("resnet20", 10, 1);
  std::vector<std::vector<std::string>> producers;
  for (const ChannelGroup& group : channel_groups(g)) {
    producers.emplace_back();
    for (const NodeId id : group.producers) producers.back().push_back(g[id].name);
    EXPECT_EQ(group.permutable, producers.back().front() != "fc");
  }
  ASSERT_EQ(producers.size(), 3U + 9U + 1U);
  EXPECT_THAT(producers[0],
              ElementsAre("conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"));
  EXPECT_THAT(producers[1], ElementsAre("layer1.0.conv1"));
  EXPECT_THAT(producers[5], ElementsAre("layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2",
                                        "layer2.2.conv2"));
}

TEST(Models, GroupsOfVgg11AreSingle) {
  const Graph g = initial_model("vgg11_bn", 10, 1);
  const auto groups = channel_groups(g);
  ASSERT_EQ(groups.size(), 11U);  // 8 convolutions, 3 linear layers
  for (const ChannelGroup& group : groups) EXPECT_EQ(group.producers.size(), 1U);
  EXPECT_FALSE(groups.back().permutable);
  EXPECT_EQ(g[groups[7].members.back().node].name, "classifier.0");
  EXPECT_EQ(groups[7].members.back().side, GroupMember::Side::kIn);
}

// ---- wrong state_dicts ----

TEST(Models, ListsMissingUnexpectedAndMisshapenTogether) {
  StateDict tensors = without(state_dict(initial_model("resnet20", 10, 1)), "bn1.bias");
  tensors.set("extra.weight", at::zeros({2}));
  tensors.set("layer2.1.bn1.weight", at::zeros({31}));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("my.pth"));
  EXPECT_THAT(text, HasSubstr("1 missing entry (bn1.bias)"));
  EXPECT_THAT(text, HasSubstr("1 unexpected entry (extra.weight)"));
  EXPECT_THAT(text, HasSubstr("layer2.1.bn1.weight is [31], expected [32]"));
  EXPECT_THAT(text, HasSubstr("none of the known models fits"));
}

TEST(Models, AdvisesTheModelThatFits) {
  const StateDict tensors = state_dict(initial_model("resnet32", 100, 1));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 100, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("72 unexpected entries"));
  EXPECT_THAT(text, HasSubstr("more)"));
  EXPECT_THAT(text, HasSubstr("--model resnet32"));
}

TEST(Models, NamesAWrongClassCount) {
  const StateDict tensors = state_dict(initial_model("resnet20", 100, 1));
  const std::string text =
      error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); });
  EXPECT_THAT(text, HasSubstr("fc.weight is for 100 classes, the data set has 10"));
}

TEST(Models, BranchesOfDifferentWidthsAreAnError) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  for (const char* name : {"layer1.1.bn2.weight", "layer1.1.bn2.bias", "layer1.1.bn2.running_mean",
                           "layer1.1.bn2.running_var"}) {
    tensors.set(name, at::ones({15}));
  }
  tensors.set("layer1.1.conv2.weight", at::ones({15, 16, 3, 3}));
  EXPECT_THAT(error_of<DataError>([&] { build_model("resnet20", 10, tensors, "my.pth"); }),
              HasSubstr("layer1.1.add have 15 and 16 channels"));
}

TEST(Models, OtherFloatTypesBecomeFloat32AndTheCounterIsOptional) {
  const StateDict full = state_dict(initial_model("resnet20", 10, 1));
  StateDict half;
  for (const auto& [name, tensor] : full) {
    if (tensor.scalar_type() == at::kFloat) half.set(name, tensor.to(at::kHalf));
  }
  const Graph g = build_model("resnet20", 10, half, "my.pth");
  const StateDict again = state_dict(g);
  EXPECT_EQ(again.size(), half.size());
  for (const auto& [name, tensor] : again) {
    EXPECT_TRUE(same_bits(tensor, half.find(name)->to(at::kFloat))) << name;
  }
  half.set("bn1.weight", at::ones({16}, at::kInt));
  EXPECT_THAT(error_of<DataError>([&] { build_model("resnet20", 10, half, "my.pth"); }),
              HasSubstr("bn1.weight holds integers"));
}

TEST(Models, TheBatchCounterMayHaveAnyNumberType) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  const auto counter = [&](const at::Tensor& stored) {
    tensors.set("bn1.num_batches_tracked", stored);
    const Graph g = build_model("resnet20", 10, tensors, "my.pth");
    return std::get<BatchNorm>(g[g.find("bn1")].op).batches_tracked;
  };
  const at::Tensor seven = at::scalar_tensor(7, at::kLong);
  for (const auto type : {at::kLong, at::kInt, at::kFloat, at::kHalf}) {
    EXPECT_TRUE(same_bits(counter(seven.to(type)), seven));
    EXPECT_TRUE(same_bits(counter(seven.to(type).reshape({1})), seven));
  }
  for (const at::Tensor& bad :
       {at::ones({2}, at::kLong), at::zeros({0}), at::full({}, NAN), at::ones({}, at::kBool)}) {
    EXPECT_THAT(error_of<DataError>([&] { counter(bad); }),
                HasSubstr("bn1.num_batches_tracked is not one number"));
  }
}

TEST(Models, AbsurdShapesAreCheapErrors) {
  StateDict tensors = state_dict(initial_model("resnet20", 10, 1));
  for (const char* name : {"conv1.weight", "layer1.0.conv1.weight", "layer3.2.conv2.weight"}) {
    tensors.set(name, at::zeros({}).expand({std::int64_t{1} << 40, 1, 1, 1}));
  }
  tensors.set("bn1.weight", at::zeros({0}));
  EXPECT_THROW(build_model("resnet20", 10, tensors, "my.pth"), DataError);
  EXPECT_TRUE(matching_models(tensors).empty());
  EXPECT_TRUE(matching_models(StateDict{}).empty());
}

// ---- round trips ----

struct RoundTrip {
  const char* model;
  bool is_protected;
  RowLayout layout;
  Correction correction;
  bool per_channel;
};

class RoundTripTest : public testing::TestWithParam<RoundTrip> {};

TEST_P(RoundTripTest, BitForBit) {
  const RoundTrip& p = GetParam();
  at::manual_seed(2);
  Graph g = initial_model(p.model, 10, 3);
  g.dataset = "cifar10";
  if (p.is_protected) protect(g, p.layout, p.correction, p.per_channel);
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
                    RoundTrip{"vgg11_bn", true, RowLayout::kGroup, Correction::kRange, true},
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
              HasSubstr("--model"));
  EXPECT_THAT(error_of<UserError>([&] { parse_model(plain, "f", "resnet20", ""); }),
              HasSubstr("--dataset"));
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
  for (const char* end : {"conv1.range_low", "conv1.range_high"}) {
    EXPECT_THAT(with(end, at::tensor({1.F, kNan})), HasSubstr("conv1.range_low is above"));
  }
  EXPECT_THAT(with("conv1.range_low", at::full({2}, 2e30F)), HasSubstr("conv1.range_low is above"));
  EXPECT_EQ(with("conv1.range_low", at::full({2}, -kInf)), "");
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
