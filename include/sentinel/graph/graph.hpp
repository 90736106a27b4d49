#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "sentinel/core/normalisation.hpp"
#include "sentinel/words/layout.hpp"

namespace sentinel {

using NodeId = std::int64_t;
using Pair = std::array<std::int64_t, 2>;  // {height, width}

/// Merging of a duplicated channel's two results a (original) and b (copy); copies with
/// |a-b| <= 1e-5 max(|a|,|b|) count as equal and a passes. A finite one wins over a
/// non-finite one; of two non-finite ones 0. What passes changes by no more than a and b do where
/// they are near the threshold, so that rounding does not decide between a huge value and 0.
enum class Correction {
  kRange,  // the one inside [low, high]; of two such, or of none, the smaller magnitude;
           // the original's where they are the same to 1e-5
  kMin,    // the smaller (the seed tool's, made NaN-safe)
};
enum class Clipping {
  kRanger,       // x > bound -> 0 (the seed tool's)
  kRangerClamp,  // x > bound -> bound (Chen et al., "A Low-cost Fault Corrector ...", DSN 2021)
};
/// Order of the rows of a duplicated convolution in a checkpoint; in memory it is always kOwn.
enum class RowLayout {
  kOwn,    // [all originals in order | copies]
  kGroup,  // [d originals | their copies | the other originals], the seed tool's
};

// ---- operators: tensors are f32 on one device; activations are [N, C, H, W] or, after Flatten,
// [N, C] ----

struct Input {
  std::int64_t channels = 3;
  Pair size{32, 32};
};
/// Weight bounds: wherever a stored weight is used, a value outside [low, high] or not
/// finite counts as 0. Undefined: no bounds.
struct WeightBounds {
  at::Tensor low, high;  // [] per layer, or one for each row of the weight, copies included
};
struct Conv {
  at::Tensor weight;  // [out, in/groups, kh, kw], as stored
  at::Tensor bias;    // [out] or undefined
  Pair stride{1, 1}, padding{0, 0}, dilation{1, 1};
  std::int64_t groups = 1;
  WeightBounds bounds = {};
};
/// A Conv of which some output channels are stored and computed twice and merged by a correction.
struct DuplicatedConv {
  Conv conv;  // weight [out + d, ...], bias [out + d]: rows [originals | copies]
  std::vector<std::int64_t>
      duplicated;  // d channel numbers; row out + k is the copy of row duplicated[k]
  Correction correction = Correction::kRange;
  RowLayout layout = RowLayout::kOwn;
  at::Tensor low, high;  // [d] for kRange, in the units of the convolution's output; else undefined
  std::int64_t out_channels() const {
    return conv.weight.size(0) - static_cast<std::int64_t>(duplicated.size());
  }
};
struct BatchNorm {
  at::Tensor weight, bias, mean, var;  // [C]
  at::Tensor batches_tracked;          // [] i64 or undefined; only carried along
  double eps = 1e-5;
};
enum class ActivationKind { kRelu, kRelu6, kSilu, kSigmoid, kHardswish, kHardsigmoid };
/// As torch.nn.functional has them. All are bounded from below.
struct Activation {
  ActivationKind kind = ActivationKind::kRelu;
};
/// An activation with an upper bound; NaN -> 0.
struct BoundedActivation {
  at::Tensor bound;  // [] per layer or [C] per channel
  Clipping clipping = Clipping::kRanger;
  ActivationKind kind = ActivationKind::kRelu;
};
struct MaxPool {
  Pair kernel{2, 2}, stride{2, 2}, padding{0, 0};
  bool ceil = false;  // the last window may reach beyond the border (torch's ceil_mode)
};
struct AvgPool {
  Pair kernel{2, 2}, stride{2, 2}, padding{0, 0};
};
struct AdaptiveAvgPool {
  Pair size{1, 1};
};
struct Add {};
/// [N, C, H, W] times a gate [N, C, 1, 1] (squeeze and excitation).
struct Multiply {};
/// x * scale + shift per channel, constants of the architecture (GoogLeNet's transform_input).
struct ChannelAffine {
  std::vector<double> scale, shift;  // [C]
};
struct Concat {};  // along channels
/// Channels begin … end-1 of the input.
struct Slice {
  std::int64_t begin = 0, end = 0;
};
struct ChannelShuffle {
  std::int64_t groups = 1;
};
struct Flatten {};  // [N, C, H, W] -> [N, C*H*W]
struct Linear {
  at::Tensor weight;  // [out, in], as stored
  at::Tensor bias;    // [out] or undefined
  WeightBounds bounds = {};
};
struct Dropout {
  double probability = 0.5;  // identity except in training
};

using Op = std::variant<Input, Conv, DuplicatedConv, BatchNorm, Activation, BoundedActivation,
                        MaxPool, AvgPool, AdaptiveAvgPool, Add, Multiply, ChannelAffine, Concat,
                        Slice, ChannelShuffle, Flatten, Linear, Dropout>;

struct Node {
  std::string name;  // PyTorch's dotted module name; second call sites of a module as torchvision's
                     // feature extraction has it: layer1.0.relu, layer1.0.relu_1
  Op op;
  std::vector<NodeId> inputs;  // earlier nodes
};

/// Where the channels of a transformed convolution or linear layer come from in the original model:
/// channel numbers there, empty = unchanged. Faults are named in these coordinates so that
/// campaigns pair.
struct ChannelOrigin {
  std::vector<std::int64_t> out, in;
};

/// How a tensor is kept in memory. The graph holds its values as they are read without faults.
struct Storage {
  Layout layout;
  at::Tensor scale;  // [rows] or [1] f32 on the CPU; undefined where the format has none
};
/// Whether it has a scale for each row of the tensor.
bool has_row_scales(const Storage& storage);

/// A CNN as data: nodes in execution order, node 0 the Input, the last node the logits [N,
/// classes]. Move-only: tensors alias when copied, so clone() is explicit.
class Graph {
 public:
  Graph() = default;
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  /// Deep copy: shares no tensor with this.
  Graph clone() const;

  /// Appends a node; its inputs must exist and its name be new (Bug otherwise).
  NodeId add(std::string name, Op op, std::vector<NodeId> inputs);
  NodeId size() const { return static_cast<NodeId>(nodes_.size()); }
  const Node& operator[](NodeId id) const { return nodes_.at(static_cast<std::size_t>(id)); }
  Node& operator[](NodeId id) { return nodes_.at(static_cast<std::size_t>(id)); }
  const std::vector<Node>& nodes() const { return nodes_; }
  /// Takes a node with one input out of the graph: its readers read that input. The numbers of
  /// later nodes are one less.
  void remove(NodeId id);
  /// Bug if there is none.
  NodeId find(const std::string& name) const;
  /// For each node the nodes that read it.
  std::vector<std::vector<NodeId>> consumers() const;

  /// Moves every tensor to a device, convolution weights also to channels_last where asked.
  void to(at::Device device, at::MemoryFormat conv_format = at::MemoryFormat::Contiguous);

  // What the checkpoint must remember beside the nodes.
  std::string architecture;                     // "resnet20"
  bool folded = false;                          // batch norm of the architecture is gone
  std::string dataset;                          // "cifar10"
  std::optional<Normalisation> normalisation;   // of its images; empty: the data set's
  std::vector<std::string> state_order;         // PyTorch's order of the state_dict's entries
  std::map<std::string, ChannelOrigin> origin;  // by Conv/Linear node name; absent = unchanged
  std::map<std::string, Storage> storage;       // by entry, "conv1.weight"; absent = plain fp32

 private:
  std::vector<Node> nodes_;
};

/// Number of output channels (features after Flatten) of every node.
std::vector<std::int64_t> channel_counts(const Graph& graph);
std::int64_t class_count(const Graph& graph);

/// The weight bounds of a Conv, DuplicatedConv or Linear (their tensors undefined where there are
/// none), null for other operators.
const WeightBounds* weight_bounds_of(const Op& op);
WeightBounds* weight_bounds_of(Op& op);
bool has_weight_bounds(const Graph& graph);

/// "relu", "silu" …: torch's name of the function.
const char* activation_name(ActivationKind kind);

/// The Conv inside a Conv or DuplicatedConv, null for other operators.
const Conv* as_conv(const Op& op);
Conv* as_conv(Op& op);

}  // namespace sentinel
