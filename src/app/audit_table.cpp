#include "app/audit_table.hpp"

#include <algorithm>

#include "app/output.hpp"
#include "app/print.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kMismatchesShown = 5;  // rows

/// Sums over the audit.
struct AuditTotals {
  std::uint64_t stored = 0, trials = 0, images = 0, mismatches = 0, near_ties = 0;
  double deviation = 0;
};

/// Rows are sorted by trial.
template <class Row>
std::uint64_t count_trials(const std::vector<Row>& rows) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < rows.size(); ++i)
    count += i == 0 || rows[i].point != rows[i - 1].point || rows[i].id != rows[i - 1].id;
  return count;
}

AuditTotals audit_totals(const ResultFile& result) {
  AuditTotals totals;
  totals.stored = count_trials(result.trials);
  totals.trials = count_trials(result.audit);
  for (const AuditRow& row : result.audit) {
    totals.images += row.images;
    totals.mismatches += row.mismatches;
    totals.near_ties += row.near_ties;
    totals.deviation = std::max(totals.deviation, row.deviation);
  }
  return totals;
}

std::string counted(std::uint64_t number, const std::string& one, const std::string& many) {
  return with_spaces(static_cast<std::int64_t>(number)) + " " + (number == 1 ? one : many);
}

}  // namespace

bool is_audited(const ResultFile& result) {
  const std::vector<double>& rates = result.info.audit_rates;
  return !result.audit.empty() ||
         std::any_of(rates.begin(), rates.end(), [](double rate) { return rate > 0; });
}

void print_audit(const ResultFile& result) {
  if (!is_audited(result)) return;
  const AuditTotals t = audit_totals(result);
  if (t.trials == 0) {
    say("audit: none of {} was audited\n", counted(t.stored, "trial", "trials"));
    return;
  }
  say("audit: {} of {}, {}, {}, {}\n", with_spaces(static_cast<std::int64_t>(t.trials)),
      counted(t.stored, "trial", "trials"), counted(t.images, "image", "images"),
      counted(t.mismatches, "mismatch", "mismatches"),
      counted(t.near_ties, "near tie", "near ties"));
  std::size_t shown = 0;
  for (const AuditRow& row : result.audit) {
    if (row.mismatches == 0) continue;
    if (++shown > kMismatchesShown) break;
    say("  mismatch: point {}, trial {}, {}: {} of {}\n", row.point, row.id,
        result.info.models.at(row.model).name, row.mismatches,
        counted(row.images, "image", "images"));
  }
  if (shown > kMismatchesShown) say("  and more in /audit\n");
}

nlohmann::json audit_json(const ResultFile& result) {
  const AuditTotals t = audit_totals(result);
  return {{"trials", t.trials},
          {"images", t.images},
          {"mismatches", t.mismatches},
          {"near_ties", t.near_ties},
          {"deviation", t.deviation}};
}

}  // namespace sentinel
