#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/audit.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSeed = 91;

Layout layout(const std::string& text) {
  return parse_layout(text);
}

/// Stores all tensors of a class so.
void store_class(Graph& graph, TensorClass kind, const std::string& text,
                 const std::string& scales = "fp32") {
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.kind == kind) store_as(graph, tensor.name, layout(text), layout(scales));
}

Selection target(std::vector<TensorClass> kinds) {
  Selection selection;
  selection.targets = std::move(kinds);
  return selection;
}

const std::vector<TensorClass> kAll = {TensorClass::kWeight, TensorClass::kBias,
                                       TensorClass::kBn,     TensorClass::kBound,
                                       TensorClass::kScale,  TensorClass::kCheck};

/// Copies, corrections, bounds of activations and weights, normalisation, biases.
Graph all_classes(bool per_row) {
  Graph graph = test::hardened(test::residual_net(), test::random_images(8).images, true);
  test::bound_weights(graph, per_row);
  return graph;
}

Graph grouped_net() {
  test::Builder b(21);
  NodeId x = b.graph.add("conv1", b.conv(3, 8, 3, 1, true), {0});
  x = b.graph.add("bn1", b.norm(8), {x});
  x = b.graph.add("relu", BoundedActivation{at::full({8}, 2.0F), Clipping::kRangerClamp}, {x});
  Conv depthwise = b.conv(1, 8, 3, 2, true);
  depthwise.groups = 8;
  x = b.graph.add("conv2", depthwise, {x});
  x = b.graph.add(
      "act", BoundedActivation{at::full({}, 1.5F), Clipping::kRanger, ActivationKind::kHardswish},
      {x});
  Conv grouped = b.conv(4, 8, 1, 1, false);
  grouped.groups = 2;
  const NodeId y = b.graph.add("conv3", grouped, {x});
  x = b.graph.add("concat", Concat{}, {x, y});
  x = b.graph.add("bn2", b.norm(16), {x});
  x = b.graph.add("relu2", Activation{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 16, 10);
  return std::move(b.graph);
}

// ---- stored tensors ----

TEST(StoredTensors, AreAllTensorsButCounters) {
  Graph graph = all_classes(true);
  std::get<BatchNorm>(graph[graph.find("conv1.bn")].op).batches_tracked = at::zeros({}, at::kLong);
  store_as(graph, "conv1.weight", layout("int8:channel+secded:64"));
  std::set<std::string> names;
  for (const StoredTensor& tensor : stored_tensors(graph)) names.insert(tensor.name);
  for (const char* name :
       {"conv1.weight", "conv1.weight_low", "conv1.weight_high", "conv1.weight_scale",
        "conv1.weight.check", "conv1.range_low", "conv1.bn.running_var", "relu.bound", "fc.bias"})
    EXPECT_EQ(names.count(name), 1u) << name;
  EXPECT_EQ(names.count("conv1.bn.num_batches_tracked"), 0u);
}

TEST(StoredTensors, CheckWordsAreOfBlocksOfOriginalsAndOfCopies) {
  Graph graph = all_classes(false);
  store_as(graph, "conv1.weight", layout("int8:channel+secded:64"));  // 8 + 3 filters of 27
  for (const StoredTensor& tensor : stored_tensors(graph))
    if (tensor.name == "conv1.weight.check") {
      EXPECT_EQ(tensor.originals, 27u);     // 216 bytes
      EXPECT_EQ(tensor.values, 27u + 11u);  // 81 more
    }
}

// ---- what is read ----

TEST(Memory, ReadsTheValuesOfTheGraphWithoutFaults) {
  for (const char* text : {"fp32", "fp16", "bf16", "int8:channel", "int8:tensor",
                           "int5:channel+bch:16,5", "int4:channel+bch:8,4", "fp32+mset",
                           "fp16+repeat:3", "int8:channel+secded:64", "int7:channel+zero-space"}) {
    Graph graph = all_classes(true);
    store_class(graph, TensorClass::kWeight, text);
    Graph again = graph.clone();
    store_class(again, TensorClass::kWeight, text);
    for (const StoredTensor& tensor : stored_tensors(graph)) {
      if (tensor.kind != TensorClass::kWeight) continue;
      EXPECT_TRUE(at::equal(values_of(graph, tensor), values_of(again, tensor))) << text;
    }
    const Reading reading = Memory(graph).read(FaultSpace(graph), {});
    EXPECT_TRUE(reading.changes.empty());
  }
}

TEST(Memory, CountsWhatFaultsDo) {
  Graph graph = test::plain_net();
  Selection bits;
  const FaultSpace space(graph, bits);
  const Memory memory(graph);
  FaultSite stuck{0, 4, 30, Effect::kStuckAt0};
  Reading reading = memory.read(space, {stuck});  // no weight is so large
  EXPECT_EQ(reading.masked, 1u);
  EXPECT_EQ(reading.words_wrong, 0u);
  EXPECT_TRUE(reading.changes.empty());
  stuck.effect = Effect::kStuckAt1;
  reading = memory.read(space, {stuck});
  EXPECT_EQ(reading.masked, 0u);
  EXPECT_EQ(reading.words_wrong, 1u);
  ASSERT_EQ(reading.changes.size(), 1u);
  EXPECT_EQ(reading.records[0].after, reading.records[0].before | Word{1} << 30);
}

TEST(Memory, ReadsTheSameWithoutRecords) {
  const Graph graph = test::plain_net();
  const FaultSpace space(graph);
  const Memory memory(graph);
  const Faults faults{{0, 4, 3}, {0, 4, 30}, {0, 5, 31}};
  const Reading all = memory.read(space, faults, 3), none = memory.read(space, faults, 2);
  EXPECT_EQ(all.records.size(), 3u);
  EXPECT_TRUE(none.records.empty());
  EXPECT_EQ(none.words_wrong, all.words_wrong);
  ASSERT_EQ(none.changes.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(none.changes[i].element, all.changes[i].element);
    EXPECT_EQ(none.changes[i].faulty, all.changes[i].faulty);
  }
}

TEST(Memory, CutsBurstsAtTheEndOfTheWord) {
  const Graph graph = test::plain_net();
  FaultSite burst{0, 4, 30, Effect::kFlip, 3};
  const Reading reading = Memory(graph).read(FaultSpace(graph), {burst});
  EXPECT_EQ(reading.records[0].before ^ reading.records[0].after, Word{3} << 30);
}

TEST(Memory, StoresValuesAndRandomWords) {
  Graph graph = test::plain_net();
  store_class(graph, TensorClass::kWeight, "int8:channel");
  Selection words;
  words.words = true;
  const FaultSpace space(graph, words);
  const Memory memory(graph);
  std::uint32_t one = 0;
  const float value = 1e9F;  // saturates
  std::memcpy(&one, &value, sizeof one);
  Reading reading = memory.read(space, {{0, 4, 0, Effect::kValue, 1, -1, one}});
  EXPECT_EQ(reading.records[0].after, 127u);
  reading = memory.read(space, {{0, 4, 0, Effect::kRandomWord, 1, -1, 0xabcdef12}});
  EXPECT_EQ(reading.records[0].after, 0x12u);
}

TEST(Memory, AValueIsStoredAsItsBlockStoresIt) {
  for (const char* text : {"int7:tensor+zero-space", "int8:tensor+secded:64", "int8:tensor+spw"}) {
    Graph graph = test::plain_net();
    store_class(graph, TensorClass::kWeight, text);
    Selection words;
    words.words = true;
    const Memory memory(graph);
    const Layout own = layout(text);
    std::uint32_t bits = 0;
    const float value = -1e9F;  // saturates
    std::memcpy(&bits, &value, sizeof bits);
    const Word after =
        memory.read(FaultSpace(graph, words), {{0, 4, 0, Effect::kValue, 1, -1, bits}})
            .records[0]
            .after;
    const int sign = own.code->kind == Code::Kind::kSpw ? 12 : 7;
    EXPECT_EQ(after >> sign, 1u) << text << " " << after;
    ReadWord read;
    Word check = 0;
    if (own.code->kind != Code::Kind::kSecded) {
      decode_block(own, &after, 1, check, &read);
      EXPECT_LT(decode(own.format, read.word, 1), -62) << text;
    }
  }
}

TEST(Memory, AScaleOfZeroHasASign) {
  Graph graph = test::plain_net();
  const std::string name = "features.0.weight";
  store_as(graph, name, layout("int8:channel"));
  rescale(graph, name, at::zeros_like(graph.storage.at(name).scale));
  const FaultSpace space(graph, target({TensorClass::kScale}));
  const Reading reading = Memory(graph).read(space, {{0, 2, 31}});
  ASSERT_EQ(reading.changes.size(), 27u);
  for (const ReadChange& change : reading.changes) EXPECT_TRUE(std::signbit(change.faulty));
}

TEST(StoredTensors, AnotherWayOfStoringForgetsTheFormerScales) {
  Graph graph = test::plain_net();
  const std::string name = "features.0.weight";
  for (const char* scales : {"fp16", "fp32"}) {
    store_as(graph, name, layout("int8:channel"), layout(scales));
    EXPECT_EQ(graph.storage.count(name + "_scale"), is_plain(layout(scales)) ? 0u : 1u);
  }
  store_as(graph, name, layout("int8:channel"), layout("fp16"));
  store_as(graph, name, layout("fp16"));
  EXPECT_EQ(graph.storage.count(name + "_scale"), 0u);
}

TEST(Memory, ACodeCorrectsAndFlags) {
  Graph graph = test::plain_net();
  store_class(graph, TensorClass::kWeight, "int4:channel+bch:8,4");
  const FaultSpace space(graph);
  ASSERT_EQ(space.tensors()[0].word_bits, 8);
  const Memory memory(graph);
  const Reading one = memory.read(space, {{0, 4, 3}});
  EXPECT_TRUE(one.changes.empty());
  EXPECT_EQ(one.words_wrong, 0u);
  const Reading two = memory.read(space, {{0, 4, 3}, {0, 4, 5}});
  EXPECT_EQ(two.words_flagged, 1u);
  EXPECT_EQ(two.words_wrong, 1u);
}

TEST(Memory, CheckWordsAreReadWithTheirBlocks) {
  Graph graph = test::plain_net();
  store_class(graph, TensorClass::kWeight, "int8:channel+secded:64");
  const FaultSpace space(graph, target({TensorClass::kWeight, TensorClass::kCheck}));
  ASSERT_EQ(space.tensors()[1].name, "features.0.weight.check");
  const Memory memory(graph);
  EXPECT_TRUE(memory.read(space, {{1, 2, 3}}).changes.empty());            // corrected
  EXPECT_TRUE(memory.read(space, {{0, 17, 3}}).changes.empty());           // corrected
  EXPECT_EQ(memory.read(space, {{0, 17, 3}, {1, 2, 3}}).words_wrong, 1u);  // used as it is
}

TEST(Memory, AScaleIsReadByAllItsValues) {
  for (const char* text : {"int8:channel", "int8:channel+secded:64", "int4:channel+bch:8,4",
                           "int7:channel+zero-space", "fp8:e5m2:channel+tmr:6"}) {
    Graph graph = test::plain_net();
    store_class(graph, TensorClass::kWeight, text);
    const FaultSpace space(graph, target({TensorClass::kScale}));
    const Reading reading = Memory(graph).read(space, {{0, 2, 24}});  // row 2, exponent
    EXPECT_EQ(reading.words_wrong, 1u) << text;                       // the scale itself
    const float* values =
        std::get<Conv>(graph[graph.find("features.0")].op).weight.data_ptr<float>();
    const auto zeros = std::count(values + 2 * 27, values + 3 * 27, 0.0F);
    EXPECT_EQ(reading.changes.size(), 27u - static_cast<std::size_t>(zeros)) << text;
    for (const ReadChange& change : reading.changes) {
      EXPECT_EQ(change.element / 27, 2u);
      const float factor = change.faulty / change.clean;
      EXPECT_TRUE(factor == 4.0F || factor == 0.25F) << text << " " << factor;
    }
  }
}

TEST(Memory, AScaleAndWordsThatAreHitAreReadTogether) {
  for (const char* text : {"int8:channel", "int8:channel+secded:64"}) {
    Graph graph = test::plain_net();
    store_class(graph, TensorClass::kWeight, text);
    const FaultSpace space(graph, target({TensorClass::kWeight, TensorClass::kScale}));
    const auto at = [&](const char* name) {
      for (std::uint32_t t = 0; t < space.tensors().size(); ++t)
        if (space.tensors()[t].name == name) return t;
      throw Bug("no such tensor");
    };
    const std::uint32_t weight = at("features.0.weight"), scales = at("features.0.weight_scale");
    // Two bits of a word each, so that SEC-DED does not correct them: in rows 1 and 2, and in the
    // block that ends row 2 and begins row 3.
    const Faults faults = {{weight, 30, 1}, {weight, 30, 6}, {weight, 60, 1}, {weight, 60, 6},
                           {weight, 81, 1}, {weight, 81, 6}, {scales, 2, 24}};
    const Memory memory(graph);
    const Reading reading = memory.read(space, faults);
    EXPECT_EQ(reading.words_wrong, 4u) << text;
    const float* clean = memory.values(space.tensors()[weight].stored);
    const float* scale = graph.storage.at("features.0.weight").scale.data_ptr<float>();
    const float wrong = decode({}, reading.records.back().after);
    std::size_t next = 0;
    for (std::uint64_t e = 0; e < space.tensors()[weight].elements; ++e) {
      Word word = memory.word(space.tensors()[weight].stored, e);
      if (e == 30 || e == 60 || e == 81) word ^= 0x42;
      const float expected = decode(layout(text).format, word, e / 27 == 2 ? wrong : scale[e / 27]);
      if (expected == clean[e]) continue;
      ASSERT_LT(next, reading.changes.size()) << text << " " << e;
      EXPECT_EQ(reading.changes[next].element, e) << text;
      EXPECT_EQ(reading.changes[next++].faulty, expected) << text << " " << e;
    }
    EXPECT_EQ(next, reading.changes.size()) << text;
  }
}

// ---- engine = reference ----

struct Case {
  const char* name;
  Graph graph;
};

std::vector<Case> nets() {
  std::vector<Case> all;
  all.push_back({"hardened, bounds per row", all_classes(true)});
  all.push_back({"hardened, bounds per layer", all_classes(false)});
  all.push_back({"plain", test::plain_net()});
  all.push_back({"grouped", grouped_net()});
  return all;
}

struct Storing {
  const char *weight, *others, *scales;
};
const Storing kStorings[] = {{"fp32", "fp32", "fp32"},
                             {"bf16", "fp16+repeat:3", "fp32"},
                             {"int8:channel", "fp32", "fp16"},
                             {"int5:tensor+bch:16,5", "fp16+repeat:3", "fp16+repeat:3"},
                             {"int8:channel+secded:64,zero", "bf16", "fp32"},
                             {"fp32+cep:d3", "fp32+repeat:3", "fp32"},
                             {"int7:channel+zero-space", "fixed:15.16", "fp32"}};

Graph stored(const Graph& graph, const Storing& how) {
  Graph all = graph.clone();
  store_class(all, TensorClass::kWeight, how.weight, how.scales);
  for (const TensorClass kind : {TensorClass::kBias, TensorClass::kBn, TensorClass::kBound})
    store_class(all, kind, how.others);
  return all;
}

FaultModel model_of(const std::string& effect, const std::string& shape = "bit") {
  FaultModel model;
  parse_effect(effect, model);
  parse_shape(shape, model);
  return model;
}

/// Trials of each combination; many in a long run (ctest unit_fault.many_trials).
std::uint64_t trials_each() {
  const char* text = std::getenv("SENTINELNN_ENGINE_TRIALS");
  return text == nullptr ? 6 : std::stoull(text);
}

/// Every class by itself and all together, by every effect, once alone and once with others.
TEST(Engine, AgreesWithTheReferenceOnEveryClassLayoutAndEffect) {
  const Batch images = test::random_images(10);
  const std::vector<FaultModel> models = {model_of("flip"),
                                          model_of("stuck-at-1"),
                                          model_of("stuck-at-0", "mbu:0.2,0.3,0.5"),
                                          model_of("flip", "burst:3"),
                                          model_of("random-word"),
                                          model_of("value:0.5")};
  std::vector<std::vector<TensorClass>> targets = {kAll};
  for (const TensorClass kind : kAll) targets.push_back({kind});
  int trials = 0, changed = 0;
  for (const Case& net : nets())
    for (const Storing& how : kStorings)
      for (std::size_t t = 0; t < targets.size(); ++t) {
        const FaultModel& model =
            models[(t + static_cast<std::size_t>(&how - kStorings)) % models.size()];
        EngineOptions options;
        options.block = 4;
        options.selection = target(targets[t]);
        options.selection.words = model.of_words();
        const Graph graph = stored(net.graph, how);
        if (FaultSpace(graph, options.selection).sites() < 8) continue;
        for (const std::int64_t at_once : {0, 3}) {
          options.trials_at_once = at_once;
          TrialEngine engine(graph.clone(), images, options);
          for (std::uint64_t trial = 0; trial < trials_each(); ++trial) {
            Faults faults =
                draw(ExactFaults{trial % 3 == 0 ? 1u : 7u}, engine.space(), {kSeed, 0, trial});
            give_effects(model, faults, {kSeed, 0, trial});
            const Audit both = audit(engine, faults);
            EXPECT_EQ(both.agreement.mismatches, 0u)
                << net.name << ", " << how.weight << ", " << how.others << ", target " << t << ", "
                << effect_name(model) << " " << shape_name(model) << ", trial " << trial
                << ", at once " << at_once;
            ++trials;
            changed += both.reference.result.masked < both.reference.result.images;
          }
        }
      }
  EXPECT_GT(trials, 850);
  EXPECT_GT(changed, trials / 4);
  std::cout << "[ audited  ] " << trials << " trials, " << changed << " with changed logits\n";
}

/// The shortcut comes after the normalisation and before the sum that make one value.
TEST(Engine, AValueThatBeginsEarlierMayEndLater) {
  const Batch images = test::random_images(10);
  EngineOptions options;
  options.selection = target({TensorClass::kWeight, TensorClass::kBn});
  for (const std::int64_t at_once : {0, 3}) {
    options.trials_at_once = at_once;
    TrialEngine engine(test::residual_net(), images, options);
    const auto site = [&](const std::string& name) {
      const auto& tensors = engine.space().tensors();
      const auto found = std::find_if(tensors.begin(), tensors.end(),
                                      [&](const auto& own) { return own.name == name; });
      EXPECT_NE(found, tensors.end()) << name;
      return FaultSite{static_cast<std::uint32_t>(found - tensors.begin()), 2, 25};
    };
    const FaultSite norm = site("layer2.0.conv2.bn.weight"),
                    projection = site("layer2.0.downsample.weight");
    Faults both = {norm, projection};
    std::sort(both.begin(), both.end());
    EXPECT_EQ(audit(engine, both).agreement.mismatches, 0u) << at_once;
    EXPECT_FALSE(at::equal(engine.logits(both).logits, engine.logits({norm}).logits)) << at_once;
  }
}

TEST(Engine, BiasesAreNotMaskedByTheFastPath) {
  const Batch images = test::random_images(10);
  EngineOptions options;
  options.selection = target({TensorClass::kBias});
  TrialEngine engine(test::plain_net(), images, options);
  // Exponents of the first layer's biases.
  std::uint32_t critical = 0;
  for (std::uint64_t element = 0; element < 8; ++element) {
    const Audit both = audit(engine, {{0, element, 30}});
    EXPECT_EQ(both.agreement.mismatches, 0u);
    critical += both.fast.result.sdc_critical + both.fast.result.due;
  }
  EXPECT_GT(critical, 0u);
}

TEST(Engine, RunsNothingWhereAllIsCorrected) {
  Graph graph = test::residual_net();
  store_class(graph, TensorClass::kWeight, "int5:channel+bch:16,5");
  TrialEngine engine(std::move(graph), test::random_images(10), {});
  const TrialOutcome outcome = engine.run({{1, 4, 3}, {1, 4, 9}, {2, 8, 1}});
  EXPECT_EQ(outcome.result.masked, outcome.result.images);
  EXPECT_EQ(outcome.n_faults, 3u);
  EXPECT_EQ(outcome.words_wrong, 0u);
}

TEST(Engine, KeepsNoMoreFaultsThanAsked) {
  EngineOptions options;
  options.most_records = 2;
  TrialEngine engine(test::residual_net(), test::random_images(4), options);
  EXPECT_EQ(engine.run({{0, 1, 3}, {0, 2, 3}}).faults.size(), 2u);
  const TrialOutcome more = engine.run({{0, 1, 3}, {0, 2, 3}, {0, 3, 3}});
  EXPECT_TRUE(more.faults.empty());
  EXPECT_EQ(more.n_faults, 3u);
}

// ---- words read wrongly are binomial ----

TEST(Memory, WordsAreReadWronglyAsOftenAsTheCodeSays) {
  // int4 + (8,4), distance 4: a word is read wrongly (or flagged) from two flips on.
  Graph graph = test::residual_net();
  store_class(graph, TensorClass::kWeight, "int4:channel+bch:8,4");
  const FaultSpace space(graph);
  const Memory memory(graph);
  const double p = 1e-2;
  const double q = 1 - std::pow(1 - p, 8) - 8 * p * std::pow(1 - p, 7);
  const double words = static_cast<double>(space.sites()) / 8;
  constexpr int kTrials = 200;
  double sum = 0;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial)
    sum += memory.read(space, draw(BinomialFaults{p}, space, {kSeed, 1, trial})).words_wrong;
  const double expected = words * q * kTrials;
  EXPECT_NEAR(sum, expected, 4 * std::sqrt(expected * (1 - q)));
}

}  // namespace
}  // namespace sentinel
