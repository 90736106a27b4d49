#pragma once
#include "models/net_builder.hpp"

namespace sentinel {

/// Squeeze and excitation (Hu et al., CVPR 2018) as torchvision names it: x times a gate per
/// channel, sigmoid(fc2(activation(fc1(mean of x)))).
inline NodeId squeeze_excitation(NetBuilder& net, const std::string& name, std::int64_t squeezed,
                                 ActivationKind kind, NodeId x) {
  const auto full = [&](const std::string& layer, std::int64_t width, NodeId in) {
    return net.conv({name + layer, "", 0, width, 1, 1, true}, in);
  };
  NodeId gate = net.plain(name + ".avgpool", AdaptiveAvgPool{}, x);
  gate = net.activation(name + ".activation", kind, full(".fc1", squeezed, gate));
  gate = full(".fc2", net.channels(x), gate);
  gate = net.activation(name + ".scale_activation", ActivationKind::kSigmoid, gate);
  return net.multiply(name + ".mul", x, gate);
}

}  // namespace sentinel
