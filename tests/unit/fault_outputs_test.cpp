#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/fault/trial_engine.hpp"
#include "sentinel/graph/outputs.hpp"
#include "unit/fault_nets.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 91;
constexpr std::int64_t kImages = 21;  // blocks of 8, 8 and 5

enum class Family { kResidual, kPlain, kPointwise, kDuplicated, kHardened };
Graph network_of(Family family) {
  const at::Tensor images = test::random_images(kImages).images;
  switch (family) {
    case Family::kResidual:
      return test::residual_net();
    case Family::kPlain:
      return test::plain_net();
    case Family::kPointwise:
      return test::pointwise_net();
    case Family::kDuplicated:
      return test::hardened(test::residual_net(), images, false);
    case Family::kHardened:
      return test::hardened(test::residual_net(), images);
  }
  throw Bug("unknown family");
}

Selection of(TensorClass kind) {
  Selection selection;
  selection.targets = {kind};
  return selection;
}

TrialEngine engine_for(const Graph& graph, TensorClass kind, std::uint64_t budget = 1 << 30,
                       std::int64_t trials_at_once = 0) {
  EngineOptions options;
  options.trials_at_once = trials_at_once;
  options.block = 8;
  options.cache_budget = budget;
  options.selection = of(kind);
  return TrialEngine(graph.clone(), test::random_images(kImages), options);
}

/// Each image's own faults, as trials of `image` lifetime have them.
Faults of_images(const Sampler& sampler, const FaultSpace& space, std::uint64_t trial,
                 const FaultModel& model = {}) {
  Faults all;
  for (std::int32_t image = 0; image < kImages; ++image) {
    const RngKey key{kSeed + 1000 * static_cast<std::uint64_t>(image), 0, trial};
    Faults own = draw(sampler, space, key);
    give_effects(model, own, key);
    for (FaultSite& site : own) site.image = image;
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() &&
         std::memcmp(a.contiguous().data_ptr(), b.contiguous().data_ptr(), a.nbytes()) == 0;
}

// ---- The space ----

TEST(OutputTensors, AreThoseOfTheirClass) {
  const Graph graph = test::plain_net();
  std::vector<std::string> names;
  for (const TensorClass kind : {TensorClass::kActivation, TensorClass::kPost}) {
    for (const StoredTensor& tensor : output_tensors(graph, kind)) names.push_back(tensor.name);
    names.emplace_back("|");
  }
  EXPECT_EQ(names, (std::vector<std::string>{"features.0", "features.3", "classifier.0",
                                             "classifier.3", "|", "input", "features.2",
                                             "features.5", "classifier.1", "|"}));
  const std::vector<StoredTensor> all = output_tensors(graph, TensorClass::kOutput);
  EXPECT_EQ(static_cast<NodeId>(all.size()), graph.size());
  EXPECT_EQ(all[1].values, 8u * 12 * 12);
  EXPECT_EQ(all[1].row, 144u);
  EXPECT_EQ(all.back().values, 10u);
  EXPECT_EQ(all.back().row, 1u);
}

TEST(OutputTensors, HaveTheCopiesOfDuplicatedChannels) {
  const Graph graph = network_of(Family::kDuplicated);
  const FaultSpace space(graph, of(TensorClass::kActivation));
  EXPECT_EQ(space.tensors().front().originals, 8u * 144);
  EXPECT_EQ(space.tensors().front().elements, 11u * 144);
  EXPECT_TRUE(space.of_outputs());
  EXPECT_FALSE(FaultSpace(graph).of_outputs());
}

TEST(Targets, OutputsStandAlone) {
  EXPECT_EQ(parse_targets({"post"}), std::vector<TensorClass>{TensorClass::kPost});
  EXPECT_THROW(parse_targets({"weight", "activation"}), UserError);
  EXPECT_THROW(parse_targets({"activation", "post"}), UserError);
  EXPECT_THROW(parse_targets({"output"}), UserError);
}

// ---- The reference path ----

/// One flip in the trace of a plain run, and everything after it run again.
at::Tensor by_hand(const Graph& graph, const at::Tensor& images, const FaultSpace& space,
                   const Faults& faults) {
  std::vector<at::Tensor> rows;
  for (const FaultSite& site : faults) {
    Trace trace(static_cast<std::size_t>(graph.size()));
    trace[0] = images.narrow(0, site.image, 1).clone();
    run(graph, trace);
    const NodeId node = space.tensors()[site.tensor].node;
    at::Tensor& output = trace[static_cast<std::size_t>(node)];
    output = output.contiguous().clone();
    std::uint32_t word = 0;
    std::memcpy(&word, output.data_ptr<float>() + site.element, sizeof word);
    word ^= 1u << site.bit;
    std::memcpy(output.data_ptr<float>() + site.element, &word, sizeof word);
    rows.push_back(run(graph, trace, node + 1));
  }
  return at::cat(rows);
}

class OutputFaultsReference : public ::testing::TestWithParam<TensorClass> {};

TEST_P(OutputFaultsReference, AreWhatARunWithAChangedOutputGives) {
  for (const Family family : {Family::kResidual, Family::kPlain}) {
    const Graph graph = network_of(family);
    TrialEngine engine = engine_for(graph, GetParam());
    const Batch images = test::random_images(kImages);
    for (std::uint64_t trial = 0; trial < 20; ++trial) {
      const Faults faults = of_images(ExactFaults{1}, engine.space(), trial);
      const TrialLogits found = engine.logits_reference(faults);
      const at::Tensor expected = by_hand(graph, images.images, engine.space(), faults);
      EXPECT_TRUE(at::allclose(found.logits, expected, test::kFloats, test::kFewFloats, true))
          << trial;
      for (std::int64_t i = 0; i < kImages; ++i)
        EXPECT_EQ(found.predictions[i].item<std::int64_t>(),
                  predictions_of(expected)[i].item<std::int64_t>());
    }
  }
}

/// The original's fault and the copy's, merged by hand.
TEST(OutputFaultsOfDuplicatedChannels, HitBeforeTheCorrection) {
  const Graph graph = network_of(Family::kDuplicated);
  TrialEngine engine = engine_for(graph, TensorClass::kActivation);
  const FaultTensor& first = engine.space().tensors().front();
  const auto& op = std::get<DuplicatedConv>(graph[first.node].op);
  for (const bool copy : {false, true}) {
    Faults faults;
    // With bit 30 a value is at least 2, mostly huge: the other of the two results wins.
    const std::uint64_t row =
        copy ? first.originals / first.row : static_cast<std::uint64_t>(op.duplicated.front());
    for (std::int32_t image = 0; image < kImages; ++image)
      faults.push_back({0, row * first.row + 77, 30, Effect::kStuckAt1, 1, image});
    const TrialOutcome fast = engine.run(faults), reference = engine.run_reference(faults);
    EXPECT_EQ(reference.result.masked, kImages) << copy;
    EXPECT_EQ(fast.result.masked, kImages) << copy;
    EXPECT_GT(fast.words_wrong, kImages / 2);
    EXPECT_EQ(fast.words_wrong + fast.masked, kImages);
    EXPECT_EQ(fast.masked, reference.masked);
  }
}

// ---- The fast path ----

struct Case {
  Family family;
  TensorClass kind;
  Sampler sampler;
  FaultModel model = {};
  std::uint64_t budget = 1 << 30;
  std::int64_t trials_at_once = 0;
};

class OutputFaultsEngine : public ::testing::TestWithParam<int> {};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Family family : {Family::kResidual, Family::kPlain, Family::kPointwise,
                              Family::kDuplicated, Family::kHardened})
    for (const TensorClass kind :
         {TensorClass::kActivation, TensorClass::kPost, TensorClass::kOutput}) {
      all.push_back({family, kind, ExactFaults{1}});
      all.push_back({family, kind, BinomialFaults{1e-3}});
      all.push_back({family, kind, BinomialFaults{1e-4}, {}, 1 << 30, 5});
    }
  FaultModel stuck, random, burst;
  stuck.effect = Effect::kStuckAt1;
  random.effect = Effect::kRandomWord;
  burst.lengths = {0, 0, 1};
  for (const FaultModel& model : {stuck, random, burst})
    all.push_back({Family::kHardened, TensorClass::kOutput, BinomialFaults{1e-4}, model});
  all.push_back({Family::kResidual, TensorClass::kOutput, BinomialFaults{1e-4}, {}, 0});
  all.push_back({Family::kResidual, TensorClass::kOutput, BinomialFaults{1e-4}, {}, 0, 5});
  return all;
}

TEST_P(OutputFaultsEngine, AgreesWithTheReference) {
  const Case own = cases().at(static_cast<std::size_t>(GetParam()));
  TrialEngine engine = engine_for(network_of(own.family), own.kind, own.budget, own.trials_at_once);
  std::vector<TrialInput> trials;
  for (std::uint64_t trial = 0; trial < 12; ++trial)
    trials.push_back({of_images(own.sampler, engine.space(), trial, own.model)});
  const std::vector<TrialOutcome> together = engine.run_batch(trials);
  std::uint32_t changed = 0;
  for (std::size_t t = 0; t < trials.size(); ++t) {
    const Faults& faults = trials[t].faults;
    const Audit both = audit(engine, faults);
    EXPECT_EQ(both.agreement.mismatches, 0u) << t;
    EXPECT_EQ(both.agreement.near_ties, 0u) << t;
    const TrialOutcome alone = engine.run(faults), reference = engine.run_reference(faults);
    // What shares a batch changes no bit.
    EXPECT_TRUE(test::same_result(together[t].result, alone.result)) << t;
    EXPECT_TRUE(test::same_result(together[t].result, both.fast.result)) << t;
    EXPECT_EQ(together[t].n_faults, faults.size());
    EXPECT_EQ(together[t].result.first_node, reference.result.first_node);
    EXPECT_EQ(together[t].faults.size(), reference.faults.size());
    changed += together[t].result.images - together[t].result.masked;
    for (std::size_t i = 0; i < alone.faults.size(); ++i)
      EXPECT_EQ(alone.faults[i].after, together[t].faults[i].after);
  }
  EXPECT_GT(changed, 0u);
}
INSTANTIATE_TEST_SUITE_P(Faults, OutputFaultsEngine,
                         ::testing::Range(0, static_cast<int>(cases().size())));
INSTANTIATE_TEST_SUITE_P(Faults, OutputFaultsReference,
                         ::testing::Values(TensorClass::kActivation, TensorClass::kPost));

/// The shortcut comes after the normalisation and before the sum that make one value.
TEST(OutputFaultsEngine, AValueThatBeginsEarlierMayEndLater) {
  const Graph graph = network_of(Family::kResidual);
  for (const std::int64_t at_once : {0, 3}) {
    TrialEngine engine = engine_for(graph, TensorClass::kOutput, 1 << 30, at_once);
    const auto flips = [&](const char* node) {
      const auto& tensors = engine.space().tensors();
      const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const FaultTensor& own) {
        return own.node == graph.find(node);
      });
      Faults faults;
      for (std::uint64_t element = 0; element < 20; ++element) {
        FaultSite site{static_cast<std::uint32_t>(found - tensors.begin()), element, 25};
        site.image = 1;
        faults.push_back(site);
      }
      return faults;
    };
    const Faults norm = flips("layer2.0.conv2.bn");
    Faults both = flips("layer2.0.downsample");
    both.insert(both.end(), norm.begin(), norm.end());
    std::sort(both.begin(), both.end());
    EXPECT_EQ(audit(engine, both).agreement.mismatches, 0u) << at_once;
    EXPECT_FALSE(same_bits(engine.logits(both).logits, engine.logits(norm).logits)) << at_once;
    EXPECT_EQ(engine.run(both).result.masked, kImages - 1u) << at_once;
  }
}

/// A trial on B images is B trials on one.
TEST(OutputFaultsEngine, ATrialOfImagesIsTrialsOfOneImageEach) {
  TrialEngine engine = engine_for(network_of(Family::kResidual), TensorClass::kActivation);
  for (std::uint64_t trial = 0; trial < 10; ++trial) {
    const Faults faults = of_images(BinomialFaults{1e-4}, engine.space(), trial);
    const at::Tensor together = engine.logits(faults).logits;
    for (std::int64_t image = 0; image < kImages; ++image) {
      Faults own;
      for (const FaultSite& site : faults)
        if (site.image == image) own.push_back(site);
      const at::Tensor alone = engine.logits(own).logits;
      EXPECT_TRUE(same_bits(alone[image], together[image])) << trial << " " << image;
    }
  }
}

/// A fault of all images is that fault in each of them, told once.
TEST(OutputFaultsEngine, PermanentFaultsHitEveryImage) {
  TrialEngine engine = engine_for(network_of(Family::kPlain), TensorClass::kPost);
  for (std::uint64_t trial = 0; trial < 10; ++trial) {
    const Faults once = draw(ExactFaults{3}, engine.space(), {kSeed, 0, trial});
    Faults each;
    for (std::int32_t image = 0; image < kImages; ++image)
      for (FaultSite site : once) {
        site.image = image;
        each.push_back(site);
      }
    EXPECT_TRUE(same_bits(engine.logits(once).logits, engine.logits(each).logits));
    const TrialOutcome outcome = engine.run(once);
    EXPECT_EQ(outcome.n_faults, 3u);
    ASSERT_EQ(outcome.faults.size(), 3u);
    const TrialOutcome apart = engine.run(each);
    EXPECT_EQ(outcome.faults[0].before, apart.faults[0].before);
    EXPECT_EQ(outcome.words_wrong, apart.words_wrong);
  }
}

/// A fault of all images has the words of the first, whatever else another image has.
TEST(OutputFaultsEngine, RecordsAreThoseOfTheFirstImage) {
  for (const std::uint64_t budget : {std::uint64_t{1} << 30, std::uint64_t{0}}) {
    TrialEngine engine = engine_for(network_of(Family::kResidual), TensorClass::kOutput, budget);
    const Faults faults = {{8, 40, 23}, {1, 7, 24, Effect::kFlip, 1, 15}};
    const TrialOutcome fast = engine.run(faults), reference = engine.run_reference(faults);
    float first = 0, other = 0;
    std::memcpy(&first, &fast.faults[0].before, sizeof first);
    std::memcpy(&other, &reference.faults[0].before, sizeof other);
    EXPECT_NEAR(first, other, test::kFewFloats);
    EXPECT_EQ(fast.words_wrong, reference.words_wrong);
  }
}

TEST(OutputFaultsEngine, RefusesFaultsOutsideItsSpace) {
  TrialEngine engine = engine_for(network_of(Family::kPlain), TensorClass::kPost);
  EXPECT_THROW(engine.run({{99, 0, 0}}), Bug);
  EXPECT_THROW(engine.run_reference({{0, 1u << 30, 0}}), Bug);
}

}  // namespace
}  // namespace sentinel
