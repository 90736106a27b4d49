#pragma once
#include <string>
#include <vector>

#include "sentinel/store/schema.hpp"

namespace sentinel {

/// A published result read back whole (without golden logits).
struct ResultFile {
  ResultInfo info;
  bool complete = false;
  std::vector<TrialRow> trials;
  std::vector<EstimateRow> estimates;
  std::vector<AuditRow> audit;
  std::vector<SessionRow> sessions;
};

/// Throws DataError where the file is missing, no result of ours, or of a newer schema.
ResultFile read_result(const std::string& path);
/// The faults of every row of /trials.
std::vector<std::vector<FaultRow>> read_faults(const std::string& path);

/// Channel scores of one method on one model, as `rank --output` writes them.
struct RankingFile {
  std::string method, model_sha256, architecture, dataset, command;
  std::vector<ImportanceInfo> layers;  // scores of every convolution, execution order
};
/// HDF5 (`importance/<method>/<layer>/scores`, `order`; attributes model_sha256 …) or, by its name,
/// CSV (layer,channel,score,rank). Atomic. Throws EnvironmentError.
void write_ranking(const std::string& path, const RankingFile& ranking);
/// Throws DataError (HDF5 only).
RankingFile read_ranking(const std::string& path);

/// Names, shapes and types of everything in an HDF5 file, one line each, for `inspect`.
std::vector<std::string> describe_hdf5(const std::string& path);

/// Version of the HDF5 library in use.
std::string hdf5_version();

}  // namespace sentinel
