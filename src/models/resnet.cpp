#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

NodeId conv_bn(NetBuilder& net, const ConvSpec& spec, NodeId x) {
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId basic_block(NetBuilder& net, const std::string& prefix, std::int64_t width,
                   std::int64_t stride, bool project, NodeId in) {
  NodeId x = conv_bn(net, {prefix + "conv1", prefix + "bn1", 0, width, 3, stride, false}, in);
  x = net.relu(prefix + "relu", x);
  x = conv_bn(net, {prefix + "conv2", prefix + "bn2", 0, width, 3, 1, false}, x);
  NodeId skip = in;
  if (project) {
    const std::string name = prefix + "downsample.";
    skip = conv_bn(net, {name + "0", name + "1", 0, width, 1, stride, false}, in);
  }
  return net.relu(prefix + "relu_1", net.add(prefix + "add", x, skip));
}

}  // namespace

Graph build_resnet(LayerSource& source, const std::vector<std::int64_t>& depth,
                   std::int64_t classes) {
  NetBuilder net(source);
  std::int64_t width = 16;
  NodeId x = conv_bn(net, {"conv1", "bn1", 0, width, 3, 1, false}, 0);
  x = net.relu("relu", x);
  for (std::size_t stage = 0; stage < depth.size(); ++stage, width *= 2) {
    for (std::int64_t block = 0; block < depth[stage]; ++block) {
      const std::string prefix =
          "layer" + std::to_string(stage + 1) + "." + std::to_string(block) + ".";
      const bool shrinks = stage > 0 && block == 0;
      x = basic_block(net, prefix, width, shrinks ? 2 : 1, shrinks, x);
    }
  }
  x = net.plain("avgpool", AdaptiveAvgPool{}, x);
  x = net.plain("flatten", Flatten{}, x);
  net.linear({"fc", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
  return net.take();
}

}  // namespace sentinel
