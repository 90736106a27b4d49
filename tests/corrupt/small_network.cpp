#include "corrupt/small_network.hpp"

namespace sentinel::test {
namespace {

const char* const kPlain =
    R"({"schema_version":2,"architecture":"mine","dataset":"cifar10","classes":10,)"
    R"("layers":{"conv":{"out_channels":2},"fc":{"out_channels":10}},"restriction":null,)"
    R"("weight_bounds":null,)";

const char* const kHardened =
    R"({"schema_version":2,"architecture":"mine","dataset":"cifar10","classes":10,)"
    R"("layers":{"conv":{"out_channels":2,"duplicated":1,"correction":"range","layout":"own"},)"
    R"("fc":{"out_channels":10}},"restriction":{"kind":"ranger","per":"layer"},)"
    R"("weight_bounds":"layer",)";

const char* const kStored =
    R"({"schema_version":3,"architecture":"mine","dataset":"cifar10","classes":10,)"
    R"("layers":{"conv":{"out_channels":2},"fc":{"out_channels":10}},"restriction":null,)"
    R"("weight_bounds":null,"storage":{"conv.weight":"int8:channel+secded:64",)"
    R"("conv.weight_scale":"fp16+repeat:3","fc.weight":"fp16+mset","fc.bias":"fixed:7.8"},)";

const char* const kRest =
    R"("origin":{"conv":{"in":[0,1,2],"out":[0,1]}},)"
    R"("normalisation":{"mean":[0.5,0.5,0.5],"std":[0.2,0.2,0.2]},)"
    R"("provenance":{"parents":[],"command":"x","seed":1,"version":"0"},"structure":[)"
    R"({"op":"input","name":"input","inputs":[],"channels":3,"size":[32,32]},)"
    R"({"op":"conv","name":"conv","inputs":[0],"kernel":[1,1],"stride":[1,1],"padding":[0,0],)"
    R"("dilation":[1,1],"groups":1,"bias":false,"out":2},)"
    R"({"op":"relu","name":"relu","inputs":[1]},)"
    R"({"op":"adaptive_avg_pool","name":"pool","inputs":[2],"size":[1,1]},)"
    R"({"op":"flatten","name":"flat","inputs":[3],"pixels":1},)"
    R"({"op":"linear","name":"fc","inputs":[4],"out":10,"bias":true}]})";

}  // namespace

StateDict small_weights(Small kind) {
  const bool hardened = kind == Small::kHardened;
  StateDict state;
  state.set("conv.weight", at::ones({hardened ? 3 : 2, 3, 1, 1}));
  state.set("fc.weight", at::ones({10, 2}));
  state.set("fc.bias", at::ones({10}));
  if (kind == Small::kStored) state.set("conv.weight_scale", at::ones({2}));
  if (!hardened) return state;
  state.set("conv.duplicated", at::zeros({1}, at::kLong));
  state.set("conv.range_low", at::zeros({1}));
  state.set("conv.range_high", at::ones({1}));
  state.set("relu.bound", at::scalar_tensor(1, at::kFloat));
  for (const char* layer : {"conv", "fc"}) {
    state.set(std::string(layer) + ".weight_low", at::scalar_tensor(0, at::kFloat));
    state.set(std::string(layer) + ".weight_high", at::scalar_tensor(2, at::kFloat));
  }
  return state;
}

std::string small_record(Small kind) {
  const char* begin = kind == Small::kPlain      ? kPlain
                      : kind == Small::kHardened ? kHardened
                                                 : kStored;
  return std::string(begin) + kRest;
}

}  // namespace sentinel::test
