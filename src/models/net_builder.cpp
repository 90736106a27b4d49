#include "models/net_builder.hpp"

namespace sentinel {

NetBuilder::NetBuilder(LayerSource& source, const Input& input) : source_(source) {
  append("x", input, {}, input.channels);
}

NodeId NetBuilder::append(const std::string& name, Op op, std::vector<NodeId> inputs,
                          std::int64_t channels) {
  channels_.push_back(channels);
  return graph_.add(name, std::move(op), std::move(inputs));
}

void NetBuilder::require_same(const std::string& name, NodeId a, NodeId b) {
  if (channels(a) != channels(b)) source_.widths_differ(name, channels(a), channels(b));
}

NodeId NetBuilder::conv(ConvSpec spec, NodeId input) {
  spec.in = channels(input);
  if (spec.groups == ConvSpec::kDepthwise) {
    spec.groups = spec.in;
    spec.out = spec.in;
  }
  Op op = source_.conv(spec);
  const std::int64_t out = out_channels_of(op);
  return append(spec.name, std::move(op), {input}, out);
}

NodeId NetBuilder::batch_norm(const std::string& name, NodeId input, double eps) {
  Op op = source_.batch_norm(name, channels(input));
  std::get<BatchNorm>(op).eps = eps;
  return append(name, std::move(op), {input}, channels(input));
}

NodeId NetBuilder::activation(const std::string& name, ActivationKind kind, NodeId input) {
  return append(name, source_.activation(name, kind, channels(input)), {input}, channels(input));
}

NodeId NetBuilder::add(const std::string& name, const std::vector<NodeId>& inputs) {
  for (const NodeId input : inputs) require_same(name, inputs.at(0), input);
  return append(name, Add{}, inputs, channels(inputs.at(0)));
}

NodeId NetBuilder::multiply(const std::string& name, NodeId x, NodeId gate) {
  require_same(name, x, gate);
  return append(name, Multiply{}, {x, gate}, channels(x));
}

NodeId NetBuilder::concat(const std::string& name, const std::vector<NodeId>& inputs) {
  std::int64_t sum = 0;
  for (const NodeId input : inputs) sum += channels(input);
  return append(name, Concat{}, inputs, sum);
}

NodeId NetBuilder::half(const std::string& name, int which, NodeId input) {
  const std::int64_t all = channels(input), first = (all + 1) / 2;
  return slice(name, which == 0 ? Slice{0, first} : Slice{first, all}, input);
}

NodeId NetBuilder::slice(const std::string& name, const Slice& slice, NodeId input) {
  return append(name, slice, {input}, slice.end - slice.begin);
}

NodeId NetBuilder::flatten(const std::string& name, NodeId input, std::int64_t pixels) {
  return append(name, Flatten{}, {input}, channels(input) * pixels);
}

NodeId NetBuilder::linear(LinearSpec spec, NodeId input) {
  spec.in = channels(input);
  Op op = source_.linear(spec);
  const std::int64_t out = std::get<Linear>(op).weight.size(0);
  return append(spec.name, std::move(op), {input}, out);
}

NodeId NetBuilder::plain(const std::string& name, Op op, NodeId input) {
  return append(name, std::move(op), {input}, channels(input));
}

}  // namespace sentinel
