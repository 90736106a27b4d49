#include <cmath>

#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/squeeze_excitation.hpp"

namespace sentinel {
namespace {

struct Stage {
  std::int64_t width, blocks;
};
constexpr Stage kStages[] = {{48, 1}, {104, 3}, {208, 6}, {440, 6}};
constexpr std::int64_t kGroupWidth = 8;
constexpr double kSqueezed = 0.25;  // of a block's input

NodeId conv_bn(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t kernel,
               std::int64_t stride, std::int64_t groups, NodeId x) {
  const ConvSpec spec{name + ".0", name + ".1", 0, width, kernel, stride, false, groups};
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId block(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t stride,
             bool project, NodeId in) {
  const NodeId skip = project ? conv_bn(net, name + ".proj", width, 1, stride, 1, in) : in;
  NodeId x = net.relu(name + ".f.a.2", conv_bn(net, name + ".f.a", width, 1, 1, 1, in));
  x = conv_bn(net, name + ".f.b", width, 3, stride, width / kGroupWidth, x);
  x = net.relu(name + ".f.b.2", x);
  const auto squeezed = std::lrint(kSqueezed * static_cast<double>(net.channels(in)));
  x = squeeze_excitation(net, name + ".f.se", squeezed, ActivationKind::kRelu, x);
  x = conv_bn(net, name + ".f.c", width, 1, 1, 1, x);
  return net.relu(name + ".activation", net.add(name + ".add", {skip, x}));
}

}  // namespace

Builder regnet_y_400mf() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    NodeId x = net.relu("stem.2", conv_bn(net, "stem", 32, 3, 2, 1, 0));
    int number = 0;
    for (const Stage& stage : kStages) {
      const std::string name = "block" + std::to_string(++number);
      const std::string prefix = "trunk_output." + name + "." + name + "-";
      for (std::int64_t i = 0; i < stage.blocks; ++i)
        x = block(net, prefix + std::to_string(i), stage.width, i == 0 ? 2 : 1, i == 0, x);
    }
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{}, x));
    net.linear({"fc", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
