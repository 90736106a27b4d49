#include "store/result_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/log.hpp"
#include "sentinel/core/time.hpp"
#include "sentinel/store/result_file.hpp"
#include "store/importance_groups.hpp"
#include "store/journal.hpp"
#include "store/table.hpp"

namespace sentinel::store {
namespace {

using h5::File;
using h5::Handle;

void write_root(const File& file, const ResultInfo& info, const ResultContents& contents) {
  const hid_t root = file.id();
  const double now = unix_time();
  const double created = contents.sessions.empty() ? now : contents.sessions.front().started;
  h5::put_text(file, root, "schema", kResultSchema);
  h5::put<std::int32_t>(file, root, "schema_version", info.schema);
  h5::put_text(file, root, "creator", "sentinelnn");
  h5::put_text(file, root, "creator_version", version());
  h5::put_text(file, root, "created", utc_text(created));
  h5::put_text(file, root, "published", utc_text(now));
  h5::put_text(file, root, "command", info.command);
  h5::put_text(file, root, "job", info.job);
  h5::put_text(file, root, "fingerprint", info.fingerprint);
  h5::put<std::uint64_t>(file, root, "seed", info.seed);
  h5::put_text(file, root, "rng", "philox4x32-10");
  h5::put<std::uint8_t>(file, root, "complete", contents.complete ? 1 : 0);
}

void write_provenance(const File& file, const ResultInfo& info, const ResultContents& contents) {
  const Handle group = h5::create_group(file, file.id(), "provenance");
  for (const auto& [name, value] : info.provenance) h5::put_text(file, group, name, value);
  const Handle parts = h5::create_group(file, group, "fingerprint");
  for (const auto& [name, value] : info.fingerprint_parts) h5::put_text(file, parts, name, value);
  h5::write_rows(
      file, group, "sessions", contents.sessions,
      {{"started", "s since 1970-01-01T00:00:00Z"}, {"ended", "s since 1970-01-01T00:00:00Z"}});
}

void write_model(const File& file, hid_t models, const ModelInfo& model, std::uint32_t index,
                 int schema) {
  const Handle group = h5::create_group(file, models, model.name);
  h5::put<std::uint32_t>(file, group, "index", index);
  h5::put_text(file, group, "structure", model.structure);
  h5::put_text(file, group, "checkpoint_sha256", model.checkpoint_sha256);
  h5::put<std::int64_t>(file, group, "parameters", model.parameters);
  h5::put<std::int64_t>(file, group, "macs", model.macs);
  h5::put<std::int64_t>(file, group, "memory_bytes", model.memory_bytes);
  if (model.stored_bits > 0) {
    h5::put<std::int64_t>(file, group, "stored_bits", model.stored_bits);
    h5::put<double>(file, group, "bits_per_weight", model.bits_per_weight);
  }
  h5::put<std::int64_t>(file, group, "classes", model.classes);
  h5::put<std::int64_t>(file, group, "images", model.images);
  h5::put<std::int64_t>(file, group, "correct", model.correct);
  h5::put<std::int64_t>(file, group, "top5", model.top5);
  if (!model.mean.empty()) h5::write_numbers(file, group, "mean", model.mean);
  if (!model.std.empty()) h5::write_numbers(file, group, "std", model.std);
  h5::write_rows(file, group, "tensors", model.tensors, {{"word_bits", "bit"}}, schema);
  h5::write_rows(file, group, "nodes", model.nodes, {{"macs", "MAC/image"}});
}

void write_models(const File& file, const ResultInfo& info) {
  const Handle models = h5::create_group(file, file.id(), "models");
  for (std::size_t m = 0; m < info.models.size(); ++m)
    write_model(file, models, info.models[m], static_cast<std::uint32_t>(m), info.schema);
}

void write_golden(const File& file, const ResultInfo& info) {
  const Handle golden = h5::create_group(file, file.id(), "golden");
  h5::write_numbers(file, golden, "labels", info.labels);
  for (const ModelInfo& model : info.models) {
    const Handle group = h5::create_group(file, golden, model.name);
    const auto classes = static_cast<std::size_t>(model.classes);
    if (classes == 0 ? !model.golden_logits.empty() : model.golden_logits.size() % classes != 0)
      throw Bug("golden logits of " + model.name + " are not [images, classes]");
    h5::write_numbers(file, group, "logits", model.golden_logits, classes);
    h5::write_numbers(file, group, "predictions", model.golden_predictions);
  }
}

void write_design(const File& file, const ResultInfo& info, const Findings& findings) {
  const Handle design = h5::create_group(file, file.id(), "design");
  h5::put<double>(file, design, "confidence", info.confidence);
  h5::put_text(file, design, "stop_rule", info.stop_rule);
  h5::put<std::int64_t>(file, design, "images_per_trial", info.images_per_trial);
  h5::write_rows(file, design, "plans", findings.plans.empty() ? info.plans : findings.plans);
  h5::write_rows(file, design, "strata", info.strata);
  if (!info.shares.empty()) h5::write_rows(file, design, "shares", info.shares);
  if (!info.bounds.empty()) h5::write_rows(file, design, "bounds", info.bounds);
  h5::write_rows(file, design, "rounds", findings.rounds);
  if (!findings.centres.empty()) h5::write_rows(file, design, "centres", findings.centres);
  if (!info.pairing.empty()) h5::write_rows(file, design, "pairing", info.pairing);
  if (!info.image_blocks.empty()) h5::write_numbers(file, design, "blocks", info.image_blocks);
  if (!info.audit_rates.empty()) h5::write_numbers(file, design, "audit_rates", info.audit_rates);
}

/// The unit of PointInfo::ber; faults of all points of a file are alike.
std::string unit_of_rate(const std::vector<PointInfo>& points) {
  const PointInfo point = points.empty() ? PointInfo() : points.front();
  const bool word = point.effect == "random-word" || point.effect.rfind("value:", 0) == 0;
  const bool event = point.shape != "bit" && point.shape != kListed;
  const std::string fault = event ? "event" : point.effect == "flip" ? "flip" : "fault";
  return fault + (word ? "/word" : "/bit") + (point.lifetime == "image" ? "/image" : "") + "/trial";
}

void write_points(const File& file, const ResultInfo& info, const Findings& findings) {
  std::string all;
  for (const ModelInfo& model : info.models) all += (all.empty() ? "" : ",") + model.name;
  std::vector<PointInfo> points = info.points;
  for (PointInfo& point : points)
    if (point.models.empty()) point.models = all;
  for (std::size_t p = 0; p < findings.trials.size(); ++p) points.at(p).trials = findings.trials[p];
  h5::write_rows(file, file.id(), "points", points, {{"ber", unit_of_rate(points)}}, info.schema);
}

/// A table of packed rows, with the members that rows of the schema version have.
template <class Row>
class PackedTable {
 public:
  PackedTable(const File& file, hid_t parent, const char* name, int schema)
      : widths_(h5::widths_for<Row>({Row{}}, schema)),
        as_packed_(schema == kSchemaVersion),
        type_(h5::row_type<Row>(file, widths_)),
        data_(file, parent, name, type_, H5Tget_size(type_)) {}

  void push(const std::byte* rows, std::size_t count) {
    if (as_packed_) return data_.push(rows, count);
    for (std::size_t i = 0; i < count; ++i) {
      bytes_.clear();
      h5::pack_row(unpack<Row>(rows + i * packed_size<Row>()), widths_, bytes_);
      data_.push(bytes_.data(), 1);
    }
  }
  void finish() { data_.finish(); }
  hid_t id() const { return data_.id(); }

 private:
  std::vector<std::size_t> widths_;
  bool as_packed_;
  Handle type_;
  h5::Appender data_;
  std::vector<char> bytes_;
};

void write_records(const File& file, const ResultContents& contents, int schema) {
  const Handle faults = h5::create_group(file, file.id(), "faults");
  PackedTable<TrialRow> trials(file, file.id(), "trials", schema);
  PackedTable<FaultRow> sites(file, faults, "sites", schema);
  h5::Appender offsets(file, faults, "offsets", h5::number_type<std::uint64_t>(), 8);
  h5::put_text(file, trials.id(), "unit_wall_us", "us");
  h5::put_text(file, sites.id(), "unit_word_bits", "bit");
  std::uint64_t end = 0;
  offsets.push(&end, 1);
  contents.each_record([&](const PackedRecord& record) {
    trials.push(record.data, 1);
    sites.push(record.fault_bytes(), record.faults());
    end += record.faults();
    offsets.push(&end, 1);
  });
  trials.finish();
  sites.finish();
  offsets.finish();
}

void write_result(const std::string& path, const ResultInfo& info, const ResultContents& contents) {
  File file = File::create(path);
  write_root(file, info, contents);
  write_provenance(file, info, contents);
  write_models(file, info);
  write_golden(file, info);
  write_points(file, info, contents.findings);
  write_design(file, info, contents.findings);
  write_records(file, contents, info.schema);
  h5::write_rows(file, file.id(), "audit", contents.audit);
  {
    const Handle importance = h5::create_group(file, file.id(), "importance");
    write_importance(file, importance, info.importance);
  }
  h5::write_rows(file, file.id(), "estimates", contents.findings.estimates);
  file.close();
}

}  // namespace

void publish_result(OwnFile& file, const ResultInfo& info, const ResultContents& contents) {
  const std::string temporary = temporary_beside(file.path());
  try {
    {
      const h5::Guard guard;
      write_result(temporary, info, contents);
    }
    FileHandle(temporary, O_RDONLY).sync();  // may take long, so not after the check
    contents.before_rename();
    file.replace_by(temporary);
  } catch (...) {
    std::remove(temporary.c_str());
    throw;
  }
}

}  // namespace sentinel::store
