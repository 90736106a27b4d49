#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel::test {

/// A network and the one made from it, with so many images that are correct without faults.
inline std::vector<ModelInfo> two_networks(std::int64_t images, std::int64_t first,
                                           std::int64_t second) {
  std::vector<ModelInfo> models(2);
  models[0].name = "unprotected";
  models[1].name = "hardened";
  models[0].correct = first;
  models[1].correct = second;
  for (ModelInfo& model : models) model.images = images;
  return models;
}

}  // namespace sentinel::test
