#include "sentinel/fault/selection.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/sampler.hpp"
#include "sentinel/graph/outputs.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint64_t kSeed = 5;

template <class Call>
std::string complaint(const Call& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

/// Empty where there is no class of this number.
std::string name_of_class(TensorClass kind) {
  try {
    return class_name(kind);
  } catch (const Bug&) {
    return "";
  }
}

std::vector<std::string> names(const FaultSpace& space) {
  std::vector<std::string> all;
  for (const FaultTensor& tensor : space.tensors()) all.push_back(tensor.name);
  return all;
}

StoredTensor stored_as(const std::string& layout) {
  return {0, "conv1.weight", TensorClass::kWeight, parse_layout(layout), 8, 8, 4};
}

std::vector<int> bits(const std::string& layout, std::vector<std::string> wishes) {
  Selection selection;
  selection.bits = std::move(wishes);
  const auto selected = selected_bits(selection, stored_as(layout));
  return {selected.begin(), selected.end()};
}

// ---- words of the options ----

TEST(Selection, TargetsComeInTheOrderOfTheClasses) {
  Selection selection;
  EXPECT_EQ(target_name(selection), "weight");
  selection.targets = parse_targets({"bn", "weight"});
  EXPECT_EQ(target_name(selection), "weight,bn");
  EXPECT_EQ(parse_targets({"parameters"}).size(), 6u);
  EXPECT_THAT(complaint([] { parse_targets({"weights"}); }), HasSubstr("not 'weights'"));
  for (const char* word : {"weight", "activation", "parameters"})
    EXPECT_THAT(complaint([&] {
                  parse_targets({word, "bias", word});
                }),
                HasSubstr("names " + std::string(word) + " twice; name it once"));
}

/// A class that cannot be named would never fail.
TEST(Selection, EveryClassCanBeATarget) {
  const std::vector<TensorClass> all = parse_targets({"parameters"});
  for (int number = 0; number < 256; ++number) {
    const auto kind = static_cast<TensorClass>(number);
    const std::string name = name_of_class(kind);
    if (name.empty() || kind == TensorClass::kOutput) continue;  // of lists alone
    EXPECT_EQ(parse_targets({name}).at(0), kind);
    if (!is_output(kind)) {
      EXPECT_EQ(std::count(all.begin(), all.end(), kind), 1) << name;
    }
  }
}

TEST(Selection, ChannelsAreNumbersAndRanges) {
  const Selection::Channels channels = parse_channels("layer1.0.conv1=7,0-3,2-4");
  EXPECT_EQ(channels.layer, "layer1.0.conv1");
  ASSERT_EQ(channels.channels.size(), 2u);
  EXPECT_EQ(channels.channels[0], (NumberRange{0, 5}));
  EXPECT_EQ(channels.channels[1], (NumberRange{7, 8}));
  EXPECT_EQ(channels_name(channels), "layer1.0.conv1=0-4,7");
  EXPECT_EQ(channels_name({"a", {{3, 4}, {0, 1}, {2, 3}}}), "a=0,2-3");
  for (const char* bad : {"", "conv1", "conv1=", "=1", "conv1=3-1", "conv1=1,", "conv1=-1",
                          "conv1=1.5", "conv1=99999999999999999999"})
    EXPECT_THAT(complaint([&] { parse_channels(bad); }), HasSubstr("channels takes")) << bad;
}

TEST(Selection, GlobsMatchWholeNames) {
  EXPECT_TRUE(matches_glob("*", ""));
  EXPECT_TRUE(matches_glob("layer1.*", "layer1.0.conv1"));
  EXPECT_TRUE(matches_glob("*conv?", "layer1.0.conv1"));
  EXPECT_TRUE(matches_glob("l*1.*c*1", "layer1.0.conv1"));
  EXPECT_FALSE(matches_glob("layer1", "layer1.0.conv1"));
  EXPECT_FALSE(matches_glob("?", ""));
  EXPECT_FALSE(matches_glob("*conv2", "layer1.0.conv1"));
}

// ---- bits ----

TEST(Selection, BitsAreThoseOfTheStoredWord) {
  EXPECT_EQ(bits("fp32", {}).size(), 32u);
  EXPECT_THAT(bits("fp32", {"30", "0-1", "1"}), ElementsAre(0, 1, 30));
  EXPECT_THAT(bits("fp32", {"sign"}), ElementsAre(31));
  EXPECT_EQ(bits("fp32", {"exponent"}).front(), 23);
  EXPECT_EQ(bits("fp32", {"exponent"}).size(), 8u);
  EXPECT_EQ(bits("bf16", {"mantissa"}).size(), 7u);
  EXPECT_THAT(bits("int8", {"sign"}), ElementsAre(7));
  // Four check bits, then the word, then the parity of all.
  EXPECT_THAT(bits("int4+bch:8,4", {"message"}), ElementsAre(3, 4, 5, 6));
  EXPECT_THAT(bits("int4+bch:8,4", {"check"}), ElementsAre(0, 1, 2, 7));
  EXPECT_THAT(bits("int4+bch:8,4", {"sign"}), ElementsAre(6));
  EXPECT_THAT(bits("fp32", {"check"}), ElementsAre());
}

TEST(Selection, AWishThatALayoutCannotGrantIsAnError) {
  EXPECT_THAT(complaint([] { bits("int8", {"exponent"}); }), HasSubstr("has no such bits"));
  EXPECT_THAT(complaint([] { bits("int8", {"8"}); }), HasSubstr("the bits 0 to 7"));
  EXPECT_THAT(complaint([] { bits("int8+spw", {"sign"}); }), HasSubstr("moves bits"));
  EXPECT_THAT(complaint([] { bits("fp32", {"thirty"}); }), HasSubstr("not 'thirty'"));
}

// ---- the population ----

TEST(Selection, IsThePopulationRenumbered) {
  const Graph graph = test::residual_net();
  Selection selection;
  selection.targets = {TensorClass::kWeight, TensorClass::kBn};
  selection.layers = {"layer1.*", "!*conv2"};
  selection.bits = {"exponent"};
  const FaultSpace space(graph, selection);
  EXPECT_THAT(names(space), ElementsAre("layer1.0.conv1.weight", "layer1.0.conv1.bn.weight",
                                        "layer1.0.conv1.bn.bias", "layer1.0.conv1.bn.running_mean",
                                        "layer1.0.conv1.bn.running_var", "layer1.0.conv2.bn.weight",
                                        "layer1.0.conv2.bn.bias", "layer1.0.conv2.bn.running_mean",
                                        "layer1.0.conv2.bn.running_var"));
  EXPECT_EQ(space.sites(), (8u * 8 * 9 + 8 * 8) * 8);
  FaultSite before;
  for (std::uint64_t site = 0; site < space.sites(); ++site) {
    const FaultSite at = space.at(site);
    ASSERT_EQ(space.index(at), site);
    ASSERT_TRUE(at.bit >= 23 && at.bit < 31);
    ASSERT_TRUE(site == 0 || before < at);
    before = at;
  }
  EXPECT_THROW(space.index({0, 0, 31}), Bug);
}

TEST(Selection, ChannelsAreRowsAndTheirCopies) {
  const Graph graph = test::hardened(test::residual_net(), test::random_images(4).images);
  Selection selection;  // copies are of channels 5, 0, 2
  selection.targets = {TensorClass::kWeight, TensorClass::kBound};
  selection.channels = {parse_channels("layer1.0.conv1=2-3,5")};
  const FaultSpace space(graph, selection);
  ASSERT_THAT(names(space), ElementsAre("layer1.0.conv1.weight", "layer1.0.conv1.range_low",
                                        "layer1.0.conv1.range_high"));
  const std::uint64_t row = 72;
  ASSERT_EQ(space.tensors()[0].selected, 5 * row);  // 2, 3, 5 and the copies of 5 and 2
  EXPECT_EQ(space.at(0).element, 2 * row);
  EXPECT_EQ(space.at(2 * row * 32).element, 5 * row);
  EXPECT_EQ(space.at(3 * row * 32).element, 8 * row);
  EXPECT_EQ(space.at(4 * row * 32).element, 10 * row);
  // Ranges are of duplicated channels alone.
  EXPECT_EQ(space.tensors()[1].selected, 2u);
  EXPECT_EQ(space.at(space.tensors()[1].first_site).element, 0u);
  EXPECT_EQ(space.at(space.tensors()[1].first_site + 32).element, 2u);
  for (std::uint64_t site = 0; site < space.sites(); ++site)
    ASSERT_EQ(space.index(space.at(site)), site);
}

TEST(Selection, NamesWhatIsNotThere) {
  const Graph graph = test::residual_net();
  Selection selection;
  const auto refused = [&] { return complaint([&] { require_selected({&graph}, selection); }); };
  selection.layers = {"layer9.*"};
  EXPECT_THAT(refused(), HasSubstr("layers layer9.*"));
  selection.layers = {"!layer9.*"};
  EXPECT_THAT(refused(), HasSubstr("layers !layer9.*"));
  selection.layers = {};
  selection.channels = {parse_channels("layer1.0.conv9=1")};
  EXPECT_THAT(refused(), HasSubstr("no layer of this name"));
  selection.channels = {parse_channels("layer1.0.conv1=8")};
  EXPECT_THAT(refused(), HasSubstr("channels 0 to 7"));
  selection.channels = {parse_channels("layer1.0.conv1=7")};
  EXPECT_EQ(refused(), "");
}

TEST(Selection, HasOneSpelling) {
  Selection selection;
  selection.layers = {"layer2.*", "!fc", "layer2.*"};
  selection.channels = {parse_channels("fc=2,0-1"), parse_channels("conv1=7")};
  selection.bits = {"sign", "31", "23-29", "30", "exponent"};
  EXPECT_EQ(selection_name(canonical(selection)),
            "layers !fc,layer2.*; channels conv1=7; channels fc=0-2; bits 23-31,exponent,sign");
}

std::string spelling(std::vector<std::string> layers, std::vector<std::string> bits = {}) {
  Selection selection;
  selection.layers = std::move(layers);
  selection.bits = std::move(bits);
  return selection_name(canonical(selection));
}

TEST(Selection, OfEverythingHasNoName) {
  EXPECT_EQ(spelling({"*"}), "");
  EXPECT_EQ(spelling({"fc", "**"}), "");
  EXPECT_EQ(spelling({"*", "fc", "!conv1"}), spelling({"!conv1"}));
  EXPECT_EQ(spelling({"!**"}), "layers !*");
  EXPECT_EQ(spelling({}, {"message", "check"}), "");
  EXPECT_EQ(spelling({}, {"message"}), "bits message");
}

TEST(Selection, PatternsThatMeanTheSameAreOne) {
  EXPECT_EQ(spelling({"layer1.**", "layer1.*"}), "layers layer1.*");
  EXPECT_EQ(spelling({"a*?*?b"}), spelling({"a??*b"}));
  EXPECT_NE(spelling({"layer1*"}), spelling({"layer1.*"}));
  EXPECT_NE(spelling({"a?"}), spelling({"a*"}));
}

/// All texts of up to `length` of these characters.
std::vector<std::string> texts_of(const std::string& characters, std::size_t length) {
  std::vector<std::string> all{""};
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const char c : all[i].size() < length ? characters : "") all.push_back(all[i] + c);
  return all;
}

TEST(Selection, OneSpellingSelectsTheSame) {
  const std::vector<std::string> layers = texts_of("ab", 4);
  for (const std::string& glob : texts_of("a*?", 4)) {
    const std::vector<std::vector<std::string>> lists{{glob}, {"!" + glob}, {glob, "b", "!ab*"}};
    for (const std::vector<std::string>& globs : lists) {
      Selection selection;
      selection.layers = globs;
      const Selection same = canonical(selection);
      for (const std::string& layer : layers)
        ASSERT_EQ(selects_layer(same, layer), selects_layer(selection, layer))
            << glob << " in " << selection_name(selection) << " of '" << layer << "'";
    }
  }
}

TEST(Selection, WordsAreSites) {
  const Graph graph = test::plain_net();
  Selection selection;
  selection.words = true;
  const FaultSpace space(graph, selection), of_bits(graph);
  EXPECT_EQ(space.sites() * 32, of_bits.sites());
  EXPECT_EQ(space.at(7), (FaultSite{0, 7, 0}));
}

TEST(Selection, TrialsHaveTheFaultsOfTheirRate) {
  const Graph graph = test::residual_net();
  Selection selection;
  selection.targets = {TensorClass::kBias, TensorClass::kBn};
  selection.bits = {"23-31"};
  const FaultSpace space(graph, selection);
  const double p = 0.05, sites = static_cast<double>(space.sites());
  constexpr int kTrials = 400;
  double faults = 0;
  for (std::uint64_t trial = 0; trial < kTrials; ++trial)
    faults += static_cast<double>(draw(BinomialFaults{p}, space, {kSeed, 0, trial}).size());
  EXPECT_NEAR(faults, kTrials * p * sites, 4 * std::sqrt(kTrials * p * (1 - p) * sites));
  const auto expected = expected_faults(PerLayerFloorFaults{p}, space);
  for (std::size_t t = 0; t < expected.size(); ++t)
    EXPECT_EQ(expected[t], std::floor(p * static_cast<double>(space.tensors()[t].sites())));
}

// ---- effects ----

FaultModel model_of(const std::string& effect, const std::string& shape = "bit") {
  FaultModel model;
  parse_effect(effect, model);
  parse_shape(shape, model);
  return model;
}

TEST(Effects, HaveOneSpelling) {
  for (const char* text : {"flip", "stuck-at-0", "stuck-at-1", "random-word", "value:0.5"})
    EXPECT_EQ(effect_name(model_of(text)), text);
  for (const char* text : {"bit", "burst:3", "burst:64", "mbu:0.5,0.25,0.25"})
    EXPECT_EQ(shape_name(model_of("flip", text)), text);
  EXPECT_EQ(shape_name(model_of("flip", "burst:1")), "bit");
  for (const char* bad : {"", "Flip", "value:", "value:x", "stuck-at-2"})
    EXPECT_THROW(model_of(bad), UserError) << bad;
  for (const char* bad : {"", "burst:0", "burst:65", "burst:x", "mbu:1", "mbu:0.5,0.5,0.5",
                          "mbu:nan,0,1", "mbu:1.5,-0.5,0"})
    EXPECT_THROW(model_of("flip", bad), UserError) << bad;
  EXPECT_DOUBLE_EQ(model_of("flip", "mbu:0.5,0.25,0.25").mean_length(32), 1.75);
  EXPECT_DOUBLE_EQ(model_of("flip", "mbu:0.5,0.25,0.25").mean_length(1), 1);
}

TEST(Effects, LengthsHaveTheirShares) {
  const FaultSpace space(test::residual_net());
  Faults faults = draw(BinomialFaults{0.2}, space, {kSeed});
  give_effects(model_of("stuck-at-1", "mbu:0.6,0.3,0.1"), faults, {kSeed});
  double counts[4] = {};
  for (const FaultSite& site : faults) {
    ASSERT_EQ(site.effect, Effect::kStuckAt1);
    ++counts[site.length];
  }
  const auto n = static_cast<double>(faults.size());
  const double shares[4] = {0, 0.6, 0.3, 0.1};
  for (int length = 1; length <= 3; ++length)
    EXPECT_NEAR(counts[length] / n, shares[length],
                4 * std::sqrt(shares[length] * (1 - shares[length]) / n));
}

TEST(Effects, AreAFunctionOfTheTrial) {
  Selection selection;
  selection.words = true;
  const FaultSpace space(test::residual_net(), selection);
  const auto drawn = [&](std::uint64_t trial) {
    Faults faults = draw(BinomialFaults{0.1}, space, {kSeed, 0, trial});
    give_effects(model_of("random-word"), faults, {kSeed, 0, trial});
    return faults;
  };
  EXPECT_EQ(drawn(3), drawn(3));
  EXPECT_FALSE(drawn(3) == drawn(4));
  EXPECT_NE(drawn(3)[0].operand, drawn(3)[1].operand);
}

// ---- pairing ----

/// Keeps these channels of layer1.0.conv1.
Graph pruned_to(const Graph& graph, const std::vector<std::int64_t>& kept) {
  Graph pruned = graph.clone();
  const at::Tensor index = at::tensor(kept);
  Conv& conv = *as_conv(pruned[pruned.find("layer1.0.conv1")].op);
  conv.weight = conv.weight.index_select(0, index);
  auto& bn = std::get<BatchNorm>(pruned[pruned.find("layer1.0.conv1.bn")].op);
  for (at::Tensor* values : {&bn.weight, &bn.bias, &bn.mean, &bn.var})
    *values = values->index_select(0, index);
  Conv& next = *as_conv(pruned[pruned.find("layer1.0.conv2")].op);
  next.weight = next.weight.index_select(1, index);
  pruned.origin["layer1.0.conv1"] = {kept, {}};
  pruned.origin["layer1.0.conv2"] = {{}, kept};
  return pruned;
}

TEST(Pairing, SharesBiasesAndNormalisationOfThePrunedNetwork) {
  const Graph graph = test::residual_net();
  const Graph pruned = pruned_to(graph, {6, 0, 3});
  Selection selection;
  selection.targets = {TensorClass::kBn};
  const FaultSpace from(graph, selection), to(pruned, selection);
  const SiteMap map(graph, pruned, selection);
  std::size_t found = 0;
  for (std::uint64_t site = 0; site < from.sites(); site += 32) {
    const FaultSite at = from.at(site);
    for (const FaultSite& moved : map.translate({at})) {
      const FaultTensor &old_tensor = from.tensors()[at.tensor],
                        &new_tensor = to.tensors()[moved.tensor];
      ASSERT_EQ(old_tensor.name, new_tensor.name);
      const auto value = [](const Graph& of, const FaultTensor& tensor, std::uint64_t element) {
        return values_of(of, stored_tensors(of)[tensor.stored]).data_ptr<float>()[element];
      };
      EXPECT_EQ(value(graph, old_tensor, at.element), value(pruned, new_tensor, moved.element));
      ++found;
    }
  }
  EXPECT_EQ(found * 32, to.sites());
}

TEST(Pairing, ChannelsOfNormalisationKeepTheirNumbersInThePrunedNetwork) {
  const Graph graph = test::residual_net();
  const Graph pruned = pruned_to(graph, {6, 0, 3});
  Selection selection;
  selection.targets = {TensorClass::kBn};
  selection.channels = {parse_channels("layer1.0.conv1.bn=0-3")};
  const FaultSpace from(graph, selection), to(pruned, selection);
  EXPECT_EQ(from.sites(), 4u * 4 * 32);
  EXPECT_THAT(to.tensors().at(0).ranges, ElementsAre(NumberRange{1, 3}));
  const Faults all = draw(BinomialFaults{1}, from, {kSeed});
  const Faults moved = SiteMap(graph, pruned, selection).translate(all);
  EXPECT_EQ(moved.size(), to.sites());
  for (const FaultSite& site : moved) EXPECT_NO_THROW(to.index(site));
  // Row 0 of the pruned one; 7 is gone.
  selection.channels = {parse_channels("layer1.0.conv1.bn=7")};
  EXPECT_THAT(complaint([&] { require_selected({&pruned}, selection); }), HasSubstr("has none of"));
  EXPECT_EQ(complaint([&] { require_selected({&graph, &pruned}, selection); }), "");
  selection.channels = {parse_channels("layer1.0.conv1.bn=6")};
  EXPECT_THAT(FaultSpace(pruned, selection).tensors().at(0).ranges, ElementsAre(NumberRange{0, 1}));
}

TEST(Pairing, FaultsOfOtherLayoutsAreIndependent) {
  const Graph graph = test::residual_net();
  Graph stored = graph.clone();
  store_as(stored, "layer1.0.conv1.weight", parse_layout("int8:channel"));
  const FaultSpace from(graph), to(stored);
  const SiteMap map(graph, stored);
  EXPECT_FALSE(map.shared(1));
  EXPECT_TRUE(map.shared(2));
  const double p = 0.02;
  const RngKey key{kSeed, 0, 3};
  const Faults original = draw(BinomialFaults{p}, from, key);
  const Faults paired = draw_paired({p}, {}, original, map, to, key);
  const auto of = [](const Faults& faults, std::uint32_t tensor) {
    Faults own;
    for (const FaultSite& site : faults)
      if (site.tensor == tensor) own.push_back(site);
    return own;
  };
  for (std::uint32_t t = 0; t < to.tensors().size(); ++t) {
    if (t == 1) continue;
    EXPECT_EQ(of(paired, t), of(original, t));
  }
  EXPECT_FALSE(of(paired, 1) == of(original, 1));
  const auto bits = static_cast<double>(to.tensors()[1].sites());
  EXPECT_NEAR(static_cast<double>(of(paired, 1).size()), p * bits, 4 * std::sqrt(p * bits));
  for (const FaultSite& site : of(paired, 1)) EXPECT_LT(site.bit, 8);
}

TEST(Pairing, ARateOfOneHitsAllThatIsSelected) {
  const Graph graph = test::residual_net();
  Graph model = test::hardened(graph, test::random_images(4).images);
  store_as(model, "layer1.0.conv2.weight", parse_layout("int8:channel+secded:64"));
  std::vector<Selection> selections(4);
  selections[1].channels = {parse_channels("layer1.0.conv1=2-3,5")};  // two of them have copies
  selections[2].bits = {"7"};
  selections[2].targets = {TensorClass::kWeight};
  selections[3].words = true;
  for (Selection& selection : selections) {
    if (selection.bits.empty()) selection.targets = parse_targets({"parameters"});
    const FaultSpace from(graph, selection), to(model, selection);
    const Faults all = draw(BinomialFaults{1}, from, {kSeed});
    const SiteMap map(graph, model, selection);
    EXPECT_EQ(draw_paired({1}, {}, all, map, to, {kSeed}), draw(BinomialFaults{1}, to, {kSeed}));
  }
}

TEST(Pairing, RepeatedWordsMoveTogether) {
  const Graph graph = test::plain_net();
  Graph first = graph.clone(), second = graph.clone();
  for (Graph* each : {&first, &second})
    store_as(*each, "features.0.bias", parse_layout("fp16+repeat:3"));
  Selection selection;
  selection.targets = {TensorClass::kBias};
  const FaultSpace space(first, selection);
  ASSERT_EQ(space.tensors()[0].elements, 3u * 8);
  const Faults all = draw(BinomialFaults{1}, space, {});
  EXPECT_EQ(SiteMap(first, second, selection).translate(all), all);
}

}  // namespace
}  // namespace sentinel
