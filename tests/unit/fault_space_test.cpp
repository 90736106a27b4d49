#include <gtest/gtest.h>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

using test::Builder;

TEST(FaultSpace, NamesEveryConvAndLinearInExecutionOrder) {
  const Graph graph = test::residual_net();
  const FaultSpace space(graph);
  std::vector<std::string> names;
  std::uint64_t bits = 0;
  for (const FaultTensor& tensor : space.tensors()) {
    names.push_back(tensor.name);
    EXPECT_EQ(tensor.first_site, bits);
    EXPECT_EQ(tensor.elements, tensor.originals);
    bits += tensor.elements * 32;
  }
  EXPECT_EQ(space.sites(), bits);
  EXPECT_EQ(names, (std::vector<std::string>{"conv1.weight", "layer1.0.conv1.weight",
                                             "layer1.0.conv2.weight", "layer2.0.conv1.weight",
                                             "layer2.0.conv2.weight", "layer2.0.downsample.weight",
                                             "fc.weight"}));
}

TEST(FaultSpace, CountsCopiesBehindTheOriginals) {
  const Graph graph = test::residual_net();
  const Graph hard = test::hardened(graph, test::random_images(4).images);
  const FaultSpace plain(graph), space(hard);
  ASSERT_EQ(plain.tensors().size(), space.tensors().size());
  for (std::size_t i = 0; i < space.tensors().size(); ++i) {
    const FaultTensor& tensor = space.tensors()[i];
    EXPECT_EQ(tensor.originals, plain.tensors()[i].elements);
    const at::Tensor* weight = nullptr;
    if (const Conv* conv = as_conv(hard[tensor.node].op)) weight = &conv->weight;
    if (!weight) continue;
    EXPECT_EQ(tensor.elements, static_cast<std::uint64_t>(weight->numel()));
    EXPECT_EQ((tensor.elements - tensor.originals) * 8,
              tensor.originals * 3 * 8 / static_cast<std::uint64_t>(weight->size(0) - 3));
  }
}

TEST(FaultSpace, AtAndIndexAreInverse) {
  const FaultSpace space(test::plain_net());
  FaultSite previous;
  for (std::uint64_t bit = 0; bit < space.sites(); ++bit) {
    const FaultSite site = space.at(bit);
    ASSERT_EQ(space.index(site), bit);
    if (bit > 0) {
      ASSERT_TRUE(previous < site);
    }
    previous = site;
  }
}

TEST(FaultSpace, RefusesWhatIsOutside) {
  const FaultSpace space(test::plain_net());
  EXPECT_THROW(space.at(space.sites()), Bug);
  EXPECT_THROW(space.index({99, 0, 0}), Bug);
  EXPECT_THROW(space.index({0, space.tensors()[0].elements, 0}), Bug);
  EXPECT_THROW(space.index({0, 0, 32}), Bug);
}

// ---- SiteMap ----

/// Two convolutions and a linear layer behind a flatten of 2x2 maps.
Graph small_net(std::int64_t width1, std::int64_t width2, std::uint64_t seed) {
  Builder b(seed, {1, {2, 2}});
  NodeId x = b.graph.add("a", b.conv(1, width1, 1, 1, false), {0});
  x = b.graph.add("b", b.conv(width1, width2, 3, 1, false), {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, width2 * 4, 3);
  return std::move(b.graph);
}

Faults all_of(const FaultSpace& space) {
  return draw(BinomialFaults{1}, space, {});
}

TEST(SiteMap, IsTheIdentityBetweenEqualModels) {
  const Graph a = small_net(4, 3, 1), b = small_net(4, 3, 2);
  const Faults all = all_of(FaultSpace(a));
  EXPECT_EQ(SiteMap(a, b).translate(all), all);
}

/// A model whose channels are the original's at `rows1` of a and `rows2` of b.
Graph selected(const Graph& original, const std::vector<std::int64_t>& rows1,
               const std::vector<std::int64_t>& rows2) {
  std::vector<std::int64_t> columns;
  for (const std::int64_t row : rows2)
    for (std::int64_t i = 0; i < 4; ++i) columns.push_back(row * 4 + i);
  const at::Tensor r1 = at::tensor(rows1), r2 = at::tensor(rows2), c = at::tensor(columns);
  Graph model = original.clone();
  at::Tensor& a = as_conv(model[model.find("a")].op)->weight;
  at::Tensor& b = as_conv(model[model.find("b")].op)->weight;
  at::Tensor& fc = std::get<Linear>(model[model.find("fc")].op).weight;
  a = a.index_select(0, r1);
  b = b.index_select(0, r2).index_select(1, r1);
  fc = fc.index_select(1, c);
  model.origin["a"] = {rows1, {}};
  model.origin["b"] = {rows2, rows1};
  model.origin["fc"] = {{}, columns};
  return model;
}

float value_at(const Graph& graph, const FaultSpace& space, const FaultSite& site) {
  const Op& op = graph[space.tensors()[site.tensor].node].op;
  const Conv* conv = as_conv(op);
  const at::Tensor& weight = conv ? conv->weight : std::get<Linear>(op).weight;
  return weight.contiguous().data_ptr<float>()[site.element];
}

TEST(SiteMap, FindsTheSameWeightsAfterSortingAndPruning) {
  const Graph original = small_net(4, 3, 3);
  const Graph model = selected(original, {2, 0, 3}, {2, 1});
  const FaultSpace from(original), to(model);
  const SiteMap map(original, model);
  // Random weights are distinct, so the value tells which physical weight a site names.
  std::size_t kept = 0;
  for (std::uint64_t bit = 0; bit < from.sites(); bit += 32) {
    const FaultSite site = from.at(bit);
    const Faults found = map.translate({site});
    if (found.empty()) continue;
    ++kept;
    EXPECT_EQ(value_at(original, from, site), value_at(model, to, found[0]));
    EXPECT_EQ(found[0].bit, site.bit);
  }
  EXPECT_EQ(kept * 32, to.sites());
  EXPECT_EQ(map.translate(all_of(from)), all_of(to));
}

TEST(SiteMap, WorksBetweenTwoModelsOfOneAncestor) {
  const Graph ancestor = small_net(4, 3, 4);
  const Graph sorted = selected(ancestor, {3, 1, 0, 2}, {1, 2, 0});
  const Graph pruned = selected(ancestor, {1, 3}, {0, 1});
  const FaultSpace from(sorted), to(pruned);
  const SiteMap map(sorted, pruned);
  for (std::uint64_t bit = 0; bit < from.sites(); bit += 32)
    for (const FaultSite& site : map.translate({from.at(bit)}))
      EXPECT_EQ(value_at(sorted, from, from.at(bit)), value_at(pruned, to, site));
  EXPECT_EQ(map.translate(all_of(from)), all_of(to));
}

TEST(SiteMap, CountsTheSitesThatItFinds) {
  const Graph original = small_net(4, 3, 3);
  const Graph pruned = selected(original, {2, 0, 3}, {2, 1});
  Graph stored = pruned.clone();
  store_as(stored, "b.weight", parse_layout("int8"));
  const Graph hard = test::residual_net();
  const Graph net = test::hardened(hard, test::random_images(4).images);
  Graph coded = original.clone(), coded_too = original.clone();
  for (Graph* each : {&coded, &coded_too})
    store_as(*each, "b.weight", parse_layout("int8+secded:64"));
  Selection some, all;
  some.channels = {parse_channels("b=1-2")};
  some.bits = {"3", "7"};
  all.targets = parse_targets({"parameters"});
  const auto check = [](const Graph& from, const Graph& to, const Selection& selection) {
    const FaultSpace space(from, selection);
    const SiteMap map(from, to, selection);
    EXPECT_EQ(map.shared_sites(space), map.translate(all_of(space)).size());
  };
  for (const Selection& selection : {Selection(), some, all})
    for (const Graph* model : std::vector<const Graph*>{&original, &pruned, &stored})
      check(original, *model, selection);
  check(hard, net, all);
  check(net, net, all);  // its copies are no words of both
  check(coded, coded_too, all);
  const FaultSpace space(original);
  EXPECT_EQ(SiteMap(original, original).shared_sites(space), space.sites());
  EXPECT_LT(SiteMap(original, pruned).shared_sites(space), space.sites());
}

TEST(SiteMap, NeverNamesACopy) {
  const Graph graph = test::residual_net();
  const Graph hard = test::hardened(graph, test::random_images(4).images);
  const FaultSpace from(graph), to(hard);
  const Faults found = SiteMap(graph, hard).translate(all_of(from));
  EXPECT_EQ(found.size(), from.sites());
  for (const FaultSite& site : found) ASSERT_LT(site.element, to.tensors()[site.tensor].originals);
  // Copies of an original drop out on the way back.
  EXPECT_EQ(SiteMap(hard, graph).translate(all_of(to)), all_of(from));
}

TEST(SiteMap, RefusesAModelOfUnknownOrigin) {
  EXPECT_THROW(SiteMap(small_net(4, 3, 1), small_net(3, 3, 1)), UserError);
}

}  // namespace
}  // namespace sentinel
