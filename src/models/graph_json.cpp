#include "models/graph_json.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "models/net_builder.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/visit.hpp"

namespace sentinel {
namespace {

using nlohmann::json;

constexpr std::array kKinds{ActivationKind::kRelu,      ActivationKind::kRelu6,
                            ActivationKind::kSilu,      ActivationKind::kSigmoid,
                            ActivationKind::kHardswish, ActivationKind::kHardsigmoid};

// ---- writing ----

json window(const char* op, Pair kernel, Pair stride, Pair padding) {
  return {{"op", op}, {"kernel", kernel}, {"stride", stride}, {"padding", padding}};
}

json conv_json(const Conv& conv, std::int64_t out) {
  json text = window("conv", {conv.weight.size(2), conv.weight.size(3)}, conv.stride, conv.padding);
  text["dilation"] = conv.dilation;
  text["groups"] = conv.groups;
  text["bias"] = conv.bias.defined();
  text["out"] = out;
  return text;
}

json op_json(const Op& op) {
  return std::visit(
      Overloaded{
          [](const Input& in) {
            return json{{"op", "input"}, {"channels", in.channels}, {"size", in.size}};
          },
          [](const Conv& conv) { return conv_json(conv, conv.weight.size(0)); },
          [](const DuplicatedConv& conv) { return conv_json(conv.conv, conv.out_channels()); },
          [](const BatchNorm& bn) {
            return json{{"op", "batch_norm"}, {"eps", bn.eps}};
          },
          [](const Activation& a) {
            return json{{"op", activation_name(a.kind)}};
          },
          [](const BoundedActivation& a) {
            return json{{"op", activation_name(a.kind)}};
          },
          [](const MaxPool& pool) {
            json text = window("max_pool", pool.kernel, pool.stride, pool.padding);
            text["ceil"] = pool.ceil;
            return text;
          },
          [](const AvgPool& pool) {
            return window("avg_pool", pool.kernel, pool.stride, pool.padding);
          },
          [](const AdaptiveAvgPool& pool) {
            return json{{"op", "adaptive_avg_pool"}, {"size", pool.size}};
          },
          [](const Add&) {
            return json{{"op", "add"}};
          },
          [](const Multiply&) {
            return json{{"op", "multiply"}};
          },
          [](const ChannelAffine& affine) {
            return json{{"op", "affine"}, {"scale", affine.scale}, {"shift", affine.shift}};
          },
          [](const Concat&) {
            return json{{"op", "concat"}};
          },
          [](const Slice& slice) {
            return json{{"op", "slice"}, {"begin", slice.begin}, {"end", slice.end}};
          },
          [](const ChannelShuffle& shuffle) {
            return json{{"op", "shuffle"}, {"groups", shuffle.groups}};
          },
          [](const Flatten&) {
            return json{{"op", "flatten"}};
          },
          [](const Linear& linear) {
            return json{
                {"op", "linear"}, {"out", linear.weight.size(0)}, {"bias", linear.bias.defined()}};
          },
          [](const Dropout& dropout) {
            return json{{"op", "dropout"}, {"probability", dropout.probability}};
          }},
      op);
}

// ---- reading ----

void require(bool good, const std::string& what) {
  if (!good) throw std::invalid_argument(what);
}

/// A number of the structure. None of an honest network is larger.
std::int64_t number(const json& text, const char* key, std::int64_t least) {
  constexpr std::int64_t kMost = 1 << 24;
  const auto value = text.at(key).get<std::int64_t>();
  require(value >= least && value <= kMost,
          std::string("a structure with '") + key + "' " + std::to_string(value));
  return value;
}

Pair pair(const json& text, const char* key, std::int64_t least) {
  const auto value = text.at(key).get<Pair>();
  for (const std::int64_t v : value)
    require(v >= least && v <= 4096, std::string("a structure with an impossible '") + key + "'");
  return value;
}

bool holds_floats(const std::string& key) {
  return key == "eps" || key == "probability" || key == "scale" || key == "shift";
}

constexpr std::int64_t kMostChannels = 1 << 24;

class Reader {
 public:
  Reader(const json& nodes, LayerSource& source) : nodes_(nodes), net_(source, input_of(nodes)) {}

  Graph read() {
    for (std::size_t i = 1; i < nodes_.size(); ++i) add(nodes_.at(i));
    return net_.take();
  }

 private:
  static Input input_of(const json& nodes) {
    const json& first = nodes.at(0);
    require(first.at("op") == "input", "a structure without an input");
    require_whole(first);
    return {number(first, "channels", 1), pair(first, "size", 1)};
  }

  void add(const json& node) {
    for (const auto& [key, value] : node.items())
      if (!holds_floats(key)) require_whole(value);
    const auto name = node.at("name").get<std::string>(), op = node.at("op").get<std::string>();
    require(!name.empty(), "a node without a name");
    require(names_.insert(name).second && name != "x", "two nodes named '" + name + "'");
    const auto in = node.at("inputs").get<std::vector<NodeId>>();
    for (const NodeId id : in)
      require(id >= 0 && id < net_.size(), "'" + name + "' reading a node that is not before it");
    const std::size_t least = op == "add" || op == "multiply" ? 2 : 1;
    const bool any = op == "add" || op == "concat";
    require(in.size() >= least && (any || in.size() == least),
            "'" + name + "' with " + std::to_string(in.size()) + " inputs");
    if (op == "conv") return add_conv(name, node, in[0]);
    if (op == "linear") return add_linear(name, node, in[0]);
    if (op == "batch_norm") {
      net_.batch_norm(name, in[0], node.at("eps").get<double>());
    } else if (op == "add") {
      net_.add(name, in);
    } else if (op == "multiply") {
      net_.multiply(name, in[0], in[1]);
    } else if (op == "concat") {
      net_.concat(name, in);
      require(net_.channels(net_.size() - 1) <= kMostChannels,
              "too many channels in '" + name + "'");
    } else if (op == "slice") {
      const Slice slice{number(node, "begin", 0), number(node, "end", 1)};
      require(slice.begin < slice.end && slice.end <= net_.channels(in[0]),
              "'" + name + "' taking channels that are not there");
      net_.slice(name, slice, in[0]);
    } else if (op == "flatten") {
      const std::int64_t pixels = number(node, "pixels", 1);
      require(pixels <= kMostChannels / net_.channels(in[0]),
              "too many features in '" + name + "'");
      net_.flatten(name, in[0], pixels);
    } else if (const auto kind = activation(op)) {
      net_.activation(name, *kind, in[0]);
    } else {
      net_.plain(name, plain(op, node, net_.channels(in[0])), in[0]);
    }
  }

  void add_conv(const std::string& name, const json& node, NodeId in) {
    ConvSpec spec{name, "", 0, number(node, "out", 1)};
    spec.kernel = pair(node, "kernel", 1);
    spec.stride = pair(node, "stride", 1);
    spec.padding = pair(node, "padding", 0);
    spec.dilation = pair(node, "dilation", 1);
    spec.groups = number(node, "groups", 1);
    spec.bias = node.at("bias").get<bool>();
    require(net_.channels(in) % spec.groups == 0, "'" + name + "' with a broken group");
    net_.conv(spec, in);
  }

  void add_linear(const std::string& name, const json& node, NodeId in) {
    LinearSpec spec{name, 0, number(node, "out", 1)};
    spec.bias = node.at("bias").get<bool>();
    net_.linear(spec, in);
  }

  static std::optional<ActivationKind> activation(const std::string& op) {
    for (const ActivationKind kind : kKinds)
      if (op == activation_name(kind)) return kind;
    return {};
  }

  static Op plain(const std::string& op, const json& node, std::int64_t channels) {
    if (op == "max_pool")
      return MaxPool{pair(node, "kernel", 1), pair(node, "stride", 1), pair(node, "padding", 0),
                     node.at("ceil").get<bool>()};
    if (op == "avg_pool")
      return AvgPool{pair(node, "kernel", 1), pair(node, "stride", 1), pair(node, "padding", 0)};
    if (op == "adaptive_avg_pool") return AdaptiveAvgPool{pair(node, "size", 1)};
    if (op == "dropout") return Dropout{node.at("probability").get<double>()};
    if (op == "shuffle") {
      const ChannelShuffle shuffle{number(node, "groups", 1)};
      require(channels % shuffle.groups == 0, "a shuffle of broken groups");
      return shuffle;
    }
    require(op == "affine", "the unknown operator '" + op + "'");
    ChannelAffine affine{node.at("scale").get<std::vector<double>>(),
                         node.at("shift").get<std::vector<double>>()};
    const auto count = static_cast<std::size_t>(channels);
    require(affine.scale.size() == count && affine.shift.size() == count,
            "constants for another number of channels");
    return affine;
  }

  const json& nodes_;
  NetBuilder net_;
  std::set<std::string> names_;
};

}  // namespace

void require_whole(const json& value) {
  if (value.is_structured())
    for (const json& part : value) require_whole(part);
  const bool too_large = value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX;
  if (value.is_number_float() || too_large)
    throw std::invalid_argument("the number " + value.dump() + " where a whole number belongs");
}

json write_structure(const Graph& graph) {
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const auto count = [&](NodeId id) { return channels[static_cast<std::size_t>(id)]; };
  json nodes = json::array();
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph[id];
    json text = op_json(node.op);
    text["name"] = node.name;
    text["inputs"] = node.inputs;
    if (std::holds_alternative<Flatten>(node.op))
      text["pixels"] = count(id) / count(node.inputs[0]);
    nodes.push_back(std::move(text));
  }
  return nodes;
}

Graph read_structure(const json& structure, LayerSource& source) {
  return Reader(structure, source).read();
}

}  // namespace sentinel
