#include "store/result_reader.hpp"

#include <algorithm>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "sentinel/store/vulnerability_file.hpp"
#include "store/checks.hpp"
#include "store/importance_groups.hpp"
#include "store/table.hpp"

namespace sentinel::store {
namespace {

std::map<std::string, std::string> text_attributes(const h5::File& file, hid_t object) {
  std::map<std::string, std::string> all;
  for (const std::string& name : h5::attributes(file, object))
    all[name] = h5::get_text(file, object, name);
  return all;
}

std::map<std::string, std::string> read_parts(const h5::File& file) {
  const h5::Handle parts = h5::open_group(file, file.id(), "provenance/fingerprint");
  return text_attributes(file, parts);
}

ModelInfo read_model(const h5::File& file, hid_t models, const std::string& name, int schema) {
  const h5::Handle group = h5::open_group(file, models, name);
  ModelInfo model;
  model.name = name;
  model.structure = h5::get_text(file, group, "structure");
  model.checkpoint_sha256 = h5::get_text(file, group, "checkpoint_sha256");
  model.parameters = h5::get<std::int64_t>(file, group, "parameters");
  model.macs = h5::get<std::int64_t>(file, group, "macs");
  model.memory_bytes = h5::get<std::int64_t>(file, group, "memory_bytes");
  if (h5::has_attribute(file, group, "stored_bits"))
    model.stored_bits = h5::get<std::int64_t>(file, group, "stored_bits");
  if (h5::has_attribute(file, group, "bits_per_weight"))
    model.bits_per_weight = h5::get<double>(file, group, "bits_per_weight");
  model.classes = h5::get<std::int64_t>(file, group, "classes");
  model.images = h5::get<std::int64_t>(file, group, "images");
  model.correct = h5::get<std::int64_t>(file, group, "correct");
  model.top5 = h5::get<std::int64_t>(file, group, "top5");
  if (h5::exists(file, group, "mean")) model.mean = h5::read_numbers<double>(file, group, "mean");
  if (h5::exists(file, group, "std")) model.std = h5::read_numbers<double>(file, group, "std");
  model.tensors = h5::read_rows<TensorInfo>(file, group, "tensors", schema);
  model.nodes = h5::read_rows<NodeInfo>(file, group, "nodes");
  model.golden_predictions =
      h5::read_numbers<std::int32_t>(file, file.id(), "golden/" + name + "/predictions");
  return model;
}

std::vector<ModelInfo> read_models(const h5::File& file, int schema) {
  const h5::Handle models = h5::open_group(file, file.id(), "models");
  std::vector<std::pair<std::uint32_t, ModelInfo>> found;
  for (const std::string& name : h5::links(file, models)) {
    const h5::Handle group = h5::open_group(file, models, name);
    found.emplace_back(h5::get<std::uint32_t>(file, group, "index"),
                       read_model(file, models, name, schema));
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ModelInfo> all;
  for (auto& [index, model] : found) {
    if (index != all.size())
      file.fail("/models/" + model.name + ": index is " + std::to_string(index) + ", and " +
                std::to_string(found.size()) + " models are there, numbered from 0 on");
    all.push_back(std::move(model));
  }
  return all;
}

/// Files of earlier versions have no tables of plans.
void read_design(const h5::File& file, ResultInfo& info) {
  const h5::Handle design = h5::open_group(file, file.id(), "design");
  info.confidence = h5::get<double>(file, design, "confidence");
  info.stop_rule = h5::get_text(file, design, "stop_rule");
  const auto has = [&](const char* name) { return h5::exists(file, design, name); };
  if (!has("plans")) return;
  info.images_per_trial = h5::get<std::int64_t>(file, design, "images_per_trial");
  info.plans = h5::read_rows<PlanInfo>(file, design, "plans");
  info.strata = h5::read_rows<StratumInfo>(file, design, "strata");
  if (has("shares")) info.shares = h5::read_rows<ShareInfo>(file, design, "shares");
  if (has("bounds")) info.bounds = h5::read_rows<BoundInfo>(file, design, "bounds");
  if (has("pairing")) info.pairing = h5::read_rows<PairingInfo>(file, design, "pairing");
  if (has("blocks")) info.image_blocks = h5::read_numbers<std::int32_t>(file, design, "blocks");
  if (has("audit_rates")) info.audit_rates = h5::read_numbers<double>(file, design, "audit_rates");
}

/// In files of earlier versions the table is empty and has fewer members.
std::vector<AuditRow> read_audit(const h5::File& file) {
  if (h5::Dataset(file, file.id(), "audit").rows() == 0) return {};
  return h5::read_rows<AuditRow>(file, file.id(), "audit");
}

ResultInfo read_info(const h5::File& file) {
  const hid_t root = file.id();
  ResultInfo info;
  info.schema = schema_of(file);
  info.command = h5::get_text(file, root, "command");
  info.job = h5::get_text(file, root, "job");
  info.fingerprint = h5::get_text(file, root, "fingerprint");
  info.fingerprint_parts = read_parts(file);
  info.seed = h5::get<std::uint64_t>(file, root, "seed");
  {
    const h5::Handle provenance = h5::open_group(file, root, "provenance");
    info.provenance = text_attributes(file, provenance);
    const h5::Handle importance = h5::open_group(file, root, "importance");
    info.importance = read_importance(file, importance);
  }
  read_design(file, info);
  info.models = read_models(file, info.schema);
  info.labels = h5::read_numbers<std::int32_t>(file, root, "golden/labels");
  info.points = h5::read_rows<PointInfo>(file, root, "points", info.schema);
  check_info(file.path(), info);
  return info;
}

Findings read_findings(const h5::File& file, const ResultInfo& info) {
  const hid_t root = file.id();
  Findings findings;
  findings.plans = info.plans;
  if (!info.plans.empty()) findings.rounds = h5::read_rows<RoundInfo>(file, root, "design/rounds");
  const h5::Handle design = h5::open_group(file, root, "design");
  if (h5::exists(file, design, "centres"))
    findings.centres = h5::read_rows<CentreInfo>(file, design, "centres");
  for (const PointInfo& point : info.points) findings.trials.push_back(point.trials);
  findings.estimates = h5::read_rows<EstimateRow>(file, root, "estimates");
  check_findings(file.path(), info, findings);
  return findings;
}

}  // namespace

h5::File open_result(const std::string& path) {
  h5::File file = h5::File::open(path);
  const hid_t root = file.id();
  const std::string schema =
      h5::has_attribute(file, root, "schema") ? h5::get_text(file, root, "schema") : "";
  for (const auto& [own, what] : {std::pair{kRankingSchema, "a ranking"},
                                  std::pair{kVulnerabilitySchema, "vulnerability factors"}})
    if (schema == own)
      throw DataError(path, std::string("is no result of sentinelnn but ") + what +
                                "; `sentinelnn inspect` shows what it holds");
  if (schema != kResultSchema) throw DataError(path, "is no result of sentinelnn");
  const int found = schema_of(file);
  if (found < 1)
    throw DataError(path, "attribute schema_version is " + std::to_string(found) +
                              ", and the first version is 1; the file is damaged");
  if (found > kSchemaVersion)
    throw DataError(path, "has schema version " + std::to_string(found) + ", newer than " +
                              std::to_string(kSchemaVersion) +
                              "; use the sentinelnn that wrote it");
  return file;
}

int schema_of(const h5::File& file) {
  return h5::get<std::int32_t>(file, file.id(), "schema_version");
}

ResultHead read_head(const h5::File& file) {
  const hid_t root = file.id();
  ResultHead head;
  head.info = read_info(file);
  const int complete = h5::get<std::uint8_t>(file, root, "complete");
  if (complete > 1)
    throw DataError(file.path(), "attribute complete is " + std::to_string(complete) +
                                     ", not 0 or 1; the file is damaged");
  head.complete = complete == 1;
  head.sessions = h5::read_rows<SessionRow>(file, root, "provenance/sessions");
  check_sessions(file.path(), head.sessions);
  head.findings = read_findings(file, head.info);
  head.audit = read_audit(file);
  const RowChecks checks = row_checks(head);
  for (std::size_t i = 0; i < head.audit.size(); ++i)
    checks.check({file.path(), "/audit, row", i}, head.audit[i]);
  return head;
}

ResultHead read_result_head(const std::string& path) {
  const h5::Guard guard;
  return read_head(open_result(path));
}

void read_logits(const h5::File& file, ModelInfo& model) {
  if (model.classes == 0) return;
  const h5::Dataset data(file, file.id(), "golden/" + model.name + "/logits");
  if (data.shape().size() != 2 || data.rows() != static_cast<hsize_t>(model.images) ||
      data.shape()[1] != static_cast<hsize_t>(model.classes))
    file.fail(data.name() + " is not [images, classes]");
  model.golden_logits.resize(data.rows() * data.shape()[1]);
  data.read(h5::number_type<float>(), 0, data.rows(), model.golden_logits.data());
}

RowChecks row_checks(const ResultHead& head) {
  std::vector<std::uint32_t> numbers;
  for (const SessionRow& session : head.sessions) numbers.push_back(session.number);
  RowChecks checks(head.info, numbers);
  if (!numbers.empty())
    checks.set_plan(*std::max_element(numbers.begin(), numbers.end()), planned_ids(head.info));
  return checks;
}

}  // namespace sentinel::store
