#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>
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
/// The same without trials but with golden logits: of a result whose rows are streamed, or few.
ResultFile read_result_outline(const std::string& path);
/// The records of the rows that `wanted` says, in their order; faults of other rows are not read.
/// Throws DataError.
std::vector<TrialRecord> read_records(const std::string& path,
                                      const std::function<bool(const TrialRow&)>& wanted);
/// The faults of every row of /trials.
std::vector<std::vector<FaultRow>> read_faults(const std::string& path);

/// UserError where a fingerprint, made of these parts, is not that of `wanted`; names what differs
/// and the remedy. What networks are called does not count. Parts that schema 1 did not have mean
/// there what it was: flips of single bits in all weights, stored as fp32. `path`: the result that
/// has it.
void check_fingerprint(const std::string& path, const std::string& fingerprint,
                       const std::map<std::string, std::string>& parts, const ResultInfo& wanted,
                       const std::string& remedy);

/// Channel scores of one method on one model, as `rank` writes them.
struct RankingFile {
  std::string method, model_sha256, architecture, dataset, command;
  std::vector<ImportanceInfo> layers;  // scores of every convolution, execution order
  std::string definition = {};         // of a method that has options; empty: none
};
/// HDF5 (`importance/<method>/<layer>/scores`, `order`; attributes model_sha256 …) or, by its name,
/// CSV (layer,channel,score,rank). Atomic. Throws EnvironmentError.
void write_ranking(const std::string& path, const RankingFile& ranking);
/// Whether write_ranking makes CSV of it.
bool is_ranking_table(const std::string& path);
/// Throws DataError (HDF5 only).
RankingFile read_ranking(const std::string& path);

/// The head of the CSV that write_ranking makes.
constexpr std::string_view kRankingTableHead = "layer,channel,score,rank";

/// The attribute `schema` of an HDF5 file: kResultSchema, kRankingSchema, a word of others, or
/// empty. Throws DataError where it cannot be read.
std::string hdf5_schema(const std::string& path);

/// Names, shapes and types of everything in an HDF5 file, one line each, for `inspect`.
std::vector<std::string> describe_hdf5(const std::string& path);

/// Version of the HDF5 library in use.
std::string hdf5_version();

}  // namespace sentinel
