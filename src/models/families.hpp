#pragma once
#include <functional>
#include <string>
#include <vector>

#include "models/layer_source.hpp"

namespace sentinel {

/// One architecture; the table is in models.cpp.
struct Family {
  std::string name;
  std::function<Graph(LayerSource& source, std::int64_t classes)> build;
};
const std::vector<Family>& families();
/// Null where there is none.
const Family* find_family(const std::string& name);
/// UserError where there is none.
const Family& family_of(const std::string& name);

using Builder = decltype(Family::build);

/// Names and shapes as in pytorch-cifar-models (32 x 32 images) or torchvision (224 x 224).
enum class Images { kCifar, kImageNet };

/// CIFAR ResNet (He et al., CVPR 2016, section 4.2) with projection shortcuts; `blocks` in each of
/// three stages.
Builder cifar_resnet(std::int64_t blocks);

/// ResNet (He et al., CVPR 2016; the stride of a bottleneck in its 3x3 convolution), Wide ResNet
/// (Zagoruyko and Komodakis, BMVC 2016) and ResNeXt (Xie et al., CVPR 2017).
struct ResnetShape {
  std::vector<std::int64_t> blocks;  // of the four stages
  bool bottleneck = false;
  std::int64_t groups = 1, width_per_group = 64;
};
Builder imagenet_resnet(const ResnetShape& shape);

/// VGG (Simonyan and Zisserman, ICLR 2015): `depth` convolutions of each of five stages; for CIFAR
/// always with batch normalisation.
Builder vgg(const std::vector<std::int64_t>& depth, Images images, bool batch_norm = true);

/// MobileNetV2 (Sandler et al., CVPR 2018), width multiplier `width`.
Builder mobilenet_v2(double width, Images images);

/// ShuffleNetV2 (Ma et al., ECCV 2018): channels of conv1, the three stages, conv5.
Builder shufflenet_v2(const std::vector<std::int64_t>& widths, Images images);

/// RepVGG as trained, of three branches (Ding et al., CVPR 2021), A series: width multipliers of
/// the first three stages and of the last.
Builder repvgg(double width, double last_width);

/// AlexNet (Krizhevsky, arXiv 1404.5997).
Builder alexnet();

/// SqueezeNet 1.1 (Iandola et al., arXiv 1602.07360).
Builder squeezenet1_1();

/// GoogLeNet with batch normalisation (Szegedy et al., CVPR 2015) for evaluation: without auxiliary
/// classifiers, the input transformed as torchvision's published weights expect it.
Builder googlenet();

/// DenseNet-121 (Huang et al., CVPR 2017).
Builder densenet121();

/// MNASNet 1.0 (Tan et al., CVPR 2019).
Builder mnasnet1_0();

/// EfficientNet-B0 (Tan and Le, ICML 2019).
Builder efficientnet_b0();

/// RegNetY-400MF (Radosavovic et al., CVPR 2020).
Builder regnet_y_400mf();

}  // namespace sentinel
