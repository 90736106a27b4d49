#pragma once
#include <torch/script.h>

#include <string>
#include <vector>

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

/// Is told of every operator that got or gave a tensor, after it was executed.
class OperatorSink {
 public:
  virtual ~OperatorSink() = default;
  virtual void called(const OperatorCall& call) = 0;
};

/// Runs the method forward of a network on real images, operator by operator: control flow, lists,
/// sizes and calls of submodules are executed, so that what is left is the sequence of operators on
/// tensors. Returns what forward returns. DataError naming `source`, the operator and its scope
/// where one fails or cannot be executed.
c10::IValue walk_script(const torch::jit::Module& network, const at::Tensor& images,
                        OperatorSink& sink, const std::string& source);

/// "operator aten::gelu in features.0.1": for errors.
std::string place_of(const std::string& name, const std::string& scope);

/// LibTorch's message without its stack trace, one line.
std::string first_line(const std::exception& error);

}  // namespace sentinel
