#include <array>

#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

constexpr std::array<std::int64_t, 4> kLayers{6, 12, 24, 16};
constexpr std::int64_t kGrowth = 32, kBottleneck = 4;

NodeId norm_relu_conv(NetBuilder& net, const std::string& prefix, const std::string& number,
                      std::int64_t width, std::int64_t kernel, NodeId x) {
  x = net.relu(prefix + "relu" + number, net.batch_norm(prefix + "norm" + number, x));
  // No normalisation follows a convolution.
  return net.conv({prefix + "conv" + number, "", 0, width, kernel, 1, false}, x);
}

NodeId dense_layer(NetBuilder& net, const std::string& prefix, NodeId x) {
  x = norm_relu_conv(net, prefix, "1", kBottleneck * kGrowth, 1, x);
  return norm_relu_conv(net, prefix, "2", kGrowth, 3, x);
}

/// Every layer reads the block's input and all layers before it.
NodeId dense_block(NetBuilder& net, const std::string& prefix, std::int64_t layers, NodeId x) {
  std::vector<NodeId> all{x};
  for (std::int64_t i = 0; i < layers; ++i) {
    const std::string name = prefix + "denselayer" + std::to_string(i + 1) + ".";
    x = all.size() > 1 ? net.concat(name + "cat", all) : all[0];
    all.push_back(dense_layer(net, name, x));
  }
  return net.concat(prefix + "cat", all);
}

}  // namespace

Builder densenet121() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    NodeId x = net.conv({"features.conv0", "features.norm0", 0, 64, 7, 2, false}, 0);
    x = net.relu("features.relu0", net.batch_norm("features.norm0", x));
    x = net.plain("features.pool0", MaxPool{{3, 3}, {2, 2}, {1, 1}}, x);
    std::int64_t width = 64;
    for (std::size_t block = 0; block < kLayers.size(); ++block) {
      const std::string number = std::to_string(block + 1);
      x = dense_block(net, "features.denseblock" + number + ".", kLayers[block], x);
      width += kLayers[block] * kGrowth;
      if (block + 1 == kLayers.size()) break;
      width /= 2;
      const std::string transition = "features.transition" + number + ".";
      x = norm_relu_conv(net, transition, "", width, 1, x);
      x = net.plain(transition + "pool", AvgPool{}, x);
    }
    x = net.relu("relu", net.batch_norm("features.norm5", x));
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{}, x));
    net.linear({"classifier", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
