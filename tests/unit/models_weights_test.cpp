// Which tensors of a file are a network's weights.
#include <limits>

#include "models/families.hpp"
#include "models/stored_weights.hpp"
#include "models/weights_choice.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/stored.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const Family& resnet20() {
  return family_of("resnet20");
}

StateDict weights(std::uint64_t seed) {
  return state_dict(initial_model("resnet20", 10, seed));
}

StateDict renamed(const StateDict& tensors, const std::string& prefix) {
  StateDict result;
  for (const auto& [name, tensor] : tensors) result.set(prefix + name, tensor);
  return result;
}

StateDict joined(StateDict a, const StateDict& b) {
  for (const auto& [name, tensor] : b) a.set(name, tensor);
  return a;
}

WeightsFile file_of(std::vector<TensorDict> dicts) {
  return {std::move(dicts), {}};
}

WeightsChoice chosen(const WeightsFile& file, const std::string& key = "") {
  return choose_weights(file, "my.pth", resnet20(), 10, key);
}

TEST(ChooseWeights, AnyPrefixIsFoundAndWhatIsOutsideIsLeftOut) {
  const StateDict plain = weights(1);
  for (const std::string prefix :
       {"", "module.", "_orig_mod.", "module._orig_mod.", "model.", "module.module.", "a.b.c."}) {
    StateDict tensors = renamed(plain, prefix);
    if (!prefix.empty()) tensors.set("n_averaged", at::scalar_tensor(7, at::kLong));
    const WeightsChoice choice = chosen(file_of({{"", tensors, {}}}));
    EXPECT_EQ(choice.view.prefix, prefix);
    expect_same_state(choice.view.tensors, plain);
    EXPECT_EQ(choice.view.left_out.size(), prefix.empty() ? 0u : 1u);
  }
}

TEST(ChooseWeights, CountersAreLeftOutButNothingThatMayBeALayers) {
  StateDict tensors = weights(1);
  tensors.set("total_ops", at::zeros({1}, at::kDouble));
  tensors.set("layer1.total_params", at::zeros({1}, at::kDouble));
  tensors.set("steps", at::scalar_tensor(3, at::kInt));
  const WeightsView view = chosen(file_of({{"", tensors, {"epoch"}}})).view;
  EXPECT_THAT(view.left_out, ElementsAre("epoch", "total_ops", "layer1.total_params", "steps"));
  EXPECT_EQ(view.tensors.size(), weights(1).size());
  // A scale of the weights' own type, a layer more.
  for (const auto& [name, tensor] :
       {std::pair("scale", at::ones({1})), std::pair("conv9.weight", at::ones({4, 4, 3, 3})),
        std::pair("table", at::ones({5}, at::kLong))}) {
    StateDict more = weights(1);
    more.set(name, tensor);
    EXPECT_TRUE(chosen(file_of({{"", more, {}}})).view.tensors.contains(name));
    const Bytes bytes = serialize_pth(more);
    EXPECT_THAT(error_of<DataError>([&] { parse_model(bytes, "my.pth", "resnet20", "cifar10"); }),
                HasSubstr(std::string("1 unexpected entry (") + name + ")"));
  }
}

TEST(ChooseWeights, ADeeperNetworkIsRefused) {
  const StateDict deeper = state_dict(initial_model("resnet32", 10, 1));
  for (const std::string prefix : {"", "module."}) {
    const Bytes bytes = serialize_pth(renamed(deeper, prefix));
    const auto error =
        error_of<DataError>([&] { parse_model(bytes, "my.pth", "resnet20", "cifar10"); });
    EXPECT_THAT(error, HasSubstr("72 unexpected entries (layer1.3.conv1.weight"));
    EXPECT_THAT(error, Not(HasSubstr("missing")));
    EXPECT_THAT(error, HasSubstr("it fits model resnet32"));
    const Graph graph = parse_model(bytes, "my.pth", "resnet32", "cifar10");
    expect_same_state(state_dict(graph), deeper);
  }
}

TEST(ChooseWeights, TheFirstThatFitsIsTakenUnlessAKeyIsGiven) {
  const StateDict a = weights(1), b = weights(2);
  const WeightsFile file = file_of({{"optimizer", state_dict(initial_model("resnet32", 10, 1)), {}},
                                    {"state_dict", renamed(a, "module."), {}},
                                    {"state_dict_ema", b, {}}});
  const WeightsChoice usual = chosen(file);
  EXPECT_THAT(usual.fitting, ElementsAre("state_dict", "state_dict_ema"));
  expect_same_state(usual.view.tensors, a);
  const WeightsChoice other = chosen(file, "state_dict_ema");
  EXPECT_THAT(other.fitting, ElementsAre("state_dict_ema"));
  expect_same_state(other.view.tensors, b);
  const auto error = error_of<UserError>([&] { chosen(file, "ema"); });
  EXPECT_THAT(error, HasSubstr("optimizer, state_dict, state_dict_ema"));
}

TEST(ChooseWeights, TwoPrefixesInOneDictionaryAreTwoSets) {
  const StateDict a = weights(1), b = weights(2);
  const WeightsFile file =
      file_of({{"state_dict", joined(renamed(b, "ema."), renamed(a, "network.")), {}}});
  const WeightsChoice usual = chosen(file);
  EXPECT_THAT(usual.fitting, ElementsAre("state_dict.network", "state_dict.ema"));
  expect_same_state(usual.view.tensors, a);
  expect_same_state(chosen(file, "state_dict.ema").view.tensors, b);
}

TEST(ChooseWeights, AnAverageBesideNamesWithoutPrefixIsTheSecondSet) {
  const StateDict a = weights(1), b = weights(2);
  for (const std::string prefix : {"", "module."}) {
    const WeightsFile file =
        file_of({{"", joined(renamed(b, prefix + "ema."), renamed(a, prefix)), {}}});
    const WeightsChoice usual = chosen(file);
    EXPECT_EQ(usual.fitting.size(), 2u);
    EXPECT_EQ(usual.view.prefix, prefix);
    expect_same_state(usual.view.tensors, a);
    expect_same_state(chosen(file, prefix + "ema").view.tensors, b);
  }
}

TEST(ChooseWeights, WhereNothingFitsTheErrorIsAboutTheLikeliest) {
  const StateDict most = without(weights(1), "fc.bias");
  StateDict other;
  other.set("x", at::ones({3}));
  const WeightsChoice choice = chosen(file_of({{"a", other, {}}, {"b", most, {}}}));
  EXPECT_EQ(choice.view.key, "b");
}

TEST(ChooseWeights, APrefixByChanceIsNone) {
  // Each block of another network has a conv1 and a bn1, as this one has.
  StateDict other;
  for (const std::string block : {"stage1.0.", "stage1.1."})
    for (const std::string name : {"conv1.weight", "bn1.weight", "bn1.bias"})
      other.set(block + name, at::ones({3}));
  const WeightsView view = chosen(file_of({{"", other, {}}})).view;
  EXPECT_EQ(view.prefix, "");
  EXPECT_TRUE(view.left_out.empty());
}

TEST(ChooseWeights, AKeyIsRefusedWhereThereIsNoChoice) {
  const Bytes file = serialize_model(initial_model("resnet20", 10, 1), {});
  EXPECT_THAT(error_of<UserError>([&] {
                parse_model(file, "my.pth", {"", "", "state_dict"});
              }),
              HasSubstr("weights-key state_dict"));
}

// ---- weights in parts ----

TEST(WholeWeights, MasksAreApplied) {
  const StateDict plain = weights(1);
  StateDict parts, expected;
  for (const auto& [name, tensor] : plain) {
    const at::Tensor mask = at::bernoulli(at::full_like(tensor, 0.5, at::kFloat));
    const bool pruned = tensor.dim() == 4;
    expected.set(name, pruned ? tensor * mask : tensor);
    parts.set(pruned ? name + "_orig" : name, tensor);
    if (pruned) parts.set(name + "_mask", mask);
  }
  const WeightsView view = chosen(file_of({{"", renamed(parts, "module."), {}}})).view;
  expect_same_state(view.tensors, expected);
  EXPECT_EQ(view.masked.size(), 21u);
  EXPECT_TRUE(view.left_out.empty());
}

TEST(WholeWeights, NormalisationIsUndone) {
  const at::Tensor v = at::randn({4, 3, 2, 2}), g = at::rand({4, 1, 1, 1}) + 0.5;
  const at::Tensor w = v * (g / v.flatten(1).norm(2, 1).reshape({4, 1, 1, 1}));
  for (const auto& [first, second] :
       {std::pair("c.weight_g", "c.weight_v"),
        std::pair("c.parametrizations.weight.original0", "c.parametrizations.weight.original1")}) {
    StateDict parts;
    parts.set(first, g);
    parts.set(second, v);
    const WholeWeights whole = with_whole_weights(parts);
    ASSERT_EQ(whole.tensors.size(), 1u);
    ASSERT_TRUE(whole.tensors.contains("c.weight"));
    EXPECT_TRUE(at::allclose(*whole.tensors.find("c.weight"), w, 1e-6,
                             1e-7));  // some f32 roundings: a norm over few values
    EXPECT_THAT(whole.normalised, ElementsAre("c.weight"));
  }
}

TEST(WholeWeights, WhatIsNoPairStaysAndIsExplained) {
  StateDict parts;
  parts.set("c.weight_orig", at::ones({4, 3}));
  parts.set("c.weight_mask", at::ones({4, 2}));
  parts.set("d.weight_g", at::ones({3, 1}));
  parts.set("d.weight_v", at::ones({4, 2}));
  expect_same_state(with_whole_weights(parts).tensors, parts);
  StateDict spectral = without(weights(1), "conv1.weight");
  spectral.set("conv1.weight_orig", at::ones({16, 3, 3, 3}));
  const Bytes bytes = serialize_pth(spectral);
  EXPECT_THAT(error_of<DataError>([&] { parse_model(bytes, "my.pth", "resnet20", "cifar10"); }),
              HasSubstr("remove_spectral_norm"));
}

// ---- other types ----

StateDict in_type(const StateDict& tensors, at::ScalarType type) {
  StateDict result;
  for (const auto& [name, tensor] : tensors)
    result.set(name, tensor.is_floating_point() ? tensor.to(type) : tensor);
  return result;
}

TEST(Conversion, NamesTheTypesAndSaysWhatChanged) {
  for (const auto& [type, name] : {std::pair(at::kHalf, "fp16"), std::pair(at::kBFloat16, "bf16"),
                                   std::pair(at::kDouble, "fp64"), std::pair(at::kFloat, "")}) {
    FileNotes notes;
    const Bytes bytes = serialize_pth(in_type(weights(1), type));
    const Graph graph = parse_model(bytes, "my.pth", {"resnet20", "cifar10", ""}, &notes);
    EXPECT_EQ(notes.stored_types, type == at::kDouble ? "fp64" : "");
    const StateDict expected = in_type(in_type(weights(1), type), at::kFloat);
    expect_same_state(state_dict(graph), expected);
    const bool half = type == at::kHalf || type == at::kBFloat16;
    for (const StoredTensor& tensor : stored_tensors(graph))
      EXPECT_EQ(layout_name(tensor.layout), half ? name : "fp32") << tensor.name;
    const Graph again = parse_model(serialize_model(graph, {}), "again.pth", "", "");
    EXPECT_EQ(again.storage.size(), graph.storage.size());
    expect_same_state(state_dict(again), expected);
  }
  Conversion exact, rounds;
  exact.to_float("a", at::ones({3}, at::kBFloat16), "my.pth");
  EXPECT_EQ(exact.warning("my.pth"), "");
  rounds.to_float("a", at::tensor({1.0, 0.1, 1e-60}, at::kDouble), "my.pth");
  rounds.to_float("b", at::ones({3}), "my.pth");
  rounds.to_float("c", at::ones({3}, at::kHalf), "my.pth");
  EXPECT_EQ(rounds.types(), "fp64");
  EXPECT_THAT(rounds.warning("my.pth"),
              HasSubstr("my.pth: 1 of 3 float tensors are stored as fp64"));
  EXPECT_THAT(rounds.warning("my.pth"), HasSubstr("rounds 2 of 3 values, 1 of them to 0"));
}

/// A tensor of each kind, by PyTorch's own arithmetic.
TEST(Conversion, KeepsQint8WithItsScales) {
  at::manual_seed(7);
  const at::Tensor values = at::randn({4, 3, 2, 2}), zeros = at::zeros({4}, at::kLong);
  const at::Tensor scales = values.abs().flatten(1).amax(1) / 127;
  Conversion kept;
  const at::Tensor rows =
      at::quantize_per_channel(values, scales.to(at::kDouble), zeros, 0, at::kQInt8);
  const at::Tensor whole = at::quantize_per_tensor(values, 0.01, 0, at::kQInt8);
  EXPECT_TRUE(at::equal(kept.to_float("rows", rows, "my.pth"), rows.dequantize()));
  const at::Tensor read = kept.to_float("whole", whole, "my.pth");
  EXPECT_TRUE(at::equal(read, whole.dequantize().clamp(-127 * 0.01F)));
  EXPECT_EQ(layout_name(kept.kept().at("rows").layout), "int8:channel");
  EXPECT_TRUE(at::equal(kept.kept().at("rows").scale, scales));
  EXPECT_EQ(layout_name(kept.kept().at("whole").layout), "int8:tensor");
  const auto refusal = [&](const at::Tensor& tensor) {
    return error_of<DataError>([&] { kept.to_float("conv1.weight", tensor, "my.pth"); });
  };
  EXPECT_THAT(refusal(at::quantize_per_tensor(values, 0.01, 0, at::kQUInt8)),
              HasSubstr("my.pth: conv1.weight is quantised as quint8"));
  EXPECT_THAT(refusal(at::quantize_per_tensor(values, 0.01, 3, at::kQInt8)),
              HasSubstr("conv1.weight has a zero point other than 0"));
  EXPECT_THAT(refusal(at::quantize_per_channel(values, at::ones({3}), at::zeros({3}, at::kLong), 1,
                                               at::kQInt8)),
              HasSubstr("another dimension"));
  EXPECT_THAT(refusal(at::_make_per_tensor_quantized_tensor(at::ones({2}, at::kChar), NAN, 0)),
              HasSubstr("a scale that is not finite"));
}

TEST(Conversion, ValuesBeyondTheRangeAreRefused) {
  StateDict tensors = in_type(weights(1), at::kDouble);
  tensors.find("conv1.weight")->view({-1})[5] = 1e300;
  const Bytes bytes = serialize_pth(tensors);
  EXPECT_THAT(error_of<DataError>([&] { parse_model(bytes, "my.pth", "resnet20", "cifar10"); }),
              HasSubstr("1 of its values are beyond the range of fp32"));
  Conversion infinite;
  infinite.to_float("a", at::full({2}, std::numeric_limits<double>::infinity(), at::kDouble),
                    "my.pth");
  EXPECT_THAT(infinite.warning("my.pth"), HasSubstr("changes no value"));
}

}  // namespace
}  // namespace sentinel
