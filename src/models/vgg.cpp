#include <array>

#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"

namespace sentinel {
namespace {

constexpr std::array<std::int64_t, 5> kWidths{64, 128, 256, 512, 512};

NodeId features(NetBuilder& net, const std::vector<std::int64_t>& depth, bool batch_norm) {
  Numbered modules("features.");
  NodeId x = 0;
  for (std::size_t stage = 0; stage < depth.size(); ++stage) {
    for (std::int64_t i = 0; i < depth[stage]; ++i) {
      const std::string name = modules.next(), norm = batch_norm ? modules.name() : "";
      x = net.conv({name, norm, 0, kWidths.at(stage), 3, 1, true}, x);
      if (batch_norm) x = net.batch_norm(modules.next(), x);
      x = net.relu(modules.next(), x);
    }
    x = net.plain(modules.next(), MaxPool{}, x);
  }
  return x;
}

void classifier(NetBuilder& net, NodeId x, std::int64_t hidden, std::int64_t classes) {
  Numbered modules("classifier.");
  for (int i = 0; i < 2; ++i) {
    x = net.linear({modules.next(), 0, hidden, LinearRole::kHidden, LinearInit::kNormal}, x);
    x = net.relu(modules.next(), x);
    x = net.plain(modules.next(), Dropout{}, x);
  }
  net.linear({modules.next(), 0, classes, LinearRole::kClassifier, LinearInit::kNormal}, x);
}

}  // namespace

Builder vgg(const std::vector<std::int64_t>& depth, Images images, bool batch_norm) {
  return [=](LayerSource& source, std::int64_t classes) {
    const bool cifar = images == Images::kCifar;
    NetBuilder net(source, cifar ? 32 : 224);
    NodeId x = features(net, depth, batch_norm);
    if (!cifar) x = net.plain("avgpool", AdaptiveAvgPool{{7, 7}}, x);
    x = net.flatten("flatten", x, cifar ? 1 : 49);
    classifier(net, x, cifar ? 512 : 4096, classes);
    return net.take();
  };
}

}  // namespace sentinel
