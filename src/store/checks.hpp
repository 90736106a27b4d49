#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/store/schema.hpp"

/// Whether what a file says can be: numbers that name rows of other tables, counts, times, shares.
/// Every reader of a result or a journal asks here, once. All throw a DataError that names file,
/// table, row, column, value and range.
namespace sentinel::store {

/// A row, as messages name it: "result.h5: /trials, row 17: …".
struct Place {
  std::string_view path, table;  // "/trials, row"
  std::uint64_t row = 0;
};

/// Models, their golden runs, points, plans, strata, blocks, importance: each and against each
/// other.
void check_info(const std::string& path, const ResultInfo& info);
void check_sessions(const std::string& path, const std::vector<SessionRow>& sessions);
void check_session(const Place& at, const SessionRow& session);
/// Estimates, rounds and centres of the result that `info` describes.
void check_findings(const std::string& path, const ResultInfo& info, const Findings& findings);
/// Scores, order and samples have one entry for every channel.
void check_importance(const std::string& path, const ImportanceInfo& layer);

/// The trials first ... end - 1 of a point.
struct IdRange {
  std::uint64_t first = 0, end = 0;
};
/// The trials that may be run of each point, by its plan.
std::vector<IdRange> planned_ids(const ResultInfo& info);

constexpr std::uint32_t kMostSessions = 999999999;  // as many digits as names of journals may have

/// The values that rows of a result may hold.
class RowChecks {
 public:
  /// `info` outlives this, and is sound. `sessions`: the numbers that rows may name.
  RowChecks(const ResultInfo& info, std::vector<std::uint32_t> sessions);
  /// What the session ran: its rows lie in these ranges, by point. Other sessions may have had
  /// other plans, as a campaign can be shortened.
  void set_plan(std::uint32_t session, std::vector<IdRange> ranges);

  void check(const Place& at, const TrialRow& row) const;
  /// The same of a fault of a row that was checked.
  void check(const Place& at, const TrialRow& row, const FaultRow& fault) const;
  void check(const Place& at, const AuditRow& row) const;

 private:
  void check_counts(const Place& at, const TrialRow& row) const;
  void check_id(const Place& at, const TrialRow& row) const;

  const ResultInfo& info_;
  std::vector<std::uint32_t> sessions_;                    // ascending
  std::vector<std::uint64_t> block_images_;                // images of each block
  std::vector<std::int64_t> strata_;                       // of each point
  std::map<std::uint32_t, std::vector<IdRange>> planned_;  // by session
};

}  // namespace sentinel::store
