#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"

namespace sentinel {
namespace {

/// A stage of inverted residuals.
struct Stage {
  std::int64_t expansion, width, blocks, stride;
};
constexpr Stage kStages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                             {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

/// A width as a multiple of 8, at most a tenth less than asked for.
std::int64_t multiple_of_8(double width) {
  const auto rounded = static_cast<std::int64_t>(width + 4) / 8 * 8;
  const std::int64_t least = std::max<std::int64_t>(8, rounded);
  return static_cast<double>(least) < 0.9 * width ? least + 8 : least;
}

/// Convolution, normalisation, ReLU6: modules 0, 1, 2 of a Sequential.
NodeId conv_bn_relu6(NetBuilder& net, const std::string& name, ConvSpec spec, NodeId x) {
  spec.name = name + ".0";
  spec.norm = name + ".1";
  x = net.batch_norm(spec.norm, net.conv(spec, x));
  return net.activation(name + ".2", ActivationKind::kRelu6, x);
}

NodeId inverted_residual(NetBuilder& net, const std::string& name, const Stage& stage,
                         std::int64_t width, std::int64_t stride, NodeId in) {
  Numbered modules(name + ".conv.");
  NodeId x = in;
  if (stage.expansion > 1)
    x = conv_bn_relu6(net, modules.next(), pointwise(net.channels(in) * stage.expansion), x);
  x = conv_bn_relu6(net, modules.next(), depthwise(3, stride), x);
  ConvSpec project = pointwise(width);
  project.name = modules.next();
  project.norm = modules.next();
  x = net.batch_norm(project.norm, net.conv(project, x));
  return stride == 1 && net.channels(in) == net.channels(x) ? net.add(name + ".add", {in, x}) : x;
}

}  // namespace

Builder mobilenet_v2(double width, Images images) {
  return [=](LayerSource& source, std::int64_t classes) {
    const bool cifar = images == Images::kCifar;
    NetBuilder net(source, cifar ? 32 : 224);
    Numbered modules("features.");
    ConvSpec first;
    first.out = multiple_of_8(32 * width);
    first.stride = cifar ? 1 : 2;
    NodeId x = conv_bn_relu6(net, modules.next(), first, 0);
    for (const Stage& stage : kStages) {
      for (std::int64_t block = 0; block < stage.blocks; ++block) {
        const bool keeps_size = block > 0 || (cifar && stage.width == 24);
        x = inverted_residual(net, modules.next(), stage,
                              multiple_of_8(static_cast<double>(stage.width) * width),
                              keeps_size ? 1 : stage.stride, x);
      }
    }
    x = conv_bn_relu6(net, modules.next(), pointwise(multiple_of_8(1280 * std::max(1.0, width))),
                      x);
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{}, x));
    x = net.plain("classifier.0", Dropout{0.2}, x);
    net.linear({"classifier.1", 0, classes, LinearRole::kClassifier, LinearInit::kNormal}, x);
    return net.take();
  };
}

}  // namespace sentinel
