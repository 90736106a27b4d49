#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

/// Widths of an inception module: 1x1; reduction and 3x3; reduction and "5x5" (of kernel 3, as
/// torchvision has it); projection behind the pooling.
struct Inception {
  const char* name;
  std::int64_t one, reduce3, three, reduce5, five, pooled;
};
constexpr Inception kThird[] = {{"3a", 64, 96, 128, 16, 32, 32}, {"3b", 128, 128, 192, 32, 96, 64}};
constexpr Inception kFourth[] = {{"4a", 192, 96, 208, 16, 48, 64},
                                 {"4b", 160, 112, 224, 24, 64, 64},
                                 {"4c", 128, 128, 256, 24, 64, 64},
                                 {"4d", 112, 144, 288, 32, 64, 64},
                                 {"4e", 256, 160, 320, 32, 128, 128}};
constexpr Inception kFifth[] = {{"5a", 256, 160, 320, 32, 128, 128},
                                {"5b", 384, 192, 384, 48, 128, 128}};

NodeId basic(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t kernel,
             NodeId x, std::int64_t stride = 1) {
  x = net.conv({name + ".conv", name + ".bn", 0, width, kernel, stride, false}, x);
  return net.relu(name + ".relu", net.batch_norm(name + ".bn", x, 0.001));
}

NodeId pool(NetBuilder& net, const std::string& name, std::int64_t kernel, std::int64_t stride,
            std::int64_t padding, NodeId x) {
  return net.plain(name, MaxPool{{kernel, kernel}, {stride, stride}, {padding, padding}, true}, x);
}

NodeId inception(NetBuilder& net, const Inception& widths, NodeId in) {
  const std::string name = std::string("inception") + widths.name + ".";
  const NodeId a = basic(net, name + "branch1", widths.one, 1, in);
  NodeId b = basic(net, name + "branch2.0", widths.reduce3, 1, in);
  b = basic(net, name + "branch2.1", widths.three, 3, b);
  NodeId c = basic(net, name + "branch3.0", widths.reduce5, 1, in);
  c = basic(net, name + "branch3.1", widths.five, 3, c);
  NodeId d = pool(net, name + "branch4.0", 3, 1, 1, in);
  d = basic(net, name + "branch4.1", widths.pooled, 1, d);
  return net.concat(name + "cat", {a, b, c, d});
}

/// From the normalisation of ImageNet to mean and standard deviation 0.5.
ChannelAffine transform_input() {
  return {{0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5},
          {(0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5}};
}

}  // namespace

Builder googlenet() {
  return [](LayerSource& source, std::int64_t classes) {
    source.ignore("aux1.");
    source.ignore("aux2.");
    NetBuilder net(source, 224);
    NodeId x = net.plain("transform_input", transform_input(), 0);
    x = pool(net, "maxpool1", 3, 2, 0, basic(net, "conv1", 64, 7, x, 2));
    x = basic(net, "conv3", 192, 3, basic(net, "conv2", 64, 1, x));
    x = pool(net, "maxpool2", 3, 2, 0, x);
    for (const Inception& widths : kThird) x = inception(net, widths, x);
    x = pool(net, "maxpool3", 3, 2, 0, x);
    for (const Inception& widths : kFourth) x = inception(net, widths, x);
    x = pool(net, "maxpool4", 2, 2, 0, x);
    for (const Inception& widths : kFifth) x = inception(net, widths, x);
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{}, x));
    x = net.plain("dropout", Dropout{0.2}, x);
    net.linear({"fc", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
