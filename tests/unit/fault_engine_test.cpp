#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "fault/changes.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/fault_guard.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/visit.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 77;
constexpr std::int64_t kImages = 40;
constexpr float kInf = std::numeric_limits<float>::infinity();

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return x.sizes() == y.sizes() && std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

// ---- FaultGuard ----

std::vector<at::Tensor> weights(const Graph& graph, const FaultSpace& space) {
  std::vector<at::Tensor> copies;
  for (const FaultTensor& tensor : space.tensors()) {
    const Op& op = graph[tensor.node].op;
    const Conv* conv = as_conv(op);
    copies.push_back(
        (conv ? conv->weight : std::get<Linear>(op).weight).clone(at::MemoryFormat::Contiguous));
  }
  return copies;
}

/// Reads memory with faults, and puts the changes into the graph while it lives.
struct Faulty {
  Memory memory;
  Reading reading;
  FaultGuard guard;
  Faulty(Graph& graph, const FaultSpace& space, const Faults& faults)
      : memory(graph), reading(memory.read(space, faults)), guard(graph, memory, reading.changes) {}
};

TEST(FaultGuard, FlipsTheNamedWordsInEitherMemoryFormatAndBack) {
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    Graph graph = test::hardened(test::residual_net(), test::random_images(4).images);
    graph.to(at::kCPU, format);
    const FaultSpace space(graph);
    const auto before = weights(graph, space);
    const Faults faults = draw(BinomialFaults{1e-2}, space, {kSeed});
    auto expected = weights(graph, space);
    for (const FaultSite& site : faults) {
      auto* words = static_cast<std::uint32_t*>(expected[site.tensor].data_ptr());
      words[site.element] ^= 1u << site.bit;
    }
    {
      const Faulty faulty(graph, space, faults);
      const auto now = weights(graph, space);
      for (std::size_t i = 0; i < now.size(); ++i) EXPECT_TRUE(same_bits(now[i], expected[i]));
      ASSERT_EQ(faulty.reading.records.size(), faults.size());
      for (std::size_t i = 0; i < faults.size(); ++i) {
        const FaultRecord& record = faulty.reading.records[i];
        EXPECT_EQ(record.site, faults[i]);
        EXPECT_EQ(record.before ^ record.after, Word{1} << faults[i].bit);
      }
      EXPECT_EQ(faulty.reading.words_wrong, faulty.reading.changes.size());
      EXPECT_EQ(faulty.reading.masked + faulty.reading.words_flagged, 0u);
    }
    const auto after = weights(graph, space);
    for (std::size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(same_bits(after[i], before[i]));
  }
}

TEST(FaultGuard, RecordsRawWords) {
  Graph graph = test::plain_net();
  as_conv(graph[graph.find("features.3")].op)->weight[1][2][0][1] = 1.0F;
  const FaultSpace space(graph);
  const Faulty faulty(graph, space, {{1, (1 * 8 + 2) * 9 + 1, 30}});
  EXPECT_EQ(faulty.reading.records[0].before, 0x3f800000u);
  EXPECT_EQ(faulty.reading.records[0].after, 0x7f800000u);
  EXPECT_EQ(as_conv(graph[graph.find("features.3")].op)->weight[1][2][0][1].item<float>(), kInf);
}

TEST(FaultGuard, RestoresWhenAnExceptionPasses) {
  Graph graph = test::plain_net();
  const FaultSpace space(graph);
  const auto before = weights(graph, space);
  try {
    const Faulty faulty(graph, space, draw(ExactFaults{100}, space, {kSeed}));
    throw UserError("stop");
  } catch (const UserError&) {
  }
  const auto after = weights(graph, space);
  for (std::size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(same_bits(after[i], before[i]));
}

TEST(Memory, RefusesRepeatedOrForeignSites) {
  const Graph graph = test::plain_net();
  const FaultSpace space(graph);
  const Memory memory(graph);
  EXPECT_THROW(memory.read(space, {{0, 1, 2}, {0, 1, 2}}), Bug);
  EXPECT_THROW(memory.read(space, {{0, 1, 2}, {0, 0, 2}}), Bug);
  EXPECT_THROW(memory.read(space, {{0, 1, 2}, {0, 1 << 20, 2}}), Bug);
}

TEST(FaultGuard, DecodesFaultyWordsByTheWeightBoundsAndPutsTheWordsBack) {
  for (const bool per_row : {false, true}) {
    Graph bounded = test::residual_net();
    test::bound_weights(bounded, per_row);
    Graph fast = bounded.clone();
    take_weight_bounds(fast);
    // Bounds may be hit themselves.
    Selection selection;
    selection.targets = {TensorClass::kWeight, TensorClass::kBound};
    const FaultSpace space(bounded, selection), of_weights(bounded);
    const auto before = weights(fast, of_weights);
    // So many that words have several flips, some of which cancel out.
    const Faults faults = draw(BinomialFaults{0.05}, space, {kSeed});
    const Memory memory(bounded);
    const Reading reading = memory.read(space, faults);
    const auto after_bounds = memory.through_bounds(reading.changes);
    {
      const FaultGuard reference(bounded, memory, reading.changes);
      const FaultGuard guard(fast, memory, after_bounds);
      const auto now = weights(fast, of_weights), stored = weights(bounded, of_weights);
      for (std::size_t i = 0; i < now.size(); ++i) {
        const Op& op = bounded[of_weights.tensors()[i].node].op;
        EXPECT_TRUE(same_bits(now[i], decoded(stored[i], *weight_bounds_of(op))));
        EXPECT_FALSE(same_bits(now[i], stored[i]));
      }
    }
    const auto after = weights(fast, of_weights);
    for (std::size_t i = 0; i < after.size(); ++i) EXPECT_TRUE(same_bits(after[i], before[i]));
  }
}

// ---- Overlay ----

TEST(Overlay, HoldsWhatAGuardWouldWriteAndLeavesTheGraphAlone) {
  Graph net = test::hardened(test::plain_net(), test::random_images(4).images);
  net.to(at::kCPU, at::MemoryFormat::ChannelsLast);
  const Graph clean = net.clone();
  Selection selection;
  selection.targets = {TensorClass::kWeight, TensorClass::kBias, TensorClass::kBound};
  const FaultSpace space(net, selection);
  const Memory memory(net);
  const Reading reading = memory.read(space, draw(BinomialFaults{2e-3}, space, {kSeed}));
  const Overlay overlay = overlay_of(net, memory.tensors(), reading.changes);
  std::size_t tensors = 0;
  const FaultGuard guard(net, memory, reading.changes);  // net is faulty from here on
  for (const StoredTensor& tensor : memory.tensors()) {
    const at::Tensor& faulty = values_of(net, tensor);
    if (same_bits(faulty, values_of(clean, tensor))) continue;
    ++tensors;
    const auto rows = overlay.rows.find(tensor.node);
    if (tensor.kind == TensorClass::kWeight && rows != overlay.rows.end()) {
      at::Tensor weight = values_of(clean, tensor).clone();
      weight.index_copy_(0, at::tensor(rows->second.numbers), rows->second.values);
      EXPECT_TRUE(same_bits(weight, faulty)) << tensor.name;
      continue;
    }
    bool found = false;
    for_each_tensor(overlay.ops.at(tensor.node),
                    [&](const std::string& suffix, const at::Tensor& values) {
                      if (tensor.name != net[tensor.node].name + "." + suffix) return;
                      found = true;
                      EXPECT_TRUE(same_bits(values, faulty)) << tensor.name;
                      EXPECT_EQ(values.strides(), faulty.strides()) << tensor.name;
                    });
    EXPECT_TRUE(found) << tensor.name;
  }
  EXPECT_GT(tensors, 4u);
}

TEST(Overlay, RefusesWhatNoNetworkReads) {
  const Graph net = test::plain_net();
  std::vector<StoredTensor> tensors = Memory(net).tensors();
  tensors[0].kind = TensorClass::kScale;
  EXPECT_THROW(overlay_of(net, tensors, {{0, 0, 1.0F, 2.0F}}), Bug);
}

// ---- TrialEngine ----

/// "residual at once": trials in batches.
constexpr const char* kAtOnce = " at once";

Graph make_net(const std::string& wanted) {
  const std::string name = wanted.substr(0, wanted.find(kAtOnce));
  if (name == "plain") return test::plain_net();
  if (name == "residual") return test::residual_net();
  const at::Tensor images = test::random_images(kImages).images;
  Graph net = name == "plain bounded" || name == "hardened plain" ? test::plain_net()
                                                                  : test::residual_net();
  if (name.rfind("hardened", 0) == 0) net = test::hardened(net, images);
  if (name.find("bounded") != std::string::npos)
    test::bound_weights(net, name.find("plain") == std::string::npos);
  return net;
}

EngineOptions options(std::uint64_t budget, const std::string& net = "") {
  EngineOptions result;
  result.trials_at_once = net.find(kAtOnce) == std::string::npos ? 0 : 5;
  result.block = 16;  // the last of three blocks is not full
  result.cache_budget = budget;
  return result;
}

TrialEngine make_engine(const std::string& net, std::uint64_t budget = 1u << 30) {
  return TrialEngine(make_net(net), test::random_images(kImages), options(budget, net));
}

/// Faults of every kind: single bits, bit 30 (Inf, NaN, huge values), low to high BER, exact
/// counts.
std::vector<Faults> awkward_faults(const FaultSpace& space) {
  std::vector<Faults> trials = {{}};
  for (std::uint64_t trial = 0; trial < 24; ++trial)
    trials.push_back(draw(ExactFaults{1}, space, {kSeed, 0, trial}));
  for (const FaultTensor& tensor : space.tensors()) {
    Rng rng({kSeed, 1, tensor.first_site});
    for (int i = 0; i < 4; ++i)
      trials.push_back({{static_cast<std::uint32_t>(&tensor - space.tensors().data()),
                         rng.below(tensor.elements), 30}});
  }
  std::uint32_t point = 2;
  for (const Sampler& sampler :
       std::vector<Sampler>{BinomialFaults{1e-5}, BinomialFaults{1e-4}, BinomialFaults{2e-3},
                            ExactFaults{5}, PerLayerFloorFaults{2e-4}}) {
    for (std::uint64_t trial = 0; trial < 6; ++trial)
      trials.push_back(draw(sampler, space, {kSeed, point, trial}));
    ++point;
  }
  return trials;
}

/// Whether the logits of ranks `rank` and `rank` + 1 (from 1) are so close that rounding decides
/// their order.
bool near_tie(const at::Tensor& z, std::int64_t rank) {
  if (rank >= z.numel()) return false;
  const at::Tensor sorted = std::get<0>(z.sort(0, /*descending=*/true));
  const double scale = z.abs().max().item<double>();
  return (sorted[rank - 1] - sorted[rank]).item<double>() < 1e-4 * scale;
}

struct Agreement {
  int ties = 0, top5_ties = 0, images = 0;
};

/// The same predicted class or DUE per image, finite logits within 1e-3 of max|z|.
void expect_agreement(TrialEngine& engine, const Faults& faults, Agreement& agreement) {
  const TrialLogits fast = engine.logits(faults), reference = engine.logits_reference(faults);
  int ties = 0, top5_ties = 0;
  for (std::int64_t i = 0; i < kImages; ++i) {
    const at::Tensor a = fast.logits[i], b = reference.logits[i];
    const bool due = reference.predictions[i].item<std::int64_t>() < 0;
    ASSERT_EQ(fast.predictions[i].item<std::int64_t>() < 0, due);
    if (due) continue;
    const double scale = b.abs().max().item<double>();
    ASSERT_LE((a - b).abs().max().item<double>(), 1e-3 * scale);
    const bool tie = near_tie(b, 1);
    ties += tie;
    top5_ties += near_tie(b, 5);
    if (!tie) {
      ASSERT_EQ(fast.predictions[i].item<std::int64_t>(),
                reference.predictions[i].item<std::int64_t>());
    }
  }
  const TrialResult x = engine.run(faults).result, y = engine.run_reference(faults).result;
  EXPECT_EQ(x.due, y.due);
  EXPECT_EQ(x.first_node, y.first_node);
  EXPECT_NEAR(x.sdc_critical, y.sdc_critical, ties);
  EXPECT_NEAR(x.masked + x.sdc_noncritical, y.masked + y.sdc_noncritical, ties);
  EXPECT_NEAR(x.correct, y.correct, ties);
  EXPECT_NEAR(x.top5, y.top5, top5_ties);
  EXPECT_EQ(x.masked + x.sdc_noncritical + x.sdc_critical + x.due, x.images);
  agreement.ties += ties;
  agreement.top5_ties += top5_ties;
  agreement.images += static_cast<int>(kImages);
}

class Engine : public ::testing::TestWithParam<const char*> {};

TEST_P(Engine, EqualsTheReferencePath) {
  TrialEngine engine = make_engine(GetParam());
  Agreement agreement;
  for (const Faults& faults : awkward_faults(engine.space()))
    expect_agreement(engine, faults, agreement);
  // Ties excuse a difference, so they must stay the exception.
  EXPECT_LT(agreement.ties, agreement.images / 10);
  EXPECT_LT(agreement.top5_ties, agreement.images / 10);
}

TEST_P(Engine, FaultsMatterInThisTest) {
  TrialEngine engine = make_engine(GetParam());
  TrialResult sum;
  for (const Faults& faults : awkward_faults(engine.space())) {
    const TrialResult result = engine.run(faults).result;
    sum.masked += result.masked;
    sum.sdc_noncritical += result.sdc_noncritical;
    sum.sdc_critical += result.sdc_critical;
    sum.due += result.due;
  }
  EXPECT_GT(sum.masked, 0u);
  EXPECT_GT(sum.sdc_noncritical, 0u);
  EXPECT_GT(sum.sdc_critical, 0u);
  // Bounded weights are finite and of usual size, so that no logit is not.
  const bool bounded = std::string(GetParam()).find("bounded") != std::string::npos;
  EXPECT_EQ(sum.due > 0, !bounded);
}

// Where the run starts, and so the cache, must not change a bit of the result.
TEST_P(Engine, CacheBudgetsGiveIdenticalResults) {
  TrialEngine none = make_engine(GetParam(), 0), all = make_engine(GetParam());
  // The convolutions' own outputs go before any restart point does.
  std::uint64_t budget = all.cache_bytes() / 2;
  while (make_engine(GetParam(), budget).restart_points() == all.restart_points()) budget /= 2;
  TrialEngine some = make_engine(GetParam(), budget);
  EXPECT_EQ(none.cache_bytes(), 0u);
  EXPECT_LT(none.restart_points(), some.restart_points());
  EXPECT_LT(some.restart_points(), all.restart_points());
  EXPECT_EQ(all.restart_points(), all.space().tensors().size() + 1);
  EXPECT_LE(some.cache_bytes(), budget);
  for (const Faults& faults : awkward_faults(all.space())) {
    const at::Tensor logits = all.logits(faults).logits;
    EXPECT_TRUE(same_bits(none.logits(faults).logits, logits));
    EXPECT_TRUE(same_bits(some.logits(faults).logits, logits));
    const TrialResult result = all.run(faults).result;
    EXPECT_TRUE(test::same_result(none.run(faults).result, result));
    EXPECT_TRUE(test::same_result(some.run(faults).result, result));
  }
}

// A fault that cannot matter: from every restart point the run must give the fault-free bits.
TEST_P(Engine, HarmlessFaultsAreMaskedFromEveryRestartPoint) {
  Graph net = make_net(GetParam());
  for (NodeId id = 0; id < net.size(); ++id) {
    Conv* conv = as_conv(net[id].op);
    at::Tensor weight = conv                               ? conv->weight
                        : std::get_if<Linear>(&net[id].op) ? std::get<Linear>(net[id].op).weight
                                                           : at::Tensor();
    if (weight.defined()) weight.flatten()[0] = 0.0F;
  }
  TrialEngine engine(std::move(net), test::random_images(kImages), options(1u << 30, GetParam()));
  for (std::uint32_t t = 0; t < engine.space().tensors().size(); ++t) {
    // The sign of a zero weight: absorbed by any sum.
    const TrialResult sign = engine.run({{t, 0, 31}}).result;
    EXPECT_EQ(sign.masked, kImages) << engine.space().tensors()[t].name;
    EXPECT_EQ(sign.first_node, engine.space().tensors()[t].node);
    EXPECT_EQ(engine.run_reference({{t, 0, 31}}).result.masked, kImages);
  }
}

TEST_P(Engine, TrialsLeaveNoTrace) {
  TrialEngine engine = make_engine(GetParam());
  const auto trials = awkward_faults(engine.space());
  std::vector<TrialResult> first;
  for (const Faults& faults : trials) first.push_back(engine.run(faults).result);
  for (std::size_t i = trials.size(); i-- > 0;)
    EXPECT_TRUE(test::same_result(engine.run(trials[i]).result, first[i])) << i;
  EXPECT_TRUE(same_bits(engine.logits_reference({}).logits, engine.golden().logits));
}

TEST_P(Engine, WithoutFaultsEverythingIsMasked) {
  TrialEngine engine = make_engine(GetParam());
  for (const TrialOutcome& outcome : {engine.run(Faults{}), engine.run_reference({})}) {
    EXPECT_EQ(outcome.result.masked, kImages);
    EXPECT_EQ(outcome.result.correct, engine.golden().correct);
    EXPECT_EQ(outcome.result.top5, engine.golden().top5);
    EXPECT_EQ(outcome.result.first_node, -1);
    EXPECT_TRUE(outcome.faults.empty());
  }
  EXPECT_TRUE(same_bits(engine.golden().predictions, predictions_of(engine.golden().logits)));
}

INSTANTIATE_TEST_SUITE_P(Nets, Engine,
                         ::testing::Values("plain", "residual", "hardened plain",
                                           "hardened residual", "plain bounded", "residual bounded",
                                           "hardened residual bounded", "plain at once",
                                           "residual at once", "hardened residual at once"),
                         [](const auto& net) {
                           std::string name = net.param;
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

class AtOnce : public ::testing::TestWithParam<const char*> {
 protected:
  static TrialEngine engine(std::int64_t trials) {
    EngineOptions own = options(1u << 30);
    own.trials_at_once = trials;
    return TrialEngine(make_net(GetParam()), test::random_images(kImages), own);
  }
};

// For a given number of them.
TEST_P(AtOnce, NeitherOrderNorCompanionsChangeABit) {
  for (const std::int64_t number : {1, 4}) {
    TrialEngine together = engine(number), alone = engine(number);
    std::vector<TrialInput> trials;
    for (const Faults& faults : awkward_faults(alone.space())) trials.push_back({faults});
    Rng rng({kSeed, 0, 0, Purpose::kInitialWeights});
    std::vector<TrialInput> shuffled;
    for (const std::int64_t i : rng.permutation(static_cast<std::int64_t>(trials.size())))
      shuffled.push_back(trials[static_cast<std::size_t>(i)]);
    const std::vector<TrialOutcome> found = together.run_batch(shuffled);
    for (std::size_t t = 0; t < shuffled.size(); ++t)
      EXPECT_TRUE(test::same_result(found[t].result, alone.run(shuffled[t].faults).result)) << t;
  }
}

TEST_P(AtOnce, TheirNumberChangesNoPrediction) {
  TrialEngine one = engine(1), some = engine(7), none = engine(0);
  for (const Faults& faults : awkward_faults(one.space())) {
    const TrialLogits wanted = one.logits(faults);
    EXPECT_EQ(compare(some.logits(faults), wanted).mismatches, 0u);
    EXPECT_EQ(compare(none.logits(faults), wanted).mismatches, 0u);
  }
  EXPECT_EQ(none.trials_at_once(), 0);
  EXPECT_EQ(some.trials_at_once(), 7);
}

INSTANTIATE_TEST_SUITE_P(Nets, AtOnce, ::testing::Values("plain", "residual", "hardened residual"),
                         [](const auto& net) {
                           std::string name = net.param;
                           for (char& c : name) c = c == ' ' ? '_' : c;
                           return name;
                         });

TEST(TrialEngine, ReferenceOnlyRunsTheReferencePath) {
  EngineOptions only = options(1u << 30);
  only.reference_only = true;
  TrialEngine engine(test::residual_net(), test::random_images(kImages), only);
  EXPECT_EQ(engine.cache_bytes(), 0u);
  EXPECT_EQ(engine.restart_points(), 0u);
  const Faults faults = draw(ExactFaults{50}, engine.space(), {kSeed});
  const TrialOutcome outcome = engine.run(faults);
  EXPECT_EQ(outcome.result.path, EnginePath::kReference);
  EXPECT_TRUE(test::same_result(outcome.result, engine.run_reference(faults).result));
  EXPECT_EQ(outcome.faults.size(), 50u);
}

TEST(TrialEngine, BlockSizeDoesNotChangePredictions) {
  EngineOptions small = options(1u << 30), large = options(1u << 30);
  small.block = 7;
  large.block = 1000;
  TrialEngine a(test::residual_net(), test::random_images(kImages), small);
  TrialEngine b(test::residual_net(), test::random_images(kImages), large);
  for (std::uint64_t trial = 0; trial < 20; ++trial) {
    const Faults faults = draw(BinomialFaults{1e-4}, a.space(), {kSeed, 9, trial});
    EXPECT_TRUE(at::equal(a.logits(faults).predictions, b.logits(faults).predictions));
  }
}

TEST(TrialEngine, RefusesNoImagesAndNoBlock) {
  Batch none = test::random_images(4);
  none.images = none.images.narrow(0, 0, 0);
  none.labels = none.labels.narrow(0, 0, 0);
  EXPECT_THROW(TrialEngine(test::residual_net(), none, EngineOptions{}), UserError);
  EngineOptions zero;
  zero.block = 0;
  EXPECT_THROW(TrialEngine(test::residual_net(), test::random_images(4), zero), UserError);
}

}  // namespace
}  // namespace sentinel
