#pragma once
#include <string>
#include <vector>

#include "models/layer_source.hpp"

namespace sentinel {

/// One architecture: a family's builder and its depth. The table is in models.cpp.
struct Family {
  std::string name;
  Graph (*build)(LayerSource& source, const std::vector<std::int64_t>& depth, std::int64_t classes);
  std::vector<std::int64_t> depth;  // blocks or convolutions of each stage
};
const std::vector<Family>& families();
/// Null where there is none.
const Family* find_family(const std::string& name);

/// CIFAR ResNet (He et al., CVPR 2016, section 4.2) with projection shortcuts; depth = residual
/// blocks of the three stages.
Graph build_resnet(LayerSource& source, const std::vector<std::int64_t>& depth,
                   std::int64_t classes);

/// VGG with batch normalisation (Simonyan and Zisserman, ICLR 2015) for 32 x 32 images; depth =
/// convolutions of the five stages.
Graph build_vgg(LayerSource& source, const std::vector<std::int64_t>& depth, std::int64_t classes);

}  // namespace sentinel
