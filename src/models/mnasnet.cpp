#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"

namespace sentinel {
namespace {

/// A stack of inverted residuals.
struct Stack {
  std::int64_t width, kernel, stride, expansion, blocks;
};
constexpr Stack kStacks[] = {{24, 3, 2, 3, 3}, {40, 5, 2, 3, 3},  {80, 5, 2, 6, 3},
                             {96, 3, 1, 6, 2}, {192, 5, 2, 6, 4}, {320, 3, 1, 6, 1}};

/// The next two modules: convolution and normalisation.
NodeId conv_bn(NetBuilder& net, Numbered& modules, ConvSpec spec, NodeId x) {
  spec.name = modules.next();
  spec.norm = modules.next();
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId conv_bn_relu(NetBuilder& net, Numbered& modules, const ConvSpec& spec, NodeId x) {
  x = conv_bn(net, modules, spec, x);
  return net.relu(modules.next(), x);
}

NodeId inverted_residual(NetBuilder& net, const std::string& name, const Stack& stack,
                         std::int64_t stride, NodeId in) {
  Numbered modules(name + ".layers.");
  NodeId x = conv_bn_relu(net, modules, pointwise(net.channels(in) * stack.expansion), in);
  x = conv_bn_relu(net, modules, depthwise(stack.kernel, stride), x);
  x = conv_bn(net, modules, pointwise(stack.width), x);
  return stride == 1 && net.channels(in) == net.channels(x) ? net.add(name + ".add", {x, in}) : x;
}

}  // namespace

Builder mnasnet1_0() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    Numbered modules("layers.");
    ConvSpec first;
    first.out = 32;
    first.stride = 2;
    NodeId x = conv_bn_relu(net, modules, first, 0);
    x = conv_bn_relu(net, modules, depthwise(3, 1), x);
    x = conv_bn(net, modules, pointwise(16), x);
    for (const Stack& stack : kStacks) {
      const std::string name = modules.next();
      for (std::int64_t block = 0; block < stack.blocks; ++block)
        x = inverted_residual(net, name + "." + std::to_string(block), stack,
                              block == 0 ? stack.stride : 1, x);
    }
    x = conv_bn_relu(net, modules, pointwise(1280), x);
    x = net.flatten("flatten", net.plain("mean", AdaptiveAvgPool{}, x));
    x = net.plain("classifier.0", Dropout{0.2}, x);
    net.linear({"classifier.1", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
