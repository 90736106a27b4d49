#include "sentinel/graph/channels.hpp"
#include "sentinel/graph/profile.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "sentinel/core/rng.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/graph_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using Channels = std::vector<std::int64_t>;
using Side = GroupMember::Side;

/// One input of one node with its map.
struct Edge {
  NodeId node = 0;
  std::size_t input = 0;
  std::int64_t in = 0, out = 0;
  ChannelMap map;
};

std::vector<Edge> edges(const Graph& g) {
  const auto counts = channel_counts(g);
  std::vector<Edge> result;
  for (NodeId id = 0; id < g.size(); ++id) {
    Channels in;
    for (const NodeId i : g[id].inputs) in.push_back(counts[static_cast<std::size_t>(i)]);
    const std::int64_t out = counts[static_cast<std::size_t>(id)];
    const auto maps = channel_maps(g[id].op, in, out);
    EXPECT_EQ(maps.size(), in.size()) << g[id].name;
    for (std::size_t k = 0; k < maps.size(); ++k) result.push_back({id, k, in[k], out, maps[k]});
  }
  return result;
}

Channels random_subset(Rng& rng, std::int64_t n) {
  Channels subset;
  for (std::int64_t c = 0; c < n; ++c) {
    if (rng.below(3) == 0) subset.push_back(c);
  }
  return subset;
}

bool meet(const Channels& a, const Channels& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](std::int64_t c) { return std::binary_search(b.begin(), b.end(), c); });
}

class ChannelsTest : public testing::TestWithParam<int> {
 protected:
  ChannelsTest() { at::manual_seed(5); }
  static Graph graph() {
    if (GetParam() == 0) return test::residual_graph();
    if (GetParam() == 3) return test::grouped_graph();
    return test::concat_graph(GetParam());
  }
};

TEST_P(ChannelsTest, SourcesAndReadersAreInverseRelations) {
  const Graph g = graph();
  Rng rng({17, 0, 0, Purpose::kFaults});
  for (const Edge& e : edges(g)) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      const Channels in = random_subset(rng, e.in), out = random_subset(rng, e.out);
      const Channels sources = sources_of(e.map, out, e.in, e.out);
      const Channels readers = readers_of(e.map, in, e.in, e.out);
      EXPECT_EQ(meet(in, sources), meet(readers, out)) << g[e.node].name;
      EXPECT_TRUE(std::is_sorted(sources.begin(), sources.end()));
      EXPECT_TRUE(std::is_sorted(readers.begin(), readers.end()));
    }
  }
}

// The map against the operator itself: new values in one input channel reach its readers only.
TEST_P(ChannelsTest, OnlyReadersOfAChangedChannelChange) {
  const Graph g = graph();
  const auto& input = std::get<Input>(g[0].op);
  Trace trace{test::values({2, input.channels, input.size[0], input.size[1]})};
  run(g, trace, 0);
  for (const Edge& e : edges(g)) {
    for (std::int64_t c = 0; c < e.in; ++c) {
      std::vector<at::Tensor> in;
      for (const NodeId i : g[e.node].inputs) in.push_back(trace[static_cast<std::size_t>(i)]);
      in[e.input] = in[e.input].clone();
      in[e.input].select(1, c).add_(10);
      const at::Tensor old = trace[static_cast<std::size_t>(e.node)];
      const at::Tensor now = sentinel::apply(g[e.node].op, in);
      const Channels readers = readers_of(e.map, {c}, e.in, e.out);
      for (std::int64_t o = 0; o < e.out; ++o) {
        if (std::binary_search(readers.begin(), readers.end(), o)) continue;
        EXPECT_TRUE(test::same_bits(now.select(1, o), old.select(1, o))) << g[e.node].name;
      }
      // +10 shows in a reader unless a bound or a correction hides it.
      const Op& op = g[e.node].op;
      if (std::holds_alternative<BoundedActivation>(op)) continue;
      for (const std::int64_t o : readers) {
        EXPECT_FALSE(test::same_bits(now.select(1, o), old.select(1, o))) << g[e.node].name;
      }
    }
  }
}

/// Old channel number for every new one when group channel k becomes the old order[k].
Channels channel_order(const GroupMember& m, const Channels& order, std::int64_t channels) {
  Channels from(static_cast<std::size_t>(channels));
  std::iota(from.begin(), from.end(), 0);
  const auto copies = static_cast<std::size_t>(m.copies);
  for (std::size_t k = 0; k < order.size(); ++k) {
    for (std::size_t j = 0; j < copies; ++j) {
      from[static_cast<std::size_t>(m.index[k * copies + j])] =
          m.index[static_cast<std::size_t>(order[k]) * copies + j];
    }
  }
  return from;
}

void permute(Op& op, const GroupMember& m, const Channels& order) {
  auto* dup = std::get_if<DuplicatedConv>(&op);
  for_each_tensor(op, [&](const char* suffix, at::Tensor& t) {
    const std::string name = suffix;
    if (t.dim() == 0 || name == "range_low" || name == "range_high") return;
    const std::int64_t dim = m.side == Side::kIn ? 1 : 0;
    if (dim >= t.dim()) return;
    const std::int64_t copies =
        dup != nullptr && dim == 0 ? static_cast<std::int64_t>(dup->duplicated.size()) : 0;
    const Conv* conv = as_conv(op);
    const bool by_block = m.side == Side::kIn && conv != nullptr;
    const std::int64_t blocks = by_block ? conv->groups : 1;
    Channels from = channel_order(m, order, t.size(dim) * blocks - copies);
    from.resize(from.size() / static_cast<std::size_t>(blocks));  // the first tells of all
    for (std::int64_t k = 0; k < copies; ++k) from.push_back(t.size(dim) - copies + k);
    t = t.index_select(dim, at::tensor(from));
  });
  if (dup == nullptr || m.side == Side::kIn) return;
  const Channels from = channel_order(m, order, dup->out_channels());
  for (std::int64_t& c : dup->duplicated) {
    c = std::find(from.begin(), from.end(), c) - from.begin();
  }
}

TEST_P(ChannelsTest, PermutingAGroupLeavesTheLogits) {
  Graph g = graph();
  const auto& input = std::get<Input>(g[0].op);
  const at::Tensor x = test::values({4, input.channels, input.size[0], input.size[1]});
  const at::Tensor expected = logits(g, x);
  Rng rng({23, 0, 0, Purpose::kFaults});
  int moved = 0;
  for (const ChannelGroup& group : channel_groups(g)) {
    if (!group.permutable || group.channels < 2) continue;
    const Channels order = rng.permutation(group.channels);
    for (const GroupMember& m : group.members) permute(g[m.node].op, m, order);
    EXPECT_TRUE(at::allclose(logits(g, x), expected, test::kFloats, test::kFloats))
        << g[group.producers.front()].name;
    ++moved;
  }
  EXPECT_GE(moved, GetParam() == 2 ? 1 : 3);
}

TEST_P(ChannelsTest, EveryProducerChannelIsInOneGroup) {
  const Graph g = graph();
  const auto counts = channel_counts(g);
  std::vector<std::int64_t> seen(counts.size(), 0);
  for (const ChannelGroup& group : channel_groups(g)) {
    for (const GroupMember& m : group.members) {
      EXPECT_EQ(static_cast<std::int64_t>(m.index.size()), group.channels * m.copies);
      if (m.side == Side::kOut) seen[static_cast<std::size_t>(m.node)] += group.channels * m.copies;
    }
  }
  for (NodeId id = 0; id < g.size(); ++id) {
    const bool producer = as_conv(g[id].op) != nullptr || std::holds_alternative<Linear>(g[id].op);
    if (producer) {
      EXPECT_EQ(seen[static_cast<std::size_t>(id)], counts[static_cast<std::size_t>(id)])
          << g[id].name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Graphs, ChannelsTest, testing::Values(0, 1, 2, 3));

std::vector<std::string> names(const Graph& g, const std::vector<NodeId>& ids) {
  std::vector<std::string> result;
  for (const NodeId id : ids) result.push_back(g[id].name);
  return result;
}

TEST(ChannelGroups, ResidualAddsCouple) {
  const Graph g = test::residual_graph();
  const auto groups = channel_groups(g);
  ASSERT_EQ(groups.size(), 4U);
  EXPECT_EQ(names(g, groups[0].producers), (std::vector<std::string>{"conv1", "a.conv2"}));
  EXPECT_EQ(names(g, groups[1].producers), std::vector<std::string>{"a.conv1"});
  EXPECT_EQ(names(g, groups[2].producers), (std::vector<std::string>{"b.conv1", "b.downsample.0"}));
  EXPECT_EQ(names(g, groups[3].producers), std::vector<std::string>{"fc"});
  EXPECT_FALSE(groups[3].permutable);
  std::vector<std::string> members;
  for (const GroupMember& m : groups[0].members) {
    members.push_back(g[m.node].name + (m.side == Side::kOut ? " out" : " in"));
  }
  EXPECT_THAT(members,
              testing::ElementsAre("conv1 out", "bn1 out", "a.conv1 in", "a.conv2 out", "a.bn2 out",
                                   "a.relu_1 out", "b.conv1 in", "b.downsample.0 in"));
}

TEST(ChannelGroups, FlattenCopiesAndBlocksMoveTogether) {
  const Graph g = test::concat_graph(2);
  for (const ChannelGroup& group : channel_groups(g)) {
    const std::string first = g[group.producers.front()].name;
    EXPECT_EQ(group.permutable, first != "fc2") << first;
    for (const GroupMember& m : group.members) {
      if (g[m.node].name == "fc1" && m.side == Side::kIn) {
        EXPECT_EQ(m.copies, 2 * 4);  // blocks, pixels
        EXPECT_EQ(group.channels, 3);
      }
    }
  }
}

TEST(ChannelGroups, DepthwiseOfTheInputIsNotPermutable) {
  Graph g;
  NodeId x = g.add("x", Input{2, {4, 4}}, {});
  x = g.add("depthwise", test::conv(4, 2, 3, 1, 2), {x});
  x = g.add("mix", test::conv(3, 4), {x});
  x = g.add("pool", AdaptiveAvgPool{}, {x});
  g.add("flatten", Flatten{}, {x});
  const auto groups = channel_groups(g);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_FALSE(groups[0].permutable);  // holds the image's channels
  EXPECT_EQ(groups[0].channels, 2);
  EXPECT_EQ(groups[0].members.front().copies, 2);
  EXPECT_FALSE(groups[1].permutable);  // holds the logits
}

}  // namespace
}  // namespace sentinel
