#include "corrupt/result_images.hpp"

#include <optional>

#include "store/h5.hpp"
#include "store/result_writer.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

using h5::Handle;

// ---- good files ---------------------------------------------------------------------------------

/// Two points, two models, four images.
ResultInfo small_info() {
  ResultInfo info = sample_info();
  for (ModelInfo& model : info.models) {
    model.images = 4;
    model.correct = 2;
    model.top5 = 3;
    model.golden_logits = {1, 2, 3, 4, 5.5F, -6, 0, 1};
    model.golden_predictions = {1, 1, 0, 1};
  }
  info.labels = {1, 0, 0, 1};
  info.image_blocks.clear();
  info.images_per_trial = -1;
  for (PointInfo& point : info.points) point.trials = 4;
  return info;
}

/// Points of a plan by layers and of a sequential plan; each trial looks at two images.
ResultInfo planned_info() {
  ResultInfo info = small_info();
  info.plans = {{0, "per-layer:allocated", "fixed number of trials", 0, 0, 2, 3, 0},
                {1, "sequential", "half-width 0.01", 0.01, 1, 0, 4, 1}};
  info.strata = {{0, 0, "conv1 bit 30", 0.25, 2}, {0, 1, "rest", 0.75, 1}, {1, 0, "all", 1, 1}};
  info.shares = {{0, 1, 0, 0.5}, {0, 1, 1, 0.5}};
  info.bounds = {{1, 1, 1e-5}};
  info.image_blocks = {0, 0, 1, 1};
  info.images_per_trial = 2;
  info.models[1].mean = {0.5, 0.5, 0.5};
  info.models[1].std = {0.25, 0.25, 0.25};
  return info;
}

TrialRecord small_record(const ResultInfo& info, std::uint32_t point, std::uint64_t id,
                         std::uint32_t model) {
  const bool planned = !info.plans.empty();
  TrialRecord record = sample_record(point, id, model);
  TrialRow& row = record.row;
  row.stratum = planned ? 0 : -1;
  row.stage = planned && point == 0 && id < 2 ? 1 : 0;
  row.block = planned ? static_cast<std::int32_t>(id % 2) : -1;
  row.images = planned ? 2 : 4;
  row.top5 = row.correct = row.correct_argmax = row.masked = row.images - 1;
  row.sdc_critical = row.sdc_noncritical = 0;
  row.due = 1;
  row.audited = id == 1 && model == point ? 1 : 0;
  return record;
}

/// The audit of trial 1 of a point.
AuditRow small_audit(std::uint32_t point) {
  return {{2, 1, 1, 1, 0, 0, 1, 1}, point, 1, point, 1, 0, 0.25};
}

Findings planned_findings() {
  Findings findings;
  findings.plans = planned_info().plans;
  findings.rounds = {{1, 0, 0, 0, 4, 0, 1, 4}, {0, 0, 1, 0, 2, 0, 0.5, 1}};
  findings.centres = {{1, 0, 0, 0.25, 0.25, 0.25, 0.25}, {1, 0, 1, 0.25, 0.25, 0.25, 0.25}};
  findings.trials = {4, 4};
  return findings;
}

std::vector<EstimateRow> estimates() {
  std::vector<EstimateRow> rows;
  for (std::uint32_t point : {0u, 1u})
    for (std::int32_t model : {0, 1})
      for (const char* quantity : {"accuracy", "failing", "due", "accuracy_argmax"})
        rows.push_back({point, model, -1, quantity, 0.5, 0.4, 0.6, 0.95, "t over trials", 4});
  rows.push_back({0, 1, 0, "accuracy_difference", 0.1, 0, 0.2, 0.95, "paired betting", 4});
  return rows;
}

/// A result as channel-FI writes it: a point per channel.
ResultInfo channel_info() {
  ResultInfo info = small_info();
  info.provenance["kind"] = "channel-fi";
  info.points = {{0, "T1", "channel:conv1:0", 0, 4, ""}, {1, "T1", "channel:conv1:1", 0, 4, ""}};
  const ChannelSample sample{{0.1, 0.2}, {0.3, 0.4}, {0.9, 0.8}, {4, 4}};
  info.importance = {{"channel-fi", "conv1", {0.2, 0.3}, {1, 0}, sample}};
  return info;
}

/// As versions before schema 2 wrote it.
ResultInfo schema1_info() {
  ResultInfo info = small_info();
  info.schema = 1;
  return info;
}

Bytes published(const ResultInfo& info, const Findings& findings) {
  const TempDir folder;
  std::vector<std::byte> row;
  store::ResultContents contents;
  contents.complete = true;
  contents.findings = findings;
  contents.findings.estimates = estimates();
  if (!info.shares.empty())
    contents.findings.estimates.push_back({0, 1, -1, "due", 0.5, 0.4, 0.6, 0.95, "betting", 4, 1});
  contents.sessions = {{0, 1.7e9, 1.7e9 + 5, 2, "node1", 8, "{\"threads\": 1}"}};
  contents.audit = {small_audit(0), small_audit(1)};
  contents.each_record = [&](const auto& visit) {
    for (std::uint32_t point : {0u, 1u})
      for (std::uint64_t id = 0; id < 4; ++id)
        for (std::uint32_t model : {0u, 1u}) {
          const TrialRecord record = small_record(info, point, id, model);
          row.clear();
          store::pack_record(record.row, record.faults, row);
          visit({row.data()});
        }
  };
  store::OwnFile file(folder / "r.h5");
  store::publish_result(file, info, contents);
  return read_file(folder / "r.h5");
}

Bytes good_ranking() {
  const TempDir folder;
  write_ranking(folder / "r.h5", {"l1-norm", "c0ffee", "resnet20", "cifar10", "sentinelnn rank",
                                  channel_info().importance});
  return read_file(folder / "r.h5");
}

// ---- plain copies ------------------------------------------------------------------------------

/// One table with fewer rows.
struct Cut {
  std::string table;  // path
  bool all = false;   // 0 rows, else one less
};

/// Copies an HDF5 file without chunks and packing. In a marked copy every value is another one: of
/// each the first byte differs by 1, all others by 2.
class Copier {
 public:
  Copier(h5::File from, h5::File to, bool marked, std::optional<Cut> cut)
      : from_(std::move(from)), to_(std::move(to)), marked_(marked), cut_(std::move(cut)) {
    copy_group(from_.id(), to_.id(), "");
    to_.close();
  }
  const std::vector<std::string>& tables() const { return tables_; }

 private:
  void copy_group(hid_t from, hid_t to, const std::string& path) {
    copy_attributes(from, to);
    for (const std::string& name : h5::links(from_, from)) {
      const Handle object(H5Oopen(from, name.c_str(), H5P_DEFAULT), H5Oclose);
      if (H5Iget_type(object) == H5I_GROUP)
        copy_group(object, h5::create_group(to_, to, name), path + "/" + name);
      else
        copy_table(object, to, name, path + "/" + name);
    }
  }

  void copy_table(hid_t from, hid_t to, const std::string& name, const std::string& path) {
    tables_.push_back(path);
    const Handle type(H5Dget_type(from), H5Tclose), space(H5Dget_space(from), H5Sclose);
    hsize_t shape[2] = {};
    const int rank = H5Sget_simple_extent_dims(space, shape, nullptr);
    std::vector<char> values(bytes_of(space, type));
    to_.check(H5Dread(from, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "read");
    mark(type, values.data(), values.size());
    if (cut_ && cut_->table == path && shape[0] > 0) shape[0] = cut_->all ? 0 : shape[0] - 1;
    const Handle rows(H5Screate_simple(rank, shape, nullptr), H5Sclose);
    const Handle plain(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_obj_track_times(plain, false);
    H5Pset_alloc_time(plain, H5D_ALLOC_TIME_EARLY);
    const Handle copy(H5Dcreate2(to, name.c_str(), type, rows, H5P_DEFAULT, plain, H5P_DEFAULT),
                      H5Dclose);
    to_.check(H5Dwrite(copy, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "write");
    copy_attributes(from, copy);
  }

  void copy_attributes(hid_t from, hid_t to) {
    for (const std::string& name : h5::attributes(from_, from)) {
      const Handle attribute(H5Aopen(from, name.c_str(), H5P_DEFAULT), H5Aclose);
      const Handle type(H5Aget_type(attribute), H5Tclose);
      if (H5Tget_class(type) == H5T_STRING) {
        std::string text = h5::get_text(from_, from, name);
        mark_bytes(text.data(), text.size());
        h5::put_text(to_, to, name, text);
        continue;
      }
      std::vector<char> value(H5Tget_size(type));
      to_.check(H5Aread(attribute, type, value.data()), "read");
      mark(type, value.data(), value.size());
      h5::put_raw(to_, to, name, type, value.data());
    }
  }

  static std::size_t bytes_of(hid_t space, hid_t type) {
    return static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)) * H5Tget_size(type);
  }

  /// Values of a type, one behind the other.
  void mark(hid_t type, char* values, std::size_t bytes) const {
    const std::size_t size = H5Tget_size(type);
    for (std::size_t at = 0; at < bytes; at += size) {
      if (H5Tget_class(type) != H5T_COMPOUND) {
        mark_bytes(values + at, size);
        continue;
      }
      for (unsigned i = 0; i < static_cast<unsigned>(H5Tget_nmembers(type)); ++i) {
        const Handle member(H5Tget_member_type(type, i), H5Tclose);
        mark(member, values + at + H5Tget_member_offset(type, i), H5Tget_size(member));
      }
    }
  }

  void mark_bytes(char* bytes, std::size_t size) const {
    for (std::size_t i = 0; marked_ && i < size; ++i)
      bytes[i] = static_cast<char>(bytes[i] ^ (i == 0 ? 1 : 2));
  }

  h5::File from_, to_;
  bool marked_;
  std::optional<Cut> cut_;
  std::vector<std::string> tables_;
};

/// The values are where a copy and a marked one differ.
ResultImage compared(Bytes file, const Bytes& marked) {
  ResultImage image{std::move(file), {}};
  for (std::size_t i = 0; i < image.file.size(); ++i) {
    const std::byte change = image.file[i] ^ marked[i];
    if (change == std::byte{1}) image.fields.push_back({i, 1});
    if (change == std::byte{2}) ++image.fields.back().size;
  }
  return image;
}

ResultImage plain_image(const Bytes& file, std::vector<std::string>& tables,
                        const std::optional<Cut>& cut) {
  const h5::Guard guard;
  const TempDir folder;
  const std::string from = folder / "from", plain = folder / "plain", marked = folder / "marked";
  write_file_atomic(from, file);
  tables = Copier(h5::File::open(from), h5::File::create(plain), false, cut).tables();
  Copier(h5::File::open(from), h5::File::create(marked), true, cut);
  return compared(read_file(plain), read_file(marked));
}

}  // namespace

std::vector<Bytes> result_files() {
  return {published(small_info(), {}), published(planned_info(), planned_findings()),
          published(channel_info(), {}), published(schema1_info(), {}), good_ranking()};
}

std::vector<ResultImage> result_images() {
  std::vector<ResultImage> images;
  for (const Bytes& file : result_files()) {
    std::vector<std::string> tables, unused;
    images.push_back(plain_image(file, tables, {}));
    const Bytes plain = images.back().file;  // far quicker to copy
    for (const std::string& table : tables)
      for (const bool all : {false, true})
        images.push_back(plain_image(plain, unused, Cut{table, all}));
  }
  return images;
}

}  // namespace sentinel::test
