#include <algorithm>

#include "models/build.hpp"
#include "models/families.hpp"
#include "models/initial_source.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

const Family& family_of(const std::string& name) {
  if (const Family* family = find_family(name)) return *family;
  throw UserError("unknown model '" + name + "'; known are " + joined(model_names()));
}

/// What the error for a file that does not fit should advise.
std::string advice(const StateDict& tensors) {
  const std::vector<std::string> fitting = matching_models(tensors);
  if (fitting.empty()) return "none of the known models fits (" + joined(model_names()) + ")";
  return "it fits --model " + joined(fitting);
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> table{
      {"resnet20", build_resnet, {3, 3, 3}},    {"resnet32", build_resnet, {5, 5, 5}},
      {"resnet44", build_resnet, {7, 7, 7}},    {"resnet56", build_resnet, {9, 9, 9}},
      {"vgg11_bn", build_vgg, {1, 1, 2, 2, 2}}, {"vgg13_bn", build_vgg, {2, 2, 2, 2, 2}},
      {"vgg16_bn", build_vgg, {2, 2, 3, 3, 3}}, {"vgg19_bn", build_vgg, {2, 2, 4, 4, 4}},
  };
  return table;
}

const Family* find_family(const std::string& name) {
  const auto& table = families();
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Family& family) { return family.name == name; });
  return found == table.end() ? nullptr : &*found;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.name);
  std::sort(names.begin(), names.end());
  return names;
}

Graph build_protected_model(const std::string& name, std::int64_t classes, const StateDict& tensors,
                            const std::string& source, const Protection* protection) {
  const Family& family = family_of(name);
  CheckpointSource layers(tensors, protection, classes);
  Graph graph = family.build(layers, family.depth, classes);
  layers.finish();
  if (layers.only_classes_differ()) {
    throw DataError(source, layers.first_wrong() + "; give the data set it was trained on");
  }
  if (!layers.fits()) {
    throw DataError(source,
                    "this is not a checkpoint of " + name + ": " + layers.problems() + "; " +
                        (protection == nullptr ? advice(tensors)
                                               : "tensors and record sentinelnn.json do not belong "
                                                 "together; use the file sentinelnn wrote"));
  }
  graph.architecture = name;
  for (const auto& entry : tensors) {
    if (!is_additional(entry.first)) graph.state_order.push_back(entry.first);
  }
  return graph;
}

Graph build_model(const std::string& name, std::int64_t classes, const StateDict& tensors,
                  const std::string& source) {
  return build_protected_model(name, classes, tensors, source, nullptr);
}

Graph initial_model(const std::string& name, std::int64_t classes, std::uint64_t seed) {
  if (classes < 1) throw UserError("a model needs at least one class");
  const Family& family = family_of(name);
  InitialSource layers(seed);
  Graph graph = family.build(layers, family.depth, classes);
  graph.architecture = name;
  graph.state_order = layers.names();
  return graph;
}

std::vector<std::string> matching_models(const StateDict& tensors) {
  constexpr std::int64_t kAnyNumberOfClasses = -1;
  std::vector<std::string> fitting;
  for (const std::string& name : model_names()) {
    const Family& family = family_of(name);
    CheckpointSource layers(tensors, nullptr, kAnyNumberOfClasses);
    family.build(layers, family.depth, 1);
    layers.finish();
    if (layers.fits()) fitting.push_back(name);
  }
  return fitting;
}

}  // namespace sentinel
