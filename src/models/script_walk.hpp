#pragma once
#include <torch/script.h>

#include <string>
#include <vector>

#include "models/script_batch.hpp"

namespace sentinel {

/// One operator of a TorchScript network as it was called, with real values.
struct OperatorCall {
  std::string name;  // "aten::relu_"
  std::vector<std::string> argument_names;
  std::vector<c10::IValue> inputs, outputs;
  std::string scope;  // dotted name of the module whose code calls it; "" for the network itself
  bool leaf = false;  // that module is one of torch.nn

  /// Null where the operator has no such argument.
  const c10::IValue* find(const std::string& argument) const;
};

/// Is told of every operator that gets or gives a tensor.
class OperatorSink {
 public:
  virtual ~OperatorSink() = default;
  /// Before it is executed, where it gets one; may refuse it by an exception.
  virtual void calling(const OperatorCall& call) = 0;
  /// After that.
  virtual void called(const OperatorCall& call) = 0;
};

/// Runs the method forward of a network on real images, operator by operator: control flow, lists,
/// sizes and calls of submodules are executed, so that what is left is the sequence of operators on
/// tensors. LibTorch's interpreter takes no part. Returns what forward returns. `sink` may be null.
/// DataError names `source`, the operator and its scope: one fails, may not be executed, or changes
/// what the next call would see. So it does where one depends on the number of images in a way that
/// BatchDependence does not allow, and beyond WalkLimits. Only for what check_script let through.
c10::IValue walk_script(const torch::jit::Module& network, const at::Tensor& images,
                        OperatorSink* sink, const std::string& source);

/// "operator aten::gelu in features.0.1": for errors.
std::string place_of(const std::string& name, const std::string& scope);

/// LibTorch's message without its stack trace, one line.
std::string first_line(const std::exception& error);

}  // namespace sentinel
