#include <algorithm>
#include <array>

#include "sentinel/io/script_file.hpp"

// Operators that TorchScript networks may call.

namespace sentinel {
namespace {

/// They stand in CNNs as torch.nn and torchvision write them, taken or not: what no Graph has is
/// refused later and by the name of its module. Sorted.
// clang-format off
constexpr std::string_view kOperators[] = {
    // Names with underscores at the begin: Python's operators, and what tracing writes.
    "Bool", "Complex", "Delete", "Float", "FloatImplicit", "Int", "IntImplicit", "ScalarImplicit",
    "__and__", "__contains__", "__derive_index", "__getitem__", "__iand__", "__ior__", "__is__",
    "__isnot__", "__ixor__", "__lshift__", "__not__", "__or__", "__range_length", "__rshift__",
    "__xor__", "_batch_norm_impl_index", "_convolution", "_convolution_mode", "_reshape_alias",
    "_set_item", "_shape_as_tensor", "_unsafe_view", "_unwrap_optional", "_weight_norm", "abs",
    "abs_", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "add_", "addcmul",
    "addmm", "alias", "all", "alpha_dropout", "alpha_dropout_", "amax", "amin", "any", "append",
    "arange", "argmax", "argmin", "argsort", "as_tensor", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "baddbmm", "batch_norm", "bernoulli", "bernoulli_", "bitwise_and", "bitwise_not",
    "bitwise_or", "bmm", "broadcast_tensors", "broadcast_to", "cat", "ceil", "ceil_", "celu",
    "celu_", "channel_shuffle", "chunk", "clamp", "clamp_", "clamp_max", "clamp_max_",
    "clamp_min", "clamp_min_", "clone", "concat", "constant_pad_nd", "contiguous", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution",
    "copy", "copy_", "cos", "cumsum", "detach", "device", "dict", "dim", "div", "div_", "dropout",
    "dropout_", "einsum", "elu", "elu_", "embedding", "empty", "empty_like", "eq", "eq_", "erf",
    "exp", "exp_", "expand", "expand_as", "extend", "feature_alpha_dropout",
    "feature_alpha_dropout_", "feature_dropout", "feature_dropout_", "fill_", "flatten", "flip",
    "floor", "floor_", "floor_divide", "floordiv", "fmod", "format", "frobenius_norm", "full",
    "full_like", "gather", "ge", "gelu", "gelu_", "get", "glu", "group_norm", "gt", "hardshrink",
    "hardsigmoid", "hardsigmoid_", "hardswish", "hardswish_", "hardtanh", "hardtanh_", "im2col",
    "index", "index_copy_", "index_select", "insert", "instance_norm", "is_contiguous", "is_cuda",
    "is_floating_point", "isfinite", "isinf", "isnan", "item", "items", "keys", "layer_norm",
    "layout", "le", "leaky_relu", "leaky_relu_", "len", "lerp", "linalg_norm",
    "linalg_vector_norm", "linear", "linspace", "list", "local_response_norm", "log", "log1p",
    "log_sigmoid", "log_softmax", "logical_and", "logical_not", "logical_or", "logsumexp", "lt",
    "masked_fill", "masked_fill_", "matmul", "max", "max_pool1d", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "maximum", "mean", "min", "minimum", "mish", "mish_",
    "mm", "movedim", "mul", "mul_", "narrow", "native_channel_shuffle", "native_layer_norm", "ne",
    "neg", "neg_", "new_empty", "new_full", "new_ones", "new_zeros", "norm", "numel", "one_hot",
    "ones", "ones_like", "pad", "percentFormat", "permute", "pixel_shuffle", "pixel_unshuffle", "pop", "pow",
    "pow_", "prelu", "prod", "rand", "rand_like", "randn", "randn_like", "reciprocal",
    "reflection_pad1d", "reflection_pad2d", "relu", "relu6", "relu6_", "relu_", "remainder",
    "repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d", "requires_grad_",
    "reshape", "reshape_as", "roll", "round", "rrelu", "rrelu_", "rsqrt", "rsub",
    "scaled_dot_product_attention", "select", "selu", "selu_", "sigmoid", "sigmoid_", "sign",
    "silu", "silu_", "sin", "size", "slice", "softmax", "softplus", "softshrink", "sort", "split",
    "split_with_sizes", "sqrt", "square", "squeeze", "stack", "std", "std_mean", "str", "sub",
    "sub_", "sum", "swapaxes", "swapdims", "t", "tanh", "tanh_", "tensor", "tensor_split",
    "threshold", "threshold_", "tile", "to", "tolist", "topk", "transpose", "tril", "triu", "type_as",
    "unbind", "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes",
    "unsqueeze", "unsqueeze_", "upsample_bilinear2d", "upsample_nearest2d", "values", "var",
    "var_mean", "view", "view_as", "warn", "where", "zero_", "zeros", "zeros_like"};
// clang-format on

}  // namespace

bool is_script_operator(std::string_view name) {
  return std::binary_search(std::begin(kOperators), std::end(kOperators), name);
}

}  // namespace sentinel
