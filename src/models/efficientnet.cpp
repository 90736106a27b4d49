#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"
#include "models/squeeze_excitation.hpp"

namespace sentinel {
namespace {

/// A stage of MBConv blocks.
struct Stage {
  std::int64_t expansion, kernel, stride, width, blocks;
};
constexpr Stage kStages[] = {{1, 3, 1, 16, 1}, {6, 3, 2, 24, 2},  {6, 5, 2, 40, 2},
                             {6, 3, 2, 80, 3}, {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4},
                             {6, 3, 1, 320, 1}};

NodeId conv_bn(NetBuilder& net, const std::string& name, ConvSpec spec, NodeId x) {
  spec.name = name + ".0";
  spec.norm = name + ".1";
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId conv_bn_silu(NetBuilder& net, const std::string& name, const ConvSpec& spec, NodeId x) {
  return net.activation(name + ".2", ActivationKind::kSilu, conv_bn(net, name, spec, x));
}

NodeId mb_conv(NetBuilder& net, const std::string& name, const Stage& stage, std::int64_t stride,
               NodeId in) {
  Numbered modules(name + ".block.");
  const std::int64_t width = net.channels(in);
  NodeId x = in;
  if (stage.expansion > 1)
    x = conv_bn_silu(net, modules.next(), pointwise(width * stage.expansion), x);
  x = conv_bn_silu(net, modules.next(), depthwise(stage.kernel, stride), x);
  const std::int64_t squeezed = std::max<std::int64_t>(1, width / 4);
  x = squeeze_excitation(net, modules.next(), squeezed, ActivationKind::kSilu, x);
  x = conv_bn(net, modules.next(), pointwise(stage.width), x);
  return stride == 1 && width == net.channels(x) ? net.add(name + ".add", {x, in}) : x;
}

}  // namespace

Builder efficientnet_b0() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    Numbered modules("features.");
    ConvSpec first;
    first.out = 32;
    first.stride = 2;
    NodeId x = conv_bn_silu(net, modules.next(), first, 0);
    for (const Stage& stage : kStages) {
      const std::string name = modules.next();
      for (std::int64_t block = 0; block < stage.blocks; ++block)
        x = mb_conv(net, name + "." + std::to_string(block), stage, block == 0 ? stage.stride : 1,
                    x);
    }
    x = conv_bn_silu(net, modules.next(), pointwise(1280), x);
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{}, x));
    x = net.plain("classifier.0", Dropout{0.2}, x);
    net.linear({"classifier.1", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
