#include "campaign/result_info.hpp"

#include <fmt/format.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "campaign/sampling.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/network.hpp"

extern char** environ;

namespace sentinel {
namespace {

/// Null for faults that are drawn.
const FaultList* list_of(const Sampler& sampler) {
  const auto* listed = std::get_if<ListedFaults>(&sampler);
  return listed ? listed->list.get() : nullptr;
}

void describe_golden(ModelInfo& info, const Golden& golden, const ImageBlocks& blocks) {
  info.images = golden.logits.size(0);
  info.classes = golden.logits.size(1);
  info.correct = golden.correct;
  info.top5 = golden.top5;
  const at::Tensor logits = blocks.in_order(golden.logits).contiguous();
  info.golden_logits.assign(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  const at::Tensor predictions = blocks.in_order(golden.predictions).to(at::kInt).contiguous();
  info.golden_predictions.assign(predictions.data_ptr<int>(),
                                 predictions.data_ptr<int>() + predictions.numel());
}

ModelInfo describe_model(const NamedModel& model, const TrialEngine& engine,
                         const ImageBlocks& blocks) {
  ModelInfo info;
  info.name = model.name;
  info.checkpoint_sha256 = model.file_sha256;
  if (const auto& own = model.graph.normalisation) {
    info.mean.assign(own->mean.begin(), own->mean.end());
    info.std.assign(own->std.begin(), own->std.end());
  }
  info.structure = network_record(model.graph);
  const ModelCost cost = model_cost(model.graph);
  info.parameters = cost.parameters;
  info.macs = cost.macs;
  info.memory_bytes = cost.memory_bytes;
  info.stored_bits = cost.stored_bits;
  info.bits_per_weight = cost.bits_per_weight;
  for (const FaultTensor& t : engine.space().tensors())
    info.tensors.push_back({t.name, static_cast<std::uint8_t>(t.kind), t.elements, t.originals,
                            static_cast<std::uint8_t>(t.word_bits), layout_name(t.layout)});
  for (std::size_t i = 0; i < cost.layers.size(); ++i)
    info.nodes.push_back({cost.layers[i].name, op_name(model.graph[static_cast<NodeId>(i)].op),
                          cost.layers[i].macs, cost.layers[i].parameters});
  describe_golden(info, engine.golden(), blocks);
  return info;
}

/// What the faults of a point's trials depend on beside their fault model.
std::string drawn_how(const CampaignPoint& point, bool blocks) {
  switch (point.sampling) {
    case Sampling::kSimple:
      return "";
    case Sampling::kEqual:
      return sampling_word(point.sampling, point.division);
    case Sampling::kStratified:
      // The allocation is of so many trials: more of them are another sample.
      return fmt::format(
          "{}a stratified plan of {} trials{}",
          point.division ? sampling_word(point.sampling, point.division) + ", " : "", point.trials,
          blocks && estimand_of(point.sampler) == "T2" ? ", version 2 (blocks)" : "");
    case Sampling::kSequential:
      return "strata drawn trial by trial, version 2 (joint shares)";
    case Sampling::kAllocated:
      // The strata of its rounds are allocated for this.
      return fmt::format("strata for half-width {:g} at confidence {:g}",
                         point.precision.half_width, point.precision.confidence);
  }
  throw Bug("unknown sampling");
}

std::string stop_rule(const CampaignPoint& point) {
  if (const auto bound = bound_of_all(point); bound && point.trials == 0)
    return fmt::format("no trial: in all but {:.3g} of them every word is read right", *bound);
  if (point.sampling == Sampling::kAllocated)
    return fmt::format(
        "half-width {:g}, looked at after each round of trials allocated to strata for it, at most "
        "{} trials",
        point.precision.half_width, point.trials);
  if (point.sampling != Sampling::kSequential) return "fixed number of trials";
  return fmt::format(
      "half-width {:g}, looked at after each round of at most {} trials from 200 trials on (T1: "
      "and "
      "20 with failing images), at most {} trials",
      point.precision.half_width, Design::kRoundTrials, point.trials);
}

/// How each point's trials are chosen.
void describe_design(ResultInfo& info, const TrialPlan& plan, const TrialRunner& runner) {
  if (runner.blocks().divides()) info.images_per_trial = runner.blocks().size();
  info.image_blocks = runner.blocks().block_of_image();
  for (std::uint32_t p = 0; p < plan.points.size(); ++p) {
    const bool simple = plan.points[p].sampling == Sampling::kSimple;
    describe_point(info, plan.points[p], simple ? nullptr : &runner.strata(p));
    for (std::uint32_t m = 1; plan.points[p].division && m < plan.models.size(); ++m) {
      const std::vector<double> weights = runner.weights(p, m);
      for (std::size_t h = 0; h < weights.size(); ++h)
        info.shares.push_back({p, m, static_cast<std::int32_t>(h), weights[h]});
    }
  }
  for (std::uint32_t p = 0; p < plan.points.size(); ++p)
    for (std::uint32_t m = 0; m < plan.points[p].bounds.size(); ++m)
      if (const auto bound = plan.points[p].bounds[m]) info.bounds.push_back({p, m, *bound});
  for (std::uint32_t p = 0; p < plan.points.size(); ++p)
    for (std::size_t m = 1; m < runner.models(); ++m)
      if (const auto shared = runner.shared(p, m))
        info.pairing.push_back({p, static_cast<std::uint32_t>(m), *shared});
  if (!info.plans.empty()) info.stop_rule = info.plans.front().stop_rule;
  info.audit_rates = runner.audit_rates();
}

/// What tells a campaign's faults from another's. Channels need two entries together: they are all
/// the model has, in order, and planned alike.
void add_points(std::map<std::string, std::string>& parts, const std::vector<CampaignPoint>& points,
                const TrialRunner& runner) {
  for (std::uint32_t p = 0; p < points.size(); ++p) {
    const Sampler& sampler = points[p].sampler;
    std::string plan = drawn_how(points[p], runner.blocks().divides());
    if (!plan.empty() && runner.strata(p).version > 1) plan += ", version 3 (strata of codes)";
    if (std::holds_alternative<ChannelFaults>(sampler)) {
      parts["points"] = "single flips in each channel of each convolution";
      if (!plan.empty()) parts["plan"] = plan;
    } else {
      parts[fmt::format("point {}", p)] =
          fmt::format("{} at BER {}{}{}", sampler_name(sampler), sampler_ber(sampler),
                      plan.empty() ? "" : ", ", plan);
    }
  }
}

/// "fp32", or the layouts of all tensors that are stored otherwise.
std::string layouts_of(const Graph& graph) {
  std::string text = "fp32";
  for (const auto& [name, storage] : graph.storage)
    text += "; " + name + " " + layout_name(storage.layout);
  return text;
}

/// What a row depends on: another value of any of these makes another campaign.
std::map<std::string, std::string> fingerprint_parts(const Job& job, const TrialPlan& plan,
                                                     const TrialRunner& runner) {
  const std::vector<NamedModel>& models = plan.models;
  std::map<std::string, std::string> parts;
  // With their numbers: rows name models by them.
  for (std::size_t m = 0; m < models.size(); ++m)
    parts[fmt::format("model {} {}", m, models[m].name)] = models[m].sha256;
  for (const NamedModel& model : models)
    if (!model.recipe.empty()) parts["recipe of " + model.name] = model.recipe;
  for (std::size_t m = 0; m < models.size(); ++m)
    parts[fmt::format("normalisation of model {}", m)] =
        models[m].graph.normalisation ? numbers_of(*models[m].graph.normalisation)
                                      : "the data set's";
  parts["images"] = plan.images.hash();
  parts["seed"] = std::to_string(job.seed);
  const bool blocks = runner.blocks().divides();
  add_points(parts, plan.points, runner);
  if (blocks) parts["images per trial"] = std::to_string(runner.blocks().size());
  parts["arithmetic"] =
      fmt::format("float32, engine {}, {} images per batch", engine_name(job.engine), job.block);
  const std::int64_t at_once = runner.engine(0).trials_at_once();
  if (at_once > 0) parts[kTrialsAtOncePart] = std::to_string(at_once);
  const Selection selection = selection_of(job.faults);
  const FaultModel faults = fault_model_of(job.faults);
  parts["target"] = target_name(selection);
  const std::string part = selection_name(selection);
  parts["selection"] = part.empty() ? "all" : part;
  const FaultList* list = plan.points.empty() ? nullptr : list_of(plan.points.front().sampler);
  parts["lifetime"] = !selects_outputs(selection) ? "-"
                      : list                      ? kListed
                                                  : lifetime_name(faults.lifetime);
  parts["list"] = list ? list->sha256() : "none";
  parts["effect"] = list ? kListed : effect_name(faults);
  parts["shape"] = list ? kListed : shape_name(faults);
  for (std::size_t m = 0; m < models.size(); ++m)
    parts[fmt::format("layouts of model {}", m)] = layouts_of(models[m].graph);
  parts["schema"] = std::to_string(kSchemaVersion);
  return parts;
}

std::string hash_of(const std::map<std::string, std::string>& parts) {
  Sha256 hash;
  for (const auto& [name, value] : parts) hash.update(name + "=" + value + "\n");
  return hash.hex();
}

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// "AVX2", from LibTorch's own description of itself.
std::string cpu_capability() {
  const std::string config = at::show_config();
  const std::string key = "CPU capability usage: ";
  const std::size_t begin = config.find(key);
  if (begin == std::string::npos) return "unknown";
  return config.substr(begin + key.size(), config.find('\n', begin) - begin - key.size());
}

nlohmann::json slurm_variables() {
  nlohmann::json variables = nlohmann::json::object();
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (text.rfind("SLURM_", 0) == 0 && equals != std::string::npos)
      variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

}  // namespace

std::string estimand_of(const Sampler& sampler) {
  if (std::holds_alternative<ChannelFaults>(sampler)) return "T1 of a channel";
  if (list_of(sampler)) return kListed;
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  if (exact && exact->count == 1) return "T1";
  return std::holds_alternative<BinomialFaults>(sampler) ? "T2" : "mean accuracy";
}

void describe_point(ResultInfo& info, const CampaignPoint& point, const Strata* strata) {
  const auto number = static_cast<std::uint32_t>(info.points.size());
  info.points.push_back({number, estimand_of(point.sampler), sampler_name(point.sampler),
                         sampler_ber(point.sampler), point.trials, ""});
  PlanInfo plan{number, sampling_word(point.sampling, point.division), stop_rule(point),
                point.precision.half_width};
  plan.guaranteed = point.precision.guaranteed ? 1 : 0;
  plan.first = point.first;
  info.plans.push_back(plan);
  if (point.faults.lifetime == Lifetime::kImage)
    info.points.back().lifetime = lifetime_name(Lifetime::kImage);
  if (point.sampling == Sampling::kSimple) return;
  // Words of the first network that are read right say nothing of the others.
  const bool others =
      info.models.size() > 1 && std::holds_alternative<BinomialFaults>(point.sampler);
  for (std::size_t h = 0; h < strata->names.size(); ++h)
    info.strata.push_back({number, static_cast<std::int32_t>(h), strata->names[h],
                           strata->weights[h],
                           others ? std::max(kCostOfARow, strata->costs[h]) : strata->costs[h],
                           strata->of_words ? strata->counts[h] : StratumInfo().misread});
}

ResultInfo describe(const Job& job, const TrialPlan& plan, const TrialRunner& runner) {
  const Dataset& images = plan.images;
  ResultInfo info;
  info.command = job.command;
  info.job = job.resolved;
  info.seed = job.seed;
  info.confidence = job.precision.confidence;
  for (std::size_t m = 0; m < plan.models.size(); ++m)
    info.models.push_back(describe_model(plan.models[m], runner.engine(m), runner.blocks()));
  for (std::int64_t label : images.labels())
    info.labels.push_back(static_cast<std::int32_t>(label));
  describe_design(info, plan, runner);
  const Selection selection = selection_of(job.faults);
  for (std::size_t p = 0; p < info.points.size(); ++p) {
    const bool listed = list_of(plan.points[p].sampler) != nullptr;
    info.points[p].effect = listed ? kListed : effect_name(plan.points[p].faults);
    info.points[p].shape = listed ? kListed : shape_name(plan.points[p].faults);
    info.points[p].target = target_name(selection);
    info.points[p].selection = selection_name(selection);
    if (selects_outputs(selection))
      info.points[p].lifetime = listed ? kListed : lifetime_name(plan.points[p].faults.lifetime);
  }
  info.importance =
      to_ranking(plan.models.front().graph, job.protection.ranking.importance, plan.scores).layers;
  info.fingerprint_parts = fingerprint_parts(job, plan, runner);
  info.fingerprint = hash_of(info.fingerprint_parts);
  info.provenance = {{"images_sha256", images.hash()},
                     {"dataset", images.info().name},
                     {"checkpoint", job.selection.checkpoint},
                     {"libtorch", TORCH_VERSION},
                     {"hdf5", hdf5_version()},
                     {"sentinelnn", version()},
                     {"engine", engine_name(job.engine)},
                     {"images_per_batch", std::to_string(job.block)}};
  const FileNotes& notes = plan.models.front().notes;
  if (!notes.weights_key.empty()) info.provenance["weights_key"] = notes.weights_key;
  if (!notes.stored_types.empty()) info.provenance["stored_types"] = notes.stored_types;
  if (plan.what == "inject")  // others choose their images themselves
    info.provenance["images_of"] = images_of_name(job.images_of);
  return info;
}

SessionInfo describe_session(const Comm& comm, const Job& job, at::Device device) {
  ByteWriter own;
  own.text(host_name() + " " + device.str());
  SessionInfo session;
  session.ranks = static_cast<std::uint32_t>(comm.size());
  session.host = host_name();
  nlohmann::json info;
  for (const Bytes& text : comm.gather(own.take()))
    info["ranks"].push_back(std::string(reinterpret_cast<const char*>(text.data()), text.size()));
  info["threads"] = job.compute.threads;
  info["instruction_set"] = cpu_capability();
  info["libtorch"] = TORCH_VERSION;
  info["slurm"] = slurm_variables();
  info["sentinelnn"] = version();
  info["command"] = job.command;
  // Command lines and variables may hold any bytes.
  session.info = info.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return session;
}

}  // namespace sentinel
