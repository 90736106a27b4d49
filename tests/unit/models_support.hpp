#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/models/model.hpp"
#include "unit/graph_support.hpp"

namespace sentinel::test {
inline std::string data_file(const std::string& name) {
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

inline StateDict without(const StateDict& tensors, const std::string& name) {
  StateDict rest;
  for (const auto& entry : tensors) {
    if (entry.first != name) rest.set(entry.first, entry.second);
  }
  return rest;
}

inline void expect_same_state(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  auto other = b.begin();
  for (auto entry = a.begin(); entry != a.end(); ++entry, ++other) {
    EXPECT_EQ(entry->first, other->first);
    EXPECT_TRUE(same_bits(entry->second, other->second)) << entry->first;
  }
}

inline void expect_same_graph(const Graph& a, const Graph& b) {
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
    if (const auto* relu = std::get_if<BoundedActivation>(&a[id].op)) {
      EXPECT_EQ(relu->clipping, std::get<BoundedActivation>(b[id].op).clipping);
    }
  }
}

/// Bounds every weight by its extremes, per layer or per row.
inline void bound_weights_of(Graph& g, bool per_row) {
  for (NodeId id = 0; id < g.size(); ++id) {
    WeightBounds* bounds = weight_bounds_of(g[id].op);
    if (bounds == nullptr) continue;
    const Conv* conv = as_conv(g[id].op);
    const at::Tensor weight = conv != nullptr ? conv->weight : std::get<Linear>(g[id].op).weight;
    const at::Tensor rows = weight.flatten(1);
    *bounds = per_row ? WeightBounds{at::amin(rows, 1), at::amax(rows, 1)}
                      : WeightBounds{rows.min(), rows.max()};
  }
}

/// Duplicates channels of every convolution and bounds every ReLU.
inline void protect(Graph& g, RowLayout layout, Correction correction, bool per_channel) {
  const auto counts = channel_counts(g);
  for (NodeId id = 0; id < g.size(); ++id) {
    const std::int64_t c = counts[static_cast<std::size_t>(id)];
    Op& op = g[id].op;
    if (std::holds_alternative<Activation>(op)) {
      op = BoundedActivation{per_channel ? at::rand({c}) : at::scalar_tensor(2.5, at::kFloat),
                             Clipping::kRangerClamp};
    } else if (const auto* conv = std::get_if<Conv>(&op)) {
      const auto chosen = layout == RowLayout::kGroup ? std::vector<std::int64_t>{0, 1, 2}
                                                      : std::vector<std::int64_t>{c - 1, 3};
      DuplicatedConv twice = duplicated(*conv, chosen, correction);
      twice.layout = layout;
      if (twice.high.defined()) twice.high[0].fill_(std::numeric_limits<float>::infinity());
      op = std::move(twice);
    }
  }
}

}  // namespace sentinel::test
