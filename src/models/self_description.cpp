#include "models/self_description.hpp"

#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "models/families.hpp"
#include "models/graph_json.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/rules.hpp"

namespace sentinel {
namespace {

using nlohmann::json;

constexpr int kSchemaVersion = 1;
/// For a network with a normalisation of its own: an earlier program would use another.
constexpr int kNormalisedVersion = 2;
/// For a network of which some values are stored in another way than fp32.
constexpr int kStoredVersion = 3;

// ---- names of kinds ----

template <class Kind, std::size_t N = 2>
using Names = std::array<std::pair<Kind, const char*>, N>;

constexpr Names<Correction> kCorrections{
    {{Correction::kRange, "range"}, {Correction::kMin, "min"}}};
constexpr Names<RowLayout> kLayouts{{{RowLayout::kOwn, "own"}, {RowLayout::kGroup, "group"}}};

template <class Kind, std::size_t N>
const char* to_name(const Names<Kind, N>& names, Kind kind) {
  for (const auto& entry : names) {
    if (entry.first == kind) return entry.second;
  }
  throw Bug("a kind without a name");
}

template <class Kind, std::size_t N>
Kind from_name(const Names<Kind, N>& names, const std::string& name) {
  for (const auto& entry : names) {
    if (name == entry.second) return entry.first;
  }
  throw std::invalid_argument("unknown kind '" + name + "'");
}

// ---- writing ----

json layer_record(const Op& op) {
  if (const auto* twice = std::get_if<DuplicatedConv>(&op)) {
    return {{"out_channels", twice->out_channels()},
            {"duplicated", twice->duplicated.size()},
            {"correction", to_name(kCorrections, twice->correction)},
            {"layout", to_name(kLayouts, twice->layout)}};
  }
  if (const Conv* conv = as_conv(op)) return {{"out_channels", conv->weight.size(0)}};
  return {{"out_channels", std::get<Linear>(op).weight.size(0)}};
}

json layers_record(const Graph& graph) {
  json layers = json::object();
  for (const Node& node : graph.nodes()) {
    if (as_conv(node.op) == nullptr && !std::holds_alternative<Linear>(node.op)) continue;
    layers[node.name] = layer_record(node.op);
  }
  return layers;
}

/// Null where no activation is bounded. One kind for the whole network; "per" says what the finest
/// bounds are of, "two_sided" that activations other than ReLUs have lower bounds too.
json restriction_record(const Graph& graph) {
  json restriction;
  BoundsPer finest = BoundsPer::kLayer;
  bool two_sided = false;
  for (const Node& node : graph.nodes()) {
    const auto* relu = std::get_if<BoundedActivation>(&node.op);
    if (relu == nullptr) continue;
    const json kind = to_name(rules::kClippings, relu->clipping);
    if (!restriction.is_null() && restriction.at("kind") != kind) {
      throw Bug("'" + node.name + "' is bounded in another way than the layers before it");
    }
    finest = std::max(finest, bounds_per(*relu));
    two_sided = two_sided || relu->low.defined();
    restriction = {{"kind", kind}, {"per", rules::bounds_name(finest)}};
  }
  if (two_sided) restriction["two_sided"] = true;
  return restriction;
}

/// Null where no weight is bounded.
json weight_bounds_record(const Graph& graph) {
  json record;
  bool first = true;
  for (const Node& node : graph.nodes()) {
    const WeightBounds* bounds = weight_bounds_of(node.op);
    if (bounds == nullptr) continue;
    json own;
    if (bounds->low.defined()) own = bounds->low.dim() == 0 ? "layer" : "channel";
    if (!first && record != own) {
      throw Bug("the weights of '" + node.name + "' are bounded in another way than those before");
    }
    record = own;
    first = false;
  }
  return record;
}

json normalisation_record(const Normalisation& normalisation) {
  return {{"mean", normalisation.mean}, {"std", normalisation.std}};
}

// ---- reading ----

Normalisation read_normalisation(const json& value) {
  const auto list = [&](const char* name) {
    if (value.at(name).size() != Normalisation().mean.size())
      throw std::invalid_argument(std::string("another number of ") + name + " than three");
    return value.at(name).get<std::array<double, 3>>();
  };
  const Normalisation normalisation{list("mean"), list("std")};
  const std::string fault = fault_of(normalisation);
  if (!fault.empty()) throw std::invalid_argument("a normalisation that cannot be: " + fault);
  return normalisation;
}

/// Throws invalid_argument unless it is a list of different numbers >= 0.
std::vector<std::int64_t> channel_list(const json& list) {
  const auto channels = list.get<std::vector<std::int64_t>>();
  const std::set<std::int64_t> distinct(channels.begin(), channels.end());
  if (distinct.size() != channels.size() || (!distinct.empty() && *distinct.begin() < 0)) {
    throw std::invalid_argument("a list of original channels with negative or repeated numbers");
  }
  return channels;
}

void read_layer(const std::string& name, const json& value, Record& record) {
  Record::Layer layer;
  layer.out_channels = value.at("out_channels").get<std::int64_t>();
  layer.duplicated = value.value("duplicated", std::int64_t{0});
  record.layers[name] = layer;
  if (layer.duplicated == 0) return;
  record.protection.convs[name] = {
      from_name(kCorrections, value.at("correction").get<std::string>()),
      from_name(kLayouts, value.at("layout").get<std::string>())};
}

Record interpret(const json& root) {
  if (root.contains("training") && !root.contains("architecture"))
    throw std::invalid_argument(
        "the state of a training that was stopped, and no network; train on "
        "with the same command, or give the checkpoint of an epoch");
  for (const char* name : {"schema_version", "classes", "layers", "origin"})
    require_whole(root.at(name));
  const int version = root.at("schema_version").get<int>();
  if (version < kSchemaVersion || version > kStoredVersion) {
    throw std::invalid_argument("schema version " + std::to_string(version) +
                                ", this program reads " + std::to_string(kSchemaVersion) + " to " +
                                std::to_string(kStoredVersion) + "; use the program that wrote it");
  }
  Record record;
  record.architecture = root.at("architecture").get<std::string>();
  record.dataset = root.at("dataset").get<std::string>();
  record.classes = root.at("classes").get<std::int64_t>();
  if (root.contains("normalisation"))
    record.normalisation = read_normalisation(root.at("normalisation"));
  for (const auto& [name, value] : root.at("layers").items()) read_layer(name, value, record);
  const json& restriction = root.at("restriction");
  if (!restriction.is_null()) {
    record.protection.restricted = true;
    record.protection.clipping =
        from_name(rules::kClippings, restriction.at("kind").get<std::string>());
    record.protection.two_sided = restriction.value("two_sided", false);
  }
  record.protection.weights_bounded = !root.value("weight_bounds", json()).is_null();
  record.structure = root.value("structure", json());
  record.storage = root.value("storage", LayoutNames());
  for (const auto& [name, value] : root.at("origin").items()) {
    record.origin[name] = {channel_list(value.at("out")), channel_list(value.at("in"))};
  }
  return record;
}

}  // namespace

std::string write_record(const Graph& graph, const Provenance& provenance) {
  json origin = json::object();
  for (const auto& [name, channels] : graph.origin) {
    origin[name] = {{"out", channels.out}, {"in", channels.in}};
  }
  const int version_of_all = graph.normalisation ? kNormalisedVersion : kSchemaVersion;
  json root{{"schema_version", graph.storage.empty() ? version_of_all : kStoredVersion},
            {"architecture", graph.architecture},
            {"dataset", graph.dataset},
            {"classes", class_count(graph)},
            {"layers", layers_record(graph)},
            {"restriction", restriction_record(graph)},
            {"weight_bounds", weight_bounds_record(graph)},
            {"origin", origin},
            {"provenance",
             {{"parents", provenance.parents},
              {"command", provenance.command},
              {"seed", provenance.seed},
              {"version", version()}}}};
  if (graph.folded || find_family(graph.architecture) == nullptr)
    root["structure"] = write_structure(graph);
  if (!graph.storage.empty()) root["storage"] = layout_names(graph);
  if (graph.normalisation) root["normalisation"] = normalisation_record(*graph.normalisation);
  if (!provenance.recipe.empty()) root["provenance"]["recipe"] = provenance.recipe;
  if (!provenance.network_sha256.empty())
    root["provenance"]["network_sha256"] = provenance.network_sha256;
  // A command line need not be valid UTF-8.
  return root.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Record read_record(const std::string& text, const std::string& source) {
  check_json(source, text);
  try {
    return interpret(json::parse(text));
  } catch (const json::exception& e) {
    throw DataError(source, std::string("the record sentinelnn.json is damaged: ") + e.what());
  } catch (const std::invalid_argument& e) {
    throw DataError(source, std::string("the record sentinelnn.json has ") + e.what());
  }
}

Provenance read_provenance(const Bytes& file, const std::string& source) {
  const auto metadata = parse_pth(file, source).metadata;
  if (!metadata) return {};
  check_json(source, *metadata);
  try {
    const json record = json::parse(*metadata).at("provenance");
    return {record.at("parents").get<std::vector<std::string>>(),
            record.at("command").get<std::string>(), record.at("seed").get<std::uint64_t>(),
            record.value("recipe", std::string()), record.value("network_sha256", std::string())};
  } catch (const json::exception& e) {
    throw DataError(source, std::string("the record sentinelnn.json is damaged: ") + e.what());
  }
}

}  // namespace sentinel
