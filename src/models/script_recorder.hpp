#pragma once
#include <map>
#include <set>
#include <unordered_map>

#include "models/script_walk.hpp"
#include "sentinel/graph/graph.hpp"

namespace sentinel {

/// Turns the operators of a TorchScript network into a Graph while they are executed. Tensors are
/// told apart as objects, so that whatever a list, an in-place operator or another name does with
/// one, it stays the output of its node.
class ScriptRecorder : public OperatorSink {
 public:
  /// Starts with the Input. DataErrors name `source`.
  ScriptRecorder(const torch::jit::Module& network, const at::Tensor& images,
                 const std::string& source);

  void calling(const OperatorCall& call) override;
  void called(const OperatorCall& call) override;

  /// What leads to `result`, what forward returned. Call once.
  Graph finish(const c10::IValue& result);

 private:
  using Operator = void (ScriptRecorder::*)(const OperatorCall&);

  /// What a tensor on the way is of the node's output.
  enum class Form {
    kPlain,    // all of it
    kGrouped,  // [N, groups, C / groups, H, W]: a channel shuffle has begun
    kSwapped,  // [N, C / groups, groups, H, W]
    kChannel,  // [N, H, W], one channel: x[:, i]
    kPadded,   // zeros around it, for a convolution
  };
  struct Tracked {
    NodeId node = 0;
    Form form = Form::kPlain;
    std::int64_t number = 0;  // groups, or which channel
    Pair padding{0, 0};       // zeros on each side, of kPadded
  };

  // ---- operators ----
  void convolution(const OperatorCall& call);
  void pad(const OperatorCall& call);
  void batch_norm(const OperatorCall& call);
  void linear(const OperatorCall& call);
  void matrix_product(const OperatorCall& call);
  void transposed(const OperatorCall& call);
  void activation(const OperatorCall& call);
  void clamp(const OperatorCall& call);
  void max_pool(const OperatorCall& call);
  void avg_pool(const OperatorCall& call);
  void adaptive_avg_pool(const OperatorCall& call);
  void mean(const OperatorCall& call);
  void sum(const OperatorCall& call);
  void product(const OperatorCall& call);
  void concat(const OperatorCall& call);
  void pieces(const OperatorCall& call);
  void piece(const OperatorCall& call);
  void channel(const OperatorCall& call);
  void reshape(const OperatorCall& call);
  void swap(const OperatorCall& call);
  void shuffle(const OperatorCall& call);
  void dropout(const OperatorCall& call);
  void same(const OperatorCall& call);
  static const std::map<std::string, Operator>& operators();

  // ---- what they share ----
  /// The one module that tensors belong to, of a weight in parts or not; empty where there is none.
  std::string common_owner(const std::vector<at::Tensor>& tensors) const;
  /// An operator that reads no activation.
  void constant(const OperatorCall& call, const std::string& name,
                const std::vector<at::Tensor>& inputs, const std::vector<at::Tensor>& outputs);
  /// Undefined where there is none; of shape [rows], whatever its own that broadcasts to it.
  at::Tensor bias_of(const OperatorCall& call, const std::string& name, std::int64_t rows) const;
  [[noreturn]] void refuse(const OperatorCall& call, const std::string& why) const;
  const Tracked* tracked(const c10::IValue& value) const;
  /// The node whose whole output this argument is; refuses what is not.
  NodeId input(const OperatorCall& call, const std::string& argument) const;
  /// The same for an activation [N, C, H, W].
  NodeId image(const OperatorCall& call, const std::string& argument) const;
  const c10::IValue& argument(const OperatorCall& call, const std::string& name) const;
  Pair pair(const OperatorCall& call, const std::string& name) const;
  bool is_parameter(const c10::IValue& value) const;
  bool is_trained(const c10::IValue& value) const;

  /// Where a layer's name comes from: of the module that owns the parameter "conv1.weight", or of
  /// the place of the call. Refuses a parameter that an earlier layer has.
  std::string layer_name(const OperatorCall& call, const at::Tensor& weight,
                         const std::string& kind);
  std::string free_name(const OperatorCall& call, const std::string& kind) const;
  void remember(const at::Tensor& tensor, const Tracked& what);
  NodeId append(const OperatorCall& call, const std::string& name, Op op,
                std::vector<NodeId> inputs);
  /// A node without parameters, of the call's only output.
  void plain(const OperatorCall& call, const std::string& kind, Op op, std::vector<NodeId> inputs);
  void slice(const OperatorCall& call, const at::Tensor& output, NodeId whole, std::int64_t begin);
  /// x * scale + shift, of which the argument `constant` is one and `x` the activation; refuses
  /// what is not one constant or one per channel.
  void affine(const OperatorCall& call, const std::string& x, const std::string& constant,
              bool scales, double factor);
  /// Where the two arguments of an operator are: the activation and the constant beside it.
  struct Operands {
    std::string x, constant;
  };
  Operands operands(const OperatorCall& call, bool commutes) const;
  bool is_sigmoid_of(NodeId node, NodeId x) const;

  const std::string& source_;
  std::int64_t images_;  // in the batch that is recorded
  bool ours_;            // sentinelnn exported it
  Graph graph_;
  std::set<std::string> names_, owners_, used_;
  std::unordered_map<const void*, Tracked> tracked_;
  std::unordered_map<const void*, std::string> parameters_;  // and buffers: tensor -> dotted name
  std::set<const void*> trained_;  // parameters, and what is computed from them alone
  std::unordered_map<const void*, std::string> owned_;  // computed from one module's tensors alone
  std::unordered_map<const void*, at::Tensor> transposed_;  // its transpose -> parameter
  std::unordered_map<std::string, at::Tensor> state_;
  std::vector<at::Tensor> kept_;  // an object's address is its name here
};

/// A tensor as an object.
inline const void* script_key(const at::Tensor& tensor) {
  return tensor.unsafeGetTensorImpl();
}

/// "aten::relu_" -> "relu".
std::string plain_name(const std::string& name);

/// "[2, 10]"
std::string shape_text(const at::Tensor& tensor);

std::vector<at::Tensor> tensors_of(c10::ArrayRef<c10::IValue> values);
/// A tensor, or those of a list, tuple or dictionary, at any depth.
std::vector<at::Tensor> tensors_in(const c10::IValue& value);

/// Parameters and buffers in PyTorch's order, by dotted names; as stored.
std::vector<std::pair<std::string, at::Tensor>> script_state(const torch::jit::Module& network);

}  // namespace sentinel
