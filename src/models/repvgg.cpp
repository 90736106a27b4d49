#include <array>

#include "models/families.hpp"
#include "models/net_builder.hpp"

namespace sentinel {
namespace {

constexpr std::array<std::int64_t, 4> kBlocks{2, 4, 14, 1}, kWidths{64, 128, 256, 512};

NodeId branch(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t kernel,
              std::int64_t stride, NodeId x) {
  const ConvSpec spec{name + ".conv", name + ".bn", 0, width, kernel, stride, false};
  return net.batch_norm(spec.norm, net.conv(spec, x));
}

NodeId block(NetBuilder& net, const std::string& name, std::int64_t width, std::int64_t stride,
             bool identity, NodeId in) {
  const NodeId dense = branch(net, name + "rbr_dense", width, 3, stride, in);
  NodeId x = net.add(name + "add", {dense, branch(net, name + "rbr_1x1", width, 1, stride, in)});
  if (identity) x = net.add(name + "add_1", {x, net.batch_norm(name + "rbr_identity", in)});
  return net.relu(name + "nonlinearity", x);
}

std::int64_t scaled(std::size_t stage, double factor) {
  return static_cast<std::int64_t>(static_cast<double>(kWidths.at(stage)) * factor);
}

}  // namespace

Builder repvgg(double width, double last_width) {
  return [=](LayerSource& source, std::int64_t classes) {
    NetBuilder net(source, 32);
    std::int64_t before = std::min<std::int64_t>(64, scaled(0, width));
    NodeId x = block(net, "stage0.", before, 1, false, 0);
    for (std::size_t stage = 0; stage < kBlocks.size(); ++stage) {
      const std::int64_t out = scaled(stage, stage == 3 ? last_width : width);
      for (std::int64_t i = 0; i < kBlocks[stage]; ++i) {
        const std::int64_t stride = stage > 0 && i == 0 ? 2 : 1;
        const std::string name =
            "stage" + std::to_string(stage + 1) + "." + std::to_string(i) + ".";
        x = block(net, name, out, stride, stride == 1 && out == before, x);
        before = out;
      }
    }
    x = net.flatten("flatten", net.plain("gap", AdaptiveAvgPool{}, x));
    net.linear({"linear", 0, classes, LinearRole::kClassifier, LinearInit::kUniform}, x);
    return net.take();
  };
}

}  // namespace sentinel
