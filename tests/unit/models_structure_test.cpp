#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "models/checkpoint_source.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/models/model.hpp"
#include "unit/graph_support.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

/// As if it had been imported from a TorchScript file.
Graph imported(Graph graph) {
  graph.architecture = "mine.ts";
  graph.dataset = "cifar10";
  for (const auto& entry : state_dict(graph))
    if (!is_additional(entry.first)) graph.state_order.push_back(entry.first);
  return graph;
}

Graph shuffled() {
  Graph graph = test::concat_graph(3);
  std::get<Input>(graph[0].op).channels = 3;
  Conv& stem = std::get<Conv>(graph[graph.find("stem")].op);
  stem.weight = stem.weight.narrow(1, 0, 3).contiguous();
  NodeId x = graph.find("fc2");
  x = graph.add("drop", Dropout{0.25}, {x});
  graph.add("last", Linear{test::values({10, 3}), {}}, {x});
  return imported(std::move(graph));
}

/// A network with every operator that is no layer of the other test networks.
Graph rare() {
  Graph g;
  NodeId x = g.add("x", Input{3, {12, 9}}, {});
  x = g.add("scale", ChannelAffine{{1, 0.1, -3}, {0, 1e-7, 2}}, {x});
  Conv tall = test::conv(4, 3, 3, 1, 1, true);
  tall.weight = test::values({4, 3, 5, 1});
  tall.stride = {2, 1};
  tall.padding = {4, 0};
  tall.dilation = {2, 1};
  x = g.add("tall", tall, {x});
  x = g.add("six", Activation{ActivationKind::kRelu6}, {x});
  x = g.add("pool", MaxPool{{3, 2}, {2, 1}, {1, 0}, true}, {x});
  x = g.add("mean", AvgPool{{2, 3}, {1, 2}, {0, 1}}, {x});
  x = g.add("sum", Add{}, {x, x, x});
  x = g.add("flatten", Flatten{}, {g.add("avg", AdaptiveAvgPool{{2, 1}}, {x})});
  g.add("fc", test::linear(10, 8), {x});
  return imported(std::move(g));
}

Graph grouped() {
  Graph graph = test::grouped_graph();
  graph.add("last", test::linear(10, 4), {graph.find("fc")});
  return imported(std::move(graph));
}

Graph hardened() {
  Graph graph = test::residual_graph();
  for (NodeId id = 0; id < graph.size(); ++id)
    if (std::holds_alternative<BoundedActivation>(graph[id].op)) graph[id].op = Activation{};
  graph.add("last", test::linear(10, 5), {graph.find("fc")});
  return imported(std::move(graph));
}

TEST(Structure, OfAnImportedNetworkIsInItsCheckpoint) {
  for (const auto& make : {shuffled, rare, grouped, hardened}) {
    const Graph graph = make();
    const Bytes file = serialize_model(graph, {});
    const Graph read = parse_model(file, "mine.pth", "", "");
    test::expect_same_graph(read, graph);
    EXPECT_EQ(serialize_model(read, {}), file);
    const auto& input = std::get<Input>(graph[0].op);
    const at::Tensor x = test::values({2, input.channels, input.size[0], input.size[1]});
    EXPECT_TRUE(test::same_bits(logits(read, x), logits(graph, x)));
  }
}

TEST(Structure, OfAFamilysNetworkIsNot) {
  const Graph graph = initial_model("resnet20", 10, 1);
  const CheckpointFile file = parse_pth(serialize_model(graph, {}), "resnet20.pth");
  EXPECT_FALSE(json::parse(*file.metadata).contains("structure"));
}

TEST(Structure, OfAnUnknownDataSetNamesTheFile) {
  for (const bool own : {true, false}) {
    Graph graph = own ? rare() : initial_model("resnet20", 10, 1);
    graph.dataset = "pictures";
    const Bytes file = serialize_model(graph, {});
    EXPECT_THAT(test::error_of<DataError>([&] { parse_model(file, "mine.pth", "", ""); }),
                AllOf(HasSubstr("mine.pth"), HasSubstr(" pictures is unknown")));
  }
}

TEST(StoredLayouts, DamagedRecordsAreRefused) {
  Graph graph = initial_model("resnet20", 10, 1);
  store_as(graph, "conv1.weight", parse_layout("int8:channel"), parse_layout("fp16"));
  const CheckpointFile file = parse_pth(serialize_model(graph, {}), "mine.pth");
  const auto error = [&](const json& storage) {
    json record = json::parse(*file.metadata);
    record["storage"] = storage;
    return test::error_of<DataError>(
        [&] { parse_model(serialize_pth(file.tensors, record.dump()), "mine.pth", "", ""); });
  };
  const json good = {{"conv1.weight", "int8:channel"}, {"conv1.weight_scale", "fp16"}};
  EXPECT_EQ(error(good), "");
  const auto with = [&](const char* entry, const char* layout) {
    json storage = good;
    storage[entry] = layout;
    return error(storage);
  };
  EXPECT_THAT(with("conv1.weight", "int9"), HasSubstr("there is no format 'int9'"));
  EXPECT_THAT(with("conv1.weight", "int4:channel"), HasSubstr("conv1.weight"));
  EXPECT_THAT(with("conv1.weight", "fp16"), HasSubstr("scales that its format does not use"));
  EXPECT_THAT(with("conv2.weight", "fp16"), HasSubstr("the network has no such tensor"));
  EXPECT_THAT(with("conv1.weight_scale", "int8"), HasSubstr("scales need a format without"));
  EXPECT_THAT(with("bn1.weight", "fp32+parity"), HasSubstr("only weights may have this code"));
  EXPECT_THAT(with("bn1.weight.check", "fp32"), HasSubstr("the network has no such tensor"));
  json scaled = good;
  scaled["bn1.weight"] = "fp32+repeat:3";
  EXPECT_EQ(error(scaled), "");
  scaled["bn1.weight_scale"] = "fp16";
  EXPECT_THAT(error(scaled),
              HasSubstr("bn1.weight_scale is stored, but the network has no such tensor"));
}

TEST(Structure, DamagedOnesAreRefused) {
  const CheckpointFile file = parse_pth(serialize_model(rare(), {}), "mine.pth");
  const auto error = [&](const char* pointer, const json& value) {
    json record = json::parse(*file.metadata);
    record["structure"][json::json_pointer(pointer)] = value;
    return test::error_of<DataError>(
        [&] { parse_model(serialize_pth(file.tensors, record.dump()), "mine.pth", "", ""); });
  };
  EXPECT_THAT(error("/1/op", "softmax"), HasSubstr("unknown operator 'softmax'"));
  EXPECT_THAT(error("/1/inputs", json{7}), HasSubstr("'scale' reading a node that is not before"));
  EXPECT_THAT(error("/1/inputs", json::array()), HasSubstr("'scale' with 0 inputs"));
  EXPECT_THAT(error("/1/scale", json{1, 2}), HasSubstr("another number of channels"));
  EXPECT_THAT(error("/2/kernel", json{5, 2}), HasSubstr("tall.weight is [4, 3, 5, 1]"));
  EXPECT_THAT(error("/2/stride", json{0, 1}), HasSubstr("impossible 'stride'"));
  EXPECT_THAT(error("/2/groups", 2), HasSubstr("'tall' with a broken group"));
  EXPECT_THAT(error("/3/name", "tall"), HasSubstr("two nodes named 'tall'"));
  EXPECT_THAT(error("/4/kernel", json{3, 40}), HasSubstr("describes no network"));
  EXPECT_THAT(error("/0/op", "conv"), HasSubstr("without an input"));
  EXPECT_THAT(error("/0/channels", 1), HasSubstr("another number of channels"));
  EXPECT_THAT(error("/4/padding", json{2, 0}), HasSubstr("more than half of its window"));
  EXPECT_THAT(error("/7/size", json{4096, 4096}), HasSubstr("record sentinelnn.json"));
  EXPECT_THAT(error("/8/pixels", 1 << 24), HasSubstr("too many features in 'flatten'"));
  EXPECT_THAT(error("/9/out", 10.5), HasSubstr("10.5 where a whole number belongs"));
  EXPECT_THAT(error("/4/kernel", json{3, 1e300}), HasSubstr("1e+300 where a whole number"));
  EXPECT_THAT(error("/1/inputs", json{std::uint64_t{1} << 63}), HasSubstr("where a whole number"));
  EXPECT_THAT(error("/9/out", "ten"), HasSubstr("record sentinelnn.json is damaged"));
}

}  // namespace
}  // namespace sentinel
