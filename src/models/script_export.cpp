#include <fmt/format.h>
#include <torch/script.h>

#include <memory>
#include <sstream>
#include <string_view>

#include "models/script_source.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/graph/visit.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/io/script_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"

namespace sentinel {
namespace {

using torch::jit::Module;

/// Modules nested by the dotted names of nodes, made when first asked for.
class ModuleTree {
 public:
  ModuleTree() : root_(make("Network")) {}

  Module& root() { return root_; }
  Module at(const std::string& node) {
    Module module = root_;
    std::string path;
    for (const std::string& name : path_of(node)) {
      path += (path.empty() ? "" : "_") + name;
      module = child(module, name, path);
    }
    return module;
  }

 private:
  Module child(Module& parent, const std::string& name, const std::string& path) const {
    if (parent.hasattr(name)) return parent.attr(name).toModule();
    const Module made = make(identifier(path));
    parent.register_module(name, made);
    return made;
  }
  Module make(const std::string& type) const {
    Module module(c10::QualifiedName("__torch__.sentinelnn." + type), unit_, true);
    // PyTorch expects it in every module; freeze, for one, wants it to be false.
    module.register_attribute("training", c10::BoolType::get(), false);
    return module;
  }

  std::shared_ptr<torch::jit::CompilationUnit> unit_ =
      std::make_shared<torch::jit::CompilationUnit>();
  Module root_;
};

/// As in PyTorch: what training would change by gradients.
bool is_parameter(const Op& op, std::string_view suffix) {
  return !std::holds_alternative<BoundedActivation>(op) && (suffix == "weight" || suffix == "bias");
}

/// Sharing nothing: of a view the file would hold the whole storage.
at::Tensor plain(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous);
}

void add_tensors(Module module, const Op& op) {
  for_each_tensor(op, [&](const char* suffix, const at::Tensor& tensor) {
    if (is_parameter(op, suffix)) {
      module.register_parameter(suffix, plain(tensor), false);
    } else {
      module.register_buffer(suffix, plain(tensor));
    }
  });
  if (const auto* conv = std::get_if<DuplicatedConv>(&op)) {
    module.register_buffer("duplicated", at::tensor(conv->duplicated, at::kLong));
  }
}

bool holds_tensors(const Op& op) {
  bool any = false;
  for_each_tensor(op, [&](const char*, const at::Tensor&) { any = true; });
  return any;
}

/// TorchScript keeps no docstrings: this attribute is the file's.
std::string description_of(const Graph& graph) {
  const auto& input = std::get<Input>(graph[0].op);
  const auto normalisation = normalisation_of(graph);
  std::string text = fmt::format(
      "{} exported by sentinelnn. Input: images [N, {}, {}, {}] f32, {}. Output: logits [N, {}].",
      graph.architecture, input.channels, input.size[0], input.size[1],
      normalisation ? "(pixel / 255 - mean) / std with " + in_words(*normalisation)
                    : "normalised as in training",
      class_count(graph));
  if (!graph.storage.empty())
    text += " Its values are those that are read of words stored as: " + layouts_in_words(graph) +
            ". This file holds them as fp32.";
  if (has_weight_bounds(graph))
    text +=
        " Its weight bounds are frozen: a weight outside them counts as 0. Training moves weights "
        "out of them. To train it, export it with " +
        spelled(Setting::kNoWeightBounds) + ".";
  return text;
}

c10::List<double> list_of(const std::array<double, 3>& values) {
  return c10::List<double>({values[0], values[1], values[2]});
}

/// A layer that has one of the names keeps it.
void describe(Module root, const Graph& graph) {
  const auto add = [&](const char* name, const c10::TypePtr& type, const c10::IValue& value) {
    if (!root.hasattr(name)) root.register_attribute(name, type, value);
  };
  add("description", c10::StringType::get(), description_of(graph));
  const auto normalisation = normalisation_of(graph);
  if (!normalisation) return;
  add(kScriptMean, c10::ListType::ofFloats(), list_of(normalisation->mean));
  add(kScriptStd, c10::ListType::ofFloats(), list_of(normalisation->std));
}

Module as_module(const Graph& graph) {
  ModuleTree tree;
  for (const Node& node : graph.nodes()) {
    if (holds_tensors(node.op)) add_tensors(tree.at(node.name), node.op);
  }
  describe(tree.root(), graph);
  tree.root().define(script_source(graph));
  return tree.root();
}

}  // namespace

void export_script(const Graph& graph, const std::string& path) {
  std::ostringstream file;
  as_module(graph).save(file);
  write_file_atomic(path, std::string_view(file.str()));
}

}  // namespace sentinel
