#include "models/net_builder.hpp"

namespace sentinel {

NetBuilder::NetBuilder(LayerSource& source) : source_(source) {
  append("x", Input{3, {32, 32}}, {}, 3);
}

NodeId NetBuilder::append(const std::string& name, Op op, std::vector<NodeId> inputs,
                          std::int64_t channels) {
  channels_.push_back(channels);
  return graph_.add(name, std::move(op), std::move(inputs));
}

NodeId NetBuilder::conv(ConvSpec spec, NodeId input) {
  spec.in = channels(input);
  Op op = source_.conv(spec);
  const auto* duplicated = std::get_if<DuplicatedConv>(&op);
  const std::int64_t out =
      duplicated != nullptr ? duplicated->out_channels() : as_conv(op)->weight.size(0);
  return append(spec.name, std::move(op), {input}, out);
}

NodeId NetBuilder::batch_norm(const std::string& name, NodeId input) {
  return append(name, source_.batch_norm(name, channels(input)), {input}, channels(input));
}

NodeId NetBuilder::relu(const std::string& name, NodeId input) {
  return append(name, source_.relu(name, channels(input)), {input}, channels(input));
}

NodeId NetBuilder::add(const std::string& name, NodeId a, NodeId b) {
  if (channels(a) != channels(b)) source_.widths_differ(name, channels(a), channels(b));
  return append(name, Add{}, {a, b}, channels(a));
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
