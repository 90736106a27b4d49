#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"

namespace sentinel {
namespace {

/// A fire module; 0: a pooling instead.
struct Fire {
  std::int64_t squeeze, expand;
};
constexpr Fire kModules[] = {{0, 0}, {16, 64},  {16, 64},  {0, 0},    {32, 128}, {32, 128},
                             {0, 0}, {48, 192}, {48, 192}, {64, 256}, {64, 256}};

NodeId conv_relu(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t kernel,
                 NodeId x) {
  x = net.conv({name, "", 0, width, kernel, 1, true}, x);
  return net.relu(name + "_activation", x);
}

NodeId fire(NetBuilder& net, const std::string& name, const Fire& fire, NodeId x) {
  x = conv_relu(net, name + ".squeeze", fire.squeeze, 1, x);
  const NodeId small = conv_relu(net, name + ".expand1x1", fire.expand, 1, x);
  return net.concat(name + ".cat", {small, conv_relu(net, name + ".expand3x3", fire.expand, 3, x)});
}

}  // namespace

Builder squeezenet1_1() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    Numbered modules("features.");
    ConvSpec first{modules.next(), "", 0, 64, 3, 2, true};
    first.padding = 0;
    NodeId x = net.relu(modules.next(), net.conv(first, 0));
    for (const Fire& module : kModules) {
      const std::string name = modules.next();
      x = module.squeeze > 0 ? fire(net, name, module, x)
                             : net.plain(name, MaxPool{{3, 3}, {2, 2}, {0, 0}, true}, x);
    }
    x = net.plain("classifier.0", Dropout{}, x);
    ConvSpec last{"classifier.1", "", 0, classes, 1, 1, true};
    last.classifier = true;
    x = net.relu("classifier.2", net.conv(last, x));
    net.flatten("flatten", net.plain("classifier.3", AdaptiveAvgPool{}, x));
    return net.take();
  };
}

}  // namespace sentinel
