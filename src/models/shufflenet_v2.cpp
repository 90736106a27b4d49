#include <array>

#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

constexpr std::array<std::int64_t, 3> kBlocks{4, 8, 4};

/// Modules `first` (a convolution) and the next (its normalisation) of a Sequential.
NodeId conv_bn(NetBuilder& net, const std::string& prefix, int first, ConvSpec spec, NodeId x) {
  spec.name = prefix + std::to_string(first);
  spec.norm = prefix + std::to_string(first + 1);
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId first_branch(NetBuilder& net, const std::string& prefix, std::int64_t width, NodeId x) {
  x = conv_bn(net, prefix, 0, depthwise(3, 2), x);
  x = conv_bn(net, prefix, 2, pointwise(width), x);
  return net.relu(prefix + "4", x);
}

NodeId second_branch(NetBuilder& net, const std::string& prefix, std::int64_t width,
                     std::int64_t stride, NodeId x) {
  x = conv_bn(net, prefix, 0, pointwise(width), x);
  x = net.relu(prefix + "2", x);
  x = conv_bn(net, prefix, 3, depthwise(3, stride), x);
  x = conv_bn(net, prefix, 5, pointwise(width), x);
  return net.relu(prefix + "7", x);
}

NodeId unit(NetBuilder& net, const std::string& name, std::int64_t out, bool shrinks, NodeId x) {
  NodeId a = x, b = x;
  if (shrinks) {
    a = first_branch(net, name + "branch1.", out / 2, x);
  } else {
    a = net.half(name + "chunk", 0, x);
    b = net.half(name + "chunk_1", 1, x);
  }
  b = second_branch(net, name + "branch2.", out / 2, shrinks ? 2 : 1, b);
  return net.plain(name + "shuffle", ChannelShuffle{2}, net.concat(name + "cat", {a, b}));
}

}  // namespace

Builder shufflenet_v2(const std::vector<std::int64_t>& widths, Images images) {
  return [=](LayerSource& source, std::int64_t classes) {
    const bool cifar = images == Images::kCifar;
    NetBuilder net(source, cifar ? 32 : 224);
    ConvSpec first;
    first.out = widths.at(0);
    first.stride = cifar ? 1 : 2;
    NodeId x = net.relu("conv1.2", conv_bn(net, "conv1.", 0, first, 0));
    if (!cifar) x = net.plain("maxpool", MaxPool{{3, 3}, {2, 2}, {1, 1}}, x);
    for (std::size_t stage = 0; stage < kBlocks.size(); ++stage) {
      for (std::int64_t block = 0; block < kBlocks[stage]; ++block) {
        const std::string name =
            "stage" + std::to_string(stage + 2) + "." + std::to_string(block) + ".";
        x = unit(net, name, widths.at(stage + 1), block == 0, x);
      }
    }
    x = net.relu("conv5.2", conv_bn(net, "conv5.", 0, pointwise(widths.at(4)), x));
    x = net.flatten("flatten", net.plain("mean", AdaptiveAvgPool{}, x));
    net.linear({"fc", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
