#include "models/script_source.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cctype>
#include <sstream>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

/// graph/rules.hpp for tensors, and what graph/run.cpp does to protect: tests compare bits.
constexpr auto kProtection = R"(
def bounded_weight(self, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    rows = [-1] + [1] * (weight.dim() - 1)
    good = (weight >= low.reshape(rows)) & (weight <= high.reshape(rows))
    return torch.where(good, weight, weight.new_zeros([]))

def per_channel(self, numbers: Tensor, x: Tensor) -> Tensor:
    if numbers.dim() == 3:
        return numbers
    return numbers.reshape([1, -1] + [1] * (x.dim() - 2))

def acting_bound(self, bound: Tensor, x: Tensor, relu: bool) -> Tensor:
    own = self.per_channel(bound, x)
    return torch.where(own > 0, own, x.new_zeros([])) if relu else own

def ranger(self, x: Tensor, bound: Tensor, low: Optional[Tensor], relu: bool) -> Tensor:
    most = self.acting_bound(torch.clamp(bound, max=3.4028234663852886e+38), x, relu)
    good = (x > 0 if relu else x == x) & (x <= most)
    if low is not None:
        good = good & (x >= self.per_channel(low, x))
    return torch.where(good, x, x.new_zeros([]))

def ranger_clamp(self, x: Tensor, bound: Tensor, low: Optional[Tensor], relu: bool) -> Tensor:
    most = self.acting_bound(bound, x, relu)
    good = x > 0 if relu else (x == x) & (most == most)
    above = x
    if low is not None:
        least = self.per_channel(low, x)
        good = good & (least == least)
        above = torch.where(x < least, least, x)
    return torch.where(good, torch.where(x > most, most, above), x.new_zeros([]))

def smooth(self, x: Tensor, bound: Tensor) -> Tensor:
    most = self.acting_bound(bound, x, True).double()
    wide = x.double()
    kept = torch.where((x > 0) & (wide - most <= 5), wide, wide.new_zeros([]))
    return (kept / (1 + torch.exp(20 * (kept - most)))).to(x.dtype)

def merge(self, a: Tensor, b: Tensor, prefer_a: Tensor) -> Tensor:
    finite_a = torch.isfinite(a)
    finite_b = torch.isfinite(b)
    near = torch.abs(a - b) <= torch.maximum(torch.abs(a), torch.abs(b)) * 1e-5
    equal = near & finite_a & finite_b
    take_a = equal | (finite_a & (torch.logical_not(finite_b) | prefer_a))
    return torch.where(take_a, a, torch.where(finite_b, b, b.new_zeros([])))

def inside(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (x >= self.per_channel(low, x)) & (x <= self.per_channel(high, x))

def bias_rows(self, bias: Optional[Tensor], first: int, rows: int) -> Optional[Tensor]:
    return None if bias is None else bias.narrow(0, first, rows)

def same_rows(self, weight: Tensor, bias: Optional[Tensor], duplicated: Tensor) -> Tensor:
    copies = duplicated.numel()
    out = weight.size(0) - copies
    equal = weight.index_select(0, duplicated) == weight.narrow(0, out, copies)
    same = equal.reshape([copies, -1]).all(1)
    if bias is not None:
        same = same & (bias.index_select(0, duplicated) == bias.narrow(0, out, copies))
    return same

def copied_channels(self, x: Tensor, weight: Tensor, bias: Optional[Tensor], duplicated: Tensor,
                    stride: List[int], padding: List[int], dilation: List[int],
                    groups: int) -> Tensor:
    copies = duplicated.numel()
    out = weight.size(0) - copies
    if groups == 1:
        return torch.conv2d(x, weight.narrow(0, out, copies), self.bias_rows(bias, out, copies),
                            stride, padding, dilation, 1)
    width = weight.size(1)
    originals: List[int] = duplicated.tolist()
    results: List[Tensor] = []
    for k in range(copies):
        block = x.narrow(1, originals[k] // (out // groups) * width, width)
        results.append(torch.conv2d(block, weight.narrow(0, out + k, 1),
                                    self.bias_rows(bias, out + k, 1), stride, padding, dilation, 1))
    return torch.cat(results, 1)

def duplicated_conv(self, x: Tensor, weight: Tensor, bias: Optional[Tensor], duplicated: Tensor,
                    low: Optional[Tensor], high: Optional[Tensor], stride: List[int],
                    padding: List[int], dilation: List[int], groups: int) -> Tensor:
    out = weight.size(0) - duplicated.numel()
    originals = torch.conv2d(x, weight.narrow(0, 0, out), self.bias_rows(bias, 0, out), stride,
                             padding, dilation, groups)
    a = originals.index_select(1, duplicated)
    computed = self.copied_channels(x, weight, bias, duplicated, stride, padding, dilation, groups)
    b = torch.where(self.per_channel(self.same_rows(weight, bias, duplicated), a), a, computed)
    if low is not None and high is not None:
        inside_a = self.inside(a, low, high)
        inside_b = self.inside(b, low, high)
        smaller = torch.abs(a) <= torch.abs(b) * 1.00001
        merged = self.merge(a, b, torch.where(inside_a == inside_b, smaller, inside_a))
    else:
        merged = self.merge(a, b, a <= b)
    return originals.index_copy_(1, duplicated, merged)
)";

/// self.layer1.conv1.weight; names like "0" only getattr takes.
std::string attribute(const std::string& node, const std::string& tensor) {
  std::string text = "self";
  for (const std::string& name : path_of(node)) {
    text = identifier(name) == name ? text + "." + name
                                    : fmt::format("getattr({}, \"{}\")", text, name);
  }
  return text + "." + tensor;
}

std::string geometry(const Conv& conv) {
  return fmt::format("{}, {}, {}, {}", conv.stride, conv.padding, conv.dilation, conv.groups);
}

template <class Pool>
std::string window(const Pool& pool) {
  return fmt::format("{}, {}, {}", pool.kernel, pool.stride, pool.padding);
}

/// The right-hand side of a node's line; `in` are the variables that it reads.
struct Expression {
  const std::string& name;
  const std::vector<std::string>& in;

  std::string operator()(const Input&) const { return "images"; }
  std::string operator()(const Conv& op) const {
    return fmt::format("torch.conv2d({}, {}, {}, {})", in[0], weight(op.bounds), bias(op.bias),
                       geometry(op));
  }
  std::string operator()(const DuplicatedConv& op) const {
    if (op.duplicated.empty()) return (*this)(op.conv);
    return fmt::format("self.duplicated_conv({}, {}, {}, {}, {}, {}, {})", in[0],
                       weight(op.conv.bounds), bias(op.conv.bias), own("duplicated"),
                       optional("range_low", op.low), optional("range_high", op.high),
                       geometry(op.conv));
  }
  std::string operator()(const BatchNorm& op) const {
    return fmt::format("torch.batch_norm({}, {}, {}, {}, {}, False, 0.1, {}, True)", in[0],
                       own("weight"), own("bias"), own("running_mean"), own("running_var"), op.eps);
  }
  std::string operator()(const Activation& op) const { return activated(op.kind); }
  std::string operator()(const BoundedActivation& op) const {
    switch (op.clipping) {
      case Clipping::kRanger:
        return restricted("ranger", op);
      case Clipping::kRangerClamp:
        return restricted("ranger_clamp", op);
      case Clipping::kSmooth:
        return fmt::format("self.smooth({}, {})", in[0], own("bound"));
    }
    throw Bug("unknown clipping");
  }
  std::string operator()(const MaxPool& op) const {
    return fmt::format("torch.max_pool2d({}, {}, [1, 1], {})", in[0], window(op),
                       op.ceil ? "True" : "False");
  }
  std::string operator()(const AvgPool& op) const {
    return fmt::format("torch.avg_pool2d({}, {})", in[0], window(op));
  }
  std::string operator()(const AdaptiveAvgPool& op) const {
    return fmt::format("torch.adaptive_avg_pool2d({}, {})", in[0], op.size);
  }
  std::string operator()(const Add&) const {
    std::string sum = fmt::format("torch.add({}, {})", in[0], in.at(1));
    for (std::size_t i = 2; i < in.size(); ++i) sum = fmt::format("torch.add({}, {})", sum, in[i]);
    return sum;
  }
  std::string operator()(const Multiply&) const {
    return fmt::format("torch.mul({}, {})", in[0], in.at(1));
  }
  std::string operator()(const ChannelAffine& op) const {
    const auto numbers = [&](const std::vector<double>& values) {
      return fmt::format("self.per_channel(torch.tensor({}, dtype={}.dtype, device={}.device), {})",
                         values, in[0], in[0], in[0]);
    };
    return fmt::format("torch.add(torch.mul({}, {}), {})", in[0], numbers(op.scale),
                       numbers(op.shift));
  }
  std::string operator()(const Concat&) const {
    return fmt::format("torch.cat([{}], 1)", fmt::join(in, ", "));
  }
  std::string operator()(const Slice& op) const {
    return fmt::format("torch.narrow({}, 1, {}, {})", in[0], op.begin, op.end - op.begin);
  }
  std::string operator()(const ChannelShuffle& op) const {
    return fmt::format("torch.channel_shuffle({}, {})", in[0], op.groups);
  }
  std::string operator()(const Flatten&) const {
    return fmt::format("torch.flatten({}, 1)", in[0]);
  }
  std::string operator()(const Linear& op) const {
    return fmt::format("torch.linear({}, {}, {})", in[0], weight(op.bounds), bias(op.bias));
  }
  std::string operator()(const Dropout&) const { return in[0]; }

 private:
  std::string restricted(const char* how, const BoundedActivation& op) const {
    const bool relu = op.kind == ActivationKind::kRelu;
    return fmt::format("self.{}({}, {}, {}, {})", how, relu ? in[0] : activated(op.kind),
                       own("bound"), optional("bound_low", op.low), relu ? "True" : "False");
  }
  std::string activated(ActivationKind kind) const {
    return fmt::format("torch.{}({})", activation_name(kind), in[0]);
  }
  std::string own(const std::string& tensor) const { return attribute(name, tensor); }
  std::string optional(const std::string& suffix, const at::Tensor& tensor) const {
    return tensor.defined() ? own(suffix) : "None";
  }
  std::string bias(const at::Tensor& tensor) const { return optional("bias", tensor); }
  std::string weight(const WeightBounds& bounds) const {
    if (!bounds.low.defined()) return own("weight");
    return fmt::format("self.bounded_weight({}, {}, {})", own("weight"), own("weight_low"),
                       own("weight_high"));
  }
};

/// The number makes it unlike every other variable and every keyword.
std::string variable(const Graph& graph, NodeId id) {
  return fmt::format("{}_{}", identifier(graph[id].name), id);
}

std::string forward_source(const Graph& graph) {
  std::string text = "def forward(self, images: Tensor) -> Tensor:\n";
  for (NodeId id = 0; id < graph.size(); ++id) {
    std::vector<std::string> in;
    for (const NodeId input : graph[id].inputs) in.push_back(variable(graph, input));
    const std::string value = std::visit(Expression{graph[id].name, in}, graph[id].op);
    text += fmt::format("    {} = {}\n", variable(graph, id), value);
  }
  return text + fmt::format("    return {}\n", variable(graph, graph.size() - 1));
}

}  // namespace

std::vector<std::string> path_of(const std::string& dotted) {
  std::vector<std::string> names;
  std::istringstream rest(dotted);
  for (std::string name; std::getline(rest, name, '.');) names.push_back(name);
  return names;
}

std::string identifier(const std::string& name) {
  std::string text = std::isdigit(static_cast<unsigned char>(name.front())) ? "_" + name : name;
  for (char& c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return text;
}

std::string script_source(const Graph& graph) {
  return forward_source(graph) + kProtection;
}

}  // namespace sentinel
