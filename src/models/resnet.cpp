#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

NodeId conv_bn(NetBuilder& net, const ConvSpec& spec, NodeId x) {
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

/// Adds the input, through a projection where its shape differs.
NodeId with_shortcut(NetBuilder& net, const std::string& prefix, NodeId x, NodeId in,
                     std::int64_t width, std::int64_t stride, bool project) {
  if (project) {
    const std::string name = prefix + "downsample.";
    in = conv_bn(net, {name + "0", name + "1", 0, width, 1, stride, false}, in);
  }
  return net.add(prefix + "add", {x, in});
}

NodeId basic_block(NetBuilder& net, const std::string& prefix, std::int64_t width,
                   std::int64_t stride, bool project, NodeId in) {
  NodeId x = conv_bn(net, {prefix + "conv1", prefix + "bn1", 0, width, 3, stride, false}, in);
  x = net.relu(prefix + "relu", x);
  x = conv_bn(net, {prefix + "conv2", prefix + "bn2", 0, width, 3, 1, false}, x);
  x = with_shortcut(net, prefix, x, in, width, stride, project);
  return net.relu(prefix + "relu_1", x);
}

NodeId bottleneck(NetBuilder& net, const std::string& prefix, const ResnetShape& shape,
                  std::int64_t width, std::int64_t stride, bool project, NodeId in) {
  const std::int64_t inner = width * shape.width_per_group / 64 * shape.groups, out = 4 * width;
  NodeId x = conv_bn(net, {prefix + "conv1", prefix + "bn1", 0, inner, 1, 1, false}, in);
  x = net.relu(prefix + "relu", x);
  const std::string norm = prefix + "bn2";
  x = conv_bn(net, {prefix + "conv2", norm, 0, inner, 3, stride, false, shape.groups}, x);
  x = net.relu(prefix + "relu_1", x);
  x = conv_bn(net, {prefix + "conv3", prefix + "bn3", 0, out, 1, 1, false}, x);
  x = with_shortcut(net, prefix, x, in, out, stride, project);
  return net.relu(prefix + "relu_2", x);
}

std::string block_name(std::size_t stage, std::int64_t block) {
  return "layer" + std::to_string(stage + 1) + "." + std::to_string(block) + ".";
}

void classifier(NetBuilder& net, NodeId x, std::int64_t classes) {
  x = net.plain("avgpool", AdaptiveAvgPool{}, x);
  x = net.flatten("flatten", x);
  net.linear({"fc", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
}

}  // namespace

Builder cifar_resnet(std::int64_t blocks) {
  return [=](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 32);
    std::int64_t width = 16;
    NodeId x = conv_bn(net, {"conv1", "bn1", 0, width, 3, 1, false}, 0);
    x = net.relu("relu", x);
    for (std::size_t stage = 0; stage < 3; ++stage, width *= 2) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        const bool shrinks = stage > 0 && block == 0;
        x = basic_block(net, block_name(stage, block), width, shrinks ? 2 : 1, shrinks, x);
      }
    }
    classifier(net, x, classes);
    return net.take();
  };
}

Builder imagenet_resnet(const ResnetShape& shape) {
  return [=](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    std::int64_t width = 64;
    NodeId x = conv_bn(net, {"conv1", "bn1", 0, width, 7, 2, false}, 0);
    x = net.relu("relu", x);
    x = net.plain("maxpool", MaxPool{{3, 3}, {2, 2}, {1, 1}}, x);
    for (std::size_t stage = 0; stage < shape.blocks.size(); ++stage, width *= 2) {
      for (std::int64_t block = 0; block < shape.blocks[stage]; ++block) {
        const std::string name = block_name(stage, block);
        const std::int64_t stride = stage > 0 && block == 0 ? 2 : 1;
        const bool project = block == 0 && (stage > 0 || shape.bottleneck);
        x = shape.bottleneck ? bottleneck(net, name, shape, width, stride, project, x)
                             : basic_block(net, name, width, stride, project, x);
      }
    }
    classifier(net, x, classes);
    return net.take();
  };
}

}  // namespace sentinel
