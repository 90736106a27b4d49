#include <array>

#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

constexpr std::array<std::int64_t, 5> kWidths{64, 128, 256, 512, 512};
constexpr std::int64_t kHidden = 512;

/// Numbers the modules of a torch.nn.Sequential.
class Numbered {
 public:
  explicit Numbered(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string name() const { return prefix_ + std::to_string(number_); }
  std::string next() { return prefix_ + std::to_string(number_++); }

 private:
  std::string prefix_;
  int number_ = 0;
};

NodeId classifier(NetBuilder& net, NodeId x, std::int64_t classes) {
  Numbered modules("classifier.");
  for (int i = 0; i < 2; ++i) {
    x = net.linear({modules.next(), 0, kHidden, LinearRole::kHidden, LinearInit::kNormal}, x);
    x = net.relu(modules.next(), x);
    x = net.plain(modules.next(), Dropout{}, x);
  }
  return net.linear({modules.next(), 0, classes, LinearRole::kClassifier, LinearInit::kNormal}, x);
}

}  // namespace

Graph build_vgg(LayerSource& source, const std::vector<std::int64_t>& depth, std::int64_t classes) {
  NetBuilder net(source);
  Numbered modules("features.");
  NodeId x = 0;
  for (std::size_t stage = 0; stage < depth.size(); ++stage) {
    for (std::int64_t i = 0; i < depth[stage]; ++i) {
      const ConvSpec spec{modules.next(), modules.name(), 0, kWidths.at(stage), 3, 1, true};
      x = net.conv(spec, x);
      x = net.batch_norm(modules.next(), x);
      x = net.relu(modules.next(), x);
    }
    x = net.plain(modules.next(), MaxPool{}, x);
  }
  x = net.plain("flatten", Flatten{}, x);
  classifier(net, x, classes);
  return net.take();
}

}  // namespace sentinel
