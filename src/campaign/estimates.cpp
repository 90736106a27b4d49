#include <fmt/format.h>

#include "sentinel/campaign/campaign.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

/// Sums over the trials of one (point, model).
struct Cell {
  CountMoments correct, sdc_critical, due, failing, correct_argmax;
  CountMoments gain;  // correct images more than the first model, same trial
};

EstimateRow to_row(const Interval& interval, std::uint32_t point, std::size_t model,
                   const std::string& quantity) {
  EstimateRow row;
  row.point = point;
  row.model = static_cast<std::int32_t>(model);
  row.quantity = quantity;
  row.estimate = interval.estimate;
  row.lower = interval.lower;
  row.upper = interval.upper;
  row.confidence = interval.confidence;
  row.method = interval.method;
  row.trials = interval.n;
  return row;
}

}  // namespace

struct EstimateBuilder::State {
  std::vector<bool> paired;
  std::size_t models;
  double confidence;
  double images = 1;  // per trial
  std::vector<Cell> cells;

  const Cell& cell(std::size_t point, std::size_t model) const {
    return cells.at(point * models + model);
  }

  Interval difference(std::size_t point, std::size_t model) const {
    if (!paired.at(point))
      return welch_interval(cell(point, model).correct, cell(point, 0).correct, images, confidence);
    Interval interval = t_interval(cell(point, model).gain, images, confidence, -1, 1);
    interval.method = "paired " + interval.method;
    return interval;
  }

  void append(std::vector<EstimateRow>& rows, std::size_t point, std::size_t model) const {
    const Cell& c = cell(point, model);
    if (c.correct.n() == 0) return;
    const auto p = static_cast<std::uint32_t>(point);
    rows.push_back(to_row(t_interval(c.correct, images, confidence, 0, 1), p, model, "accuracy"));
    rows.push_back(
        to_row(t_interval(c.sdc_critical, images, confidence, 0, 1), p, model, "sdc_critical"));
    rows.push_back(to_row(t_interval(c.due, images, confidence, 0, 1), p, model, "due"));
    rows.push_back(to_row(t_interval(c.failing, images, confidence, 0, 1), p, model, "failing"));
    rows.push_back(to_row(t_interval(c.correct_argmax, images, confidence, 0, 1), p, model,
                          "accuracy_argmax"));
    if (model == 0) return;
    EstimateRow row = to_row(difference(point, model), p, model, "accuracy_difference");
    row.against = 0;
    rows.push_back(row);
  }
};

EstimateBuilder::EstimateBuilder(std::vector<bool> paired, std::size_t models, double confidence)
    : state_(std::make_unique<State>()) {
  state_->cells.resize(paired.size() * models);
  state_->paired = std::move(paired);
  state_->models = models;
  state_->confidence = confidence;
}

EstimateBuilder::~EstimateBuilder() = default;

void EstimateBuilder::add(const std::vector<TrialRow>& trial) {
  const TrialRow& first = trial.at(0);
  state_->images = first.images;
  for (const TrialRow& row : trial) {
    Cell& cell = state_->cells.at(row.point * state_->models + row.model);
    cell.correct.add(row.correct);
    cell.sdc_critical.add(row.sdc_critical);
    cell.due.add(row.due);
    cell.failing.add(static_cast<std::int64_t>(row.sdc_critical) + row.due);
    cell.correct_argmax.add(row.correct_argmax);
    cell.gain.add(static_cast<std::int64_t>(row.correct) -
                  static_cast<std::int64_t>(first.correct));
  }
}

std::vector<EstimateRow> EstimateBuilder::estimates() const {
  std::vector<EstimateRow> rows;
  for (std::size_t point = 0; point < state_->paired.size(); ++point)
    for (std::size_t model = 0; model < state_->models; ++model) state_->append(rows, point, model);
  return rows;
}

std::string EstimateBuilder::headline(std::uint32_t point) const {
  std::string text;
  for (std::size_t model = 0; model < state_->models; ++model) {
    const Interval i =
        t_interval(state_->cell(point, model).correct, state_->images, state_->confidence, 0, 1);
    text += fmt::format("{}{:.2f} % ± {:.2f}", model == 0 ? "accuracy " : " → ", 100 * i.estimate,
                        100 * i.half_width());
  }
  return text;
}

}  // namespace sentinel
