#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "models/build.hpp"
#include "models/families.hpp"
#include "models/graph_json.hpp"
#include "models/self_description.hpp"
#include "models/stored_weights.hpp"
#include "models/weights_choice.hpp"
#include "sentinel/core/failure.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"

namespace sentinel {
namespace {

std::int64_t in_channels(const Op& op) {
  if (const Conv* conv = as_conv(op)) return conv->weight.size(1) * conv->groups;
  return std::get<Linear>(op).weight.size(1);
}

bool has_length(const std::vector<std::int64_t>& list, std::int64_t length) {
  return list.empty() || static_cast<std::int64_t>(list.size()) == length;
}

/// The record against the network that its tensors gave.
void check_record(const Graph& graph, const Record& record, const std::string& source) {
  std::size_t layers = 0, origins = 0;
  for (const Node& node : graph.nodes()) {
    if (as_conv(node.op) == nullptr && !std::holds_alternative<Linear>(node.op)) continue;
    const auto layer = record.layers.find(node.name);
    const auto* twice = std::get_if<DuplicatedConv>(&node.op);
    const std::size_t copies = twice == nullptr ? 0 : twice->duplicated.size();
    if (layer == record.layers.end() || layer->second.out_channels != out_channels_of(node.op) ||
        layer->second.duplicated != static_cast<std::int64_t>(copies)) {
      throw DataError(source, "the tensors of '" + node.name +
                                  "' and the record sentinelnn.json have different widths");
    }
    ++layers;
    const auto origin = record.origin.find(node.name);
    if (origin == record.origin.end()) continue;
    if (!has_length(origin->second.out, out_channels_of(node.op)) ||
        !has_length(origin->second.in, in_channels(node.op))) {
      throw DataError(source, "the record sentinelnn.json names another number of channels for '" +
                                  node.name + "' than it has");
    }
    ++origins;
  }
  if (layers != record.layers.size() || origins != record.origin.size()) {
    throw DataError(source, "the record sentinelnn.json names layers that " + record.architecture +
                                " does not have");
  }
}

void require_same(Setting setting, const std::string& given, const std::string& recorded,
                  const std::string& source) {
  if (given.empty() || given == recorded) return;
  throw UserError(source + " was written for " + spelled(setting) + " " + recorded + ", not " +
                  given + "; leave the option out");
}

/// Shapes that fit, of a size that a network has, with operators that accept them.
void check_runs(const Graph& graph, const Record& record) {
  constexpr std::int64_t kLargest = 1 << 28;  // numbers of one image's activation
  const auto shapes = output_shapes(graph);
  for (const auto& shape : shapes) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape)
      count = size > kLargest / count ? kLargest + 1 : count * size;
    if (count > kLargest) throw std::invalid_argument("an activation of impossible size");
  }
  const auto& expected = dataset_info(record.dataset).shape;
  if (shapes.front().front() != expected[0] || shapes.back() != std::vector{record.classes})
    throw std::invalid_argument("a network for other images or classes than its data set has");
  const auto& size = shapes.front();
  const at::NoGradGuard no_grad;
  try {
    logits(graph, at::zeros({1, size[0], size[1], size[2]}));
  } catch (const c10::Error& error) {
    if (failure_of(error).code == ExitCode::kEnvironment) throw;
    throw std::invalid_argument(std::string("a network that cannot be run: ") +
                                error.what_without_backtrace());
  }
}

/// An imported or folded network, of which the record is the only description.
Graph from_structure(const CheckpointFile& file, const Record& record, const std::string& source) {
  const Builder build = [&](LayerSource& layers, std::int64_t) {
    return read_structure(record.structure, layers);
  };
  try {
    Graph graph = build_protected_model({record.architecture, build}, record.classes, file.tensors,
                                        source, &record.protection);
    check_runs(graph, record);
    return graph;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(source, std::string("the record sentinelnn.json is damaged: ") + e.what());
  } catch (const std::invalid_argument& e) {
    throw DataError(source, std::string("the record sentinelnn.json has ") + e.what());
  } catch (const Bug& e) {  // shapes that do not fit
    throw DataError(source,
                    std::string("the record sentinelnn.json describes no network: ") + e.what());
  }
}

/// Of what its tensors fit, bounds of neurons alone can be for maps of another size.
Graph from_family(const Family& family, const CheckpointFile& file, const Record& record,
                  const std::string& source) {
  Graph graph =
      build_protected_model(family, record.classes, file.tensors, source, &record.protection);
  try {
    output_shapes(graph);
  } catch (const Bug& e) {
    throw DataError(source, e.what());
  }
  return graph;
}

void require_known_dataset(const Record& record, const std::string& source) {
  try {
    dataset_info(record.dataset);
  } catch (const UserError& e) {
    throw DataError(source, std::string("by the record sentinelnn.json ") + e.what());
  }
}

Graph from_record(CheckpointFile file, const std::string& source, const std::string& name,
                  const std::string& dataset) {
  const Record record = read_record(*file.metadata, source);
  const Family* family = find_family(record.architecture);
  const bool described = !record.structure.is_null();
  if (family == nullptr && !described) {
    throw DataError(
        source, "the record sentinelnn.json names the unknown model '" + record.architecture + "'");
  }
  if (described || !record.dataset.empty()) require_known_dataset(record, source);
  if (record.classes < 1) throw DataError(source, "the record sentinelnn.json has no classes");
  require_same(Setting::kModel, name, record.architecture, source);
  require_same(Setting::kDataset, dataset, record.dataset, source);
  const auto scales = take_scales(file.tensors, record.storage);
  Graph graph =
      described ? from_structure(file, record, source) : from_family(*family, file, record, source);
  graph.folded = described && family != nullptr;
  check_record(graph, record, source);
  set_storage(graph, record.storage, scales, source);
  graph.dataset = record.dataset;
  if (record.normalisation) set_normalisation(graph, *record.normalisation);
  graph.origin = record.origin;
  return graph;
}

/// Without the record nobody knows the order of the rows or what the protection does.
void refuse_protected(const StateDict& tensors, const std::string& source,
                      std::vector<std::string> names = {}) {
  for (const auto& entry : tensors) names.push_back(entry.first);
  for (const std::string& name : names) {
    if (!is_additional(name)) continue;
    throw DataError(source,
                    "has " + name +
                        " but no record sentinelnn.json (saved again by PyTorch?), so its row "
                        "layout and kinds of protection are unknown; use the file sentinelnn "
                        "wrote");
  }
}

/// Every float of the weights; other types stay for the error that they cause.
Conversion use_floats(StateDict& tensors, const std::string& source) {
  Conversion conversion;
  const StateDict stored = tensors;
  for (const auto& [name, tensor] : stored)
    if (at::isFloatingType(tensor.scalar_type()) || tensor.is_quantized())
      tensors.set(name, conversion.to_float(name, tensor, source));
  return conversion;
}

/// A plain state_dict, wherever it is in the file.
Graph from_weights(const WeightsFile& file, const std::string& source, const ModelChoice& wanted,
                   FileNotes& notes) {
  const Family& family = family_of(wanted.name);
  const std::int64_t classes = dataset_info(wanted.dataset).classes;
  WeightsChoice choice = choose_weights(file, source, family, classes, wanted.weights_key);
  WeightsView& view = choice.view;
  const std::size_t count = file.dicts.size();
  std::string place = source;
  if (!view.name.empty()) place += " (" + view.name + ")";
  if (count > 1) place += " (one of " + std::to_string(count) + " dictionaries of tensors in it)";
  refuse_protected(view.tensors, place, view.left_out);
  const Conversion conversion = use_floats(view.tensors, place);
  Graph graph = build_protected_model(family, classes, view.tensors, place, nullptr);
  for (const auto& entry : view.tensors)
    if (std::find(graph.state_order.begin(), graph.state_order.end(), entry.first) ==
        graph.state_order.end())
      view.left_out.push_back(entry.first);
  log_choice(choice, source, family.name);
  notes = {view.name, conversion.types()};
  conversion.log(source);
  keep_storage(graph, conversion.kept(), source);
  graph.dataset = wanted.dataset;
  return graph;
}

}  // namespace

Bytes serialize_model(const Graph& graph, const Provenance& provenance) {
  return serialize_pth(state_dict(graph), write_record(graph, provenance));
}

std::string network_record(const Graph& graph) {
  return write_record(graph, {});
}

std::string network_sha256(const Graph& graph) {
  auto record = nlohmann::json::parse(network_record(graph));
  record.erase("provenance");
  Sha256 hash;
  hash.update(record.dump());
  for (const auto& [name, tensor] : state_dict(graph)) {
    const at::Tensor values = tensor.contiguous();
    hash.update(fmt::format("{} {} {}\n", name, at::toString(values.scalar_type()),
                            fmt::join(values.sizes(), "x")));
    hash.update(values.data_ptr(), values.nbytes());
  }
  return hash.hex();
}

std::optional<Normalisation> normalisation_of(const Graph& graph) {
  if (graph.normalisation || graph.dataset.empty()) return graph.normalisation;
  return dataset_info(graph.dataset).normalisation();
}

void set_normalisation(Graph& graph, const Normalisation& normalisation) {
  graph.normalisation.reset();
  if (normalisation_of(graph) != normalisation) graph.normalisation = normalisation;
}

std::optional<Normalisation> recorded_normalisation(const Bytes& file, const std::string& source) {
  if (is_script_archive(file)) return script_normalisation(file, source);
  const std::optional<std::string> metadata = parse_weights(file, source).metadata;
  if (!metadata) return std::nullopt;
  const Record record = read_record(*metadata, source);
  if (record.normalisation || record.dataset.empty()) return record.normalisation;
  require_known_dataset(record, source);
  return dataset_info(record.dataset).normalisation();
}

Graph parse_model(const Bytes& file, const std::string& source, const ModelChoice& wanted,
                  FileNotes* notes) {
  FileNotes unused;
  FileNotes& kept = notes != nullptr ? *notes : unused;
  const auto refuse_key = [&](const char* why) {
    if (!wanted.weights_key.empty())
      throw UserError(spelled(Setting::kWeightsKey) + " " + wanted.weights_key + ": " + source +
                      " " + why + "; leave the option out");
  };
  if (is_script_archive(file)) {
    if (!wanted.name.empty())
      throw UserError(source + " is a TorchScript network of its own, not a " + wanted.name +
                      "; leave " + spelled(Setting::kModel) + " out");
    refuse_key("is a TorchScript file, which has one set of weights");
    if (wanted.dataset.empty())
      throw UserError(source + " does not say what it is for; give " + spelled(Setting::kDataset));
    return import_script(file, source, dataset_info(wanted.dataset), &kept.stored_types);
  }
  WeightsFile content = parse_weights(file, source);
  if (content.metadata) {
    refuse_key("was written by sentinelnn and has one set of weights");
    return from_record({std::move(content.dicts.front().tensors), std::move(content.metadata)},
                       source, wanted.name, wanted.dataset);
  }
  if (wanted.name.empty() || wanted.dataset.empty()) {
    for (const TensorDict& dict : content.dicts) refuse_protected(dict.tensors, source);
    throw UserError(source + " does not say what it is; give " +
                    spelled(wanted.name.empty() ? Setting::kModel : Setting::kDataset));
  }
  return from_weights(content, source, wanted, kept);
}

Graph parse_model(const Bytes& file, const std::string& source, const std::string& name,
                  const std::string& dataset) {
  return parse_model(file, source, {name, dataset, ""});
}

}  // namespace sentinel
