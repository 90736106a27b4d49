#include <algorithm>

#include "models/build.hpp"
#include "models/families.hpp"
#include "models/initial_source.hpp"
#include "models/stored_weights.hpp"
#include "models/weights_choice.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// What the error for a file that does not fit should advise.
std::string advice(const StateDict& tensors) {
  if (const std::string parts = advice_on_parts(tensors); !parts.empty()) return parts;
  const std::vector<std::string> fitting = matching_models(tensors);
  if (fitting.empty()) return "none of the known models fits (" + joined(model_names()) + ")";
  return "it fits " + spelled(Setting::kModel) + " " + joined(fitting);
}

}  // namespace

const std::vector<Family>& families() {
  constexpr Images kCifar = Images::kCifar, kImageNet = Images::kImageNet;
  const std::vector<std::int64_t> vgg11{1, 1, 2, 2, 2}, vgg13{2, 2, 2, 2, 2}, vgg16{2, 2, 3, 3, 3},
      vgg19{2, 2, 4, 4, 4}, shuffle_x0_5{24, 48, 96, 192, 1024},
      shuffle_x1_0{24, 116, 232, 464, 1024};
  static const std::vector<Family> table{
      // pytorch-cifar-models
      {"resnet20", cifar_resnet(3)},
      {"resnet32", cifar_resnet(5)},
      {"resnet44", cifar_resnet(7)},
      {"resnet56", cifar_resnet(9)},
      {"vgg11_bn", vgg(vgg11, kCifar)},
      {"vgg13_bn", vgg(vgg13, kCifar)},
      {"vgg16_bn", vgg(vgg16, kCifar)},
      {"vgg19_bn", vgg(vgg19, kCifar)},
      {"mobilenetv2_x0_5", mobilenet_v2(0.5, kCifar)},
      {"mobilenetv2_x0_75", mobilenet_v2(0.75, kCifar)},
      {"mobilenetv2_x1_0", mobilenet_v2(1, kCifar)},
      {"mobilenetv2_x1_4", mobilenet_v2(1.4, kCifar)},
      {"shufflenetv2_x0_5", shufflenet_v2(shuffle_x0_5, kCifar)},
      {"shufflenetv2_x1_0", shufflenet_v2(shuffle_x1_0, kCifar)},
      {"shufflenetv2_x1_5", shufflenet_v2({24, 176, 352, 704, 1024}, kCifar)},
      {"shufflenetv2_x2_0", shufflenet_v2({24, 244, 488, 976, 2048}, kCifar)},
      {"repvgg_a0", repvgg(0.75, 2.5)},
      {"repvgg_a1", repvgg(1, 2.5)},
      {"repvgg_a2", repvgg(1.5, 2.75)},
      // torchvision
      {"alexnet", alexnet()},
      {"vgg11", vgg(vgg11, kImageNet, false)},
      {"vgg13", vgg(vgg13, kImageNet, false)},
      {"vgg16", vgg(vgg16, kImageNet, false)},
      {"vgg19", vgg(vgg19, kImageNet, false)},
      {"imagenet_vgg11_bn", vgg(vgg11, kImageNet)},
      {"imagenet_vgg13_bn", vgg(vgg13, kImageNet)},
      {"imagenet_vgg16_bn", vgg(vgg16, kImageNet)},
      {"imagenet_vgg19_bn", vgg(vgg19, kImageNet)},
      {"resnet18", imagenet_resnet({{2, 2, 2, 2}})},
      {"resnet34", imagenet_resnet({{3, 4, 6, 3}})},
      {"resnet50", imagenet_resnet({{3, 4, 6, 3}, true})},
      {"resnet101", imagenet_resnet({{3, 4, 23, 3}, true})},
      {"resnet152", imagenet_resnet({{3, 8, 36, 3}, true})},
      {"wide_resnet50_2", imagenet_resnet({{3, 4, 6, 3}, true, 1, 128})},
      {"resnext50_32x4d", imagenet_resnet({{3, 4, 6, 3}, true, 32, 4})},
      {"mobilenet_v2", mobilenet_v2(1, kImageNet)},
      {"squeezenet1_1", squeezenet1_1()},
      {"googlenet", googlenet()},
      {"densenet121", densenet121()},
      {"shufflenet_v2_x1_0", shufflenet_v2(shuffle_x1_0, kImageNet)},
      {"mnasnet1_0", mnasnet1_0()},
      {"efficientnet_b0", efficientnet_b0()},
      {"regnet_y_400mf", regnet_y_400mf()},
  };
  return table;
}

const Family* find_family(const std::string& name) {
  const auto& table = families();
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Family& family) { return family.name == name; });
  return found == table.end() ? nullptr : &*found;
}

const Family& family_of(const std::string& name) {
  if (const Family* family = find_family(name)) return *family;
  throw UserError(unknown_word(spelled(Setting::kModel), name, model_names()) +
                  "; or give a TorchScript file");
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.name);
  std::sort(names.begin(), names.end());
  return names;
}

Graph build_protected_model(const Family& family, std::int64_t classes, const StateDict& tensors,
                            const std::string& source, const Protection* protection) {
  CheckpointSource layers(tensors, protection, classes);
  Graph graph = family.build(layers, classes);
  layers.mark_unexpected();
  if (layers.only_classes_differ()) {
    throw DataError(source, layers.first_wrong() + "; give the data set it was trained on");
  }
  if (!layers.fits()) {
    throw DataError(source,
                    "this is not a checkpoint of " + family.name + ": " + layers.problems() + "; " +
                        (protection == nullptr ? advice(tensors)
                                               : "tensors and record sentinelnn.json do not belong "
                                                 "together; use the file sentinelnn wrote"));
  }
  graph.architecture = family.name;
  for (const auto& entry : tensors) {
    if (!is_additional(entry.first) && !layers.ignores(entry.first))
      graph.state_order.push_back(entry.first);
  }
  return graph;
}

Graph build_model(const std::string& name, std::int64_t classes, const StateDict& tensors,
                  const std::string& source) {
  return build_protected_model(family_of(name), classes, with_new_names(tensors), source, nullptr);
}

Graph initial_model(const std::string& name, std::int64_t classes, std::uint64_t seed) {
  if (classes < 1) throw UserError("a model needs at least one class");
  const Family& family = family_of(name);
  InitialSource layers(seed);
  Graph graph = family.build(layers, classes);
  graph.architecture = name;
  graph.state_order = layers.names();
  return graph;
}

std::map<std::string, std::int64_t> conv_channels(const Graph& graph) {
  const auto counts = channel_counts(graph);
  std::map<std::string, std::int64_t> channels;
  for (std::size_t id = 0; id < counts.size(); ++id)
    if (as_conv(graph.nodes()[id].op)) channels[graph.nodes()[id].name] = counts[id];
  return channels;
}

bool is_narrowed(const Graph& graph) {
  const Family* family = find_family(graph.architecture);
  if (!family) return false;
  InitialSource shapes({});
  const auto whole = conv_channels(family->build(shapes, class_count(graph)));
  for (const auto& [name, channels] : conv_channels(graph)) {
    const auto found = whole.find(name);
    if (found != whole.end() && channels < found->second) return true;
  }
  return false;
}

StateDict with_new_names(const StateDict& tensors) {
  StateDict renamed;
  for (auto [name, tensor] : tensors) {
    const std::size_t layer = name.find("denselayer");
    for (const char* kind : {".norm.1.", ".norm.2.", ".conv.1.", ".conv.2."}) {
      const std::size_t at = layer == std::string::npos ? layer : name.find(kind, layer);
      if (at != std::string::npos) name.erase(at + 5, 1);
    }
    renamed.set(name, tensor);
  }
  return renamed;
}

std::vector<std::string> matching_models(const StateDict& tensors) {
  constexpr std::int64_t kAnyNumberOfClasses = -1;
  const TensorDict dict{"", tensors, {}};
  std::vector<std::string> fitting;
  for (const std::string& name : model_names()) {
    const Family& family = family_of(name);
    const std::vector<std::string> wanted = wanted_names(family);
    const auto views = views_of(dict, wanted);
    if (std::any_of(views.begin(), views.end(), [&](const WeightsView& view) {
          return fits(view, family, kAnyNumberOfClasses, wanted.size());
        }))
      fitting.push_back(name);
  }
  return fitting;
}

}  // namespace sentinel
