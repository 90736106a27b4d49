#include "models/families.hpp"
#include "models/net_builder.hpp"
#include "models/numbered.hpp"

namespace sentinel {
namespace {

struct Layer {
  std::int64_t width, kernel, stride, padding;
  bool pooled;
};
constexpr Layer kLayers[] = {{64, 11, 4, 2, true},
                             {192, 5, 1, 2, true},
                             {384, 3, 1, 1, false},
                             {256, 3, 1, 1, false},
                             {256, 3, 1, 1, true}};
constexpr std::int64_t kHidden = 4096;

}  // namespace

Builder alexnet() {
  return [](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 224);
    Numbered modules("features."), last("classifier.");
    NodeId x = 0;
    for (const Layer& layer : kLayers) {
      ConvSpec spec{modules.next(), "", 0, layer.width, layer.kernel, layer.stride, true};
      spec.padding = layer.padding;
      x = net.relu(modules.next(), net.conv(spec, x));
      if (layer.pooled) x = net.plain(modules.next(), MaxPool{{3, 3}, {2, 2}}, x);
    }
    x = net.flatten("flatten", net.plain("avgpool", AdaptiveAvgPool{{6, 6}}, x), 36);
    for (int i = 0; i < 2; ++i) {
      x = net.plain(last.next(), Dropout{}, x);
      x = net.linear({last.next(), 0, kHidden, LinearRole::kHidden, LinearInit::kUniform}, x);
      x = net.relu(last.next(), x);
    }
    net.linear({last.next(), 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
