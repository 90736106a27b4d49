#include "campaign/ftclip.hpp"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "campaign/run_trials.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/transform/interval_search.hpp"
#include "sentinel/transform/train.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kTrialsOfRate = 5;
constexpr std::int64_t kMostImages = 1000;  // that judge

/// How the trials of a round are run and stored.
Job campaign_of(const ProtectionJob& protection, const std::string& output) {
  Job job;
  job.compute.threads = at::get_num_threads();  // the caller's choice; the pool's thread needs it
  job.seed = protection.hardening.search.seed;
  job.faults.targets = {TensorClass::kWeight};
  job.fresh = protection.fresh;
  job.output = output;
  job.command = protection.command;
  job.resolved = protection.resolved;
  return job;
}

std::vector<CampaignPoint> points_of(const std::vector<double>& rates) {
  std::vector<CampaignPoint> points;
  for (const double rate : rates) points.push_back({BinomialFaults{rate}, kTrialsOfRate});
  return points;
}

void set_bound(Graph& graph, NodeId site, double bound) {
  at::Tensor& stored = std::get<BoundedActivation>(graph[site].op).bound;
  stored = at::full_like(stored, bound);  // others may share the old one
}

/// The graph with each of the bounds at the site.
std::vector<NamedModel> candidate_networks(const Graph& graph, NodeId site,
                                           const std::vector<double>& bounds,
                                           const NamedModel& original) {
  std::vector<NamedModel> models;
  for (const double bound : bounds) {
    NamedModel model;
    model.name = "candidate" + std::to_string(models.size() + 1);
    model.graph = graph.clone();
    set_bound(model.graph, site, bound);
    model.sha256 = network_sha256(model.graph);
    model.file_sha256 = original.file_sha256;
    model.recipe = fmt::format("{} bounded by {:.9g}", graph[site].name, bound);
    model.file = original.file;
    models.push_back(std::move(model));
  }
  return models;
}

std::string told(const std::vector<double>& bounds, const std::vector<CandidateScore>& scores) {
  std::string text;
  for (std::size_t c = 0; c < bounds.size(); ++c) {
    const Interval &auc = scores[c].auc, &behind = scores[c].behind;
    text += fmt::format("{}{:.5g}: {:.2f}", c > 0 ? "; " : "", bounds[c], auc.estimate);
    text += behind.n > 0 ? fmt::format(", behind by {:.2f} [{:.2f}, {:.2f}]", behind.estimate,
                                       behind.lower, behind.upper)
                         : ", the best";
  }
  return text;
}

/// The search of one call.
class Search {
 public:
  Search(const Comm& comm, Graph& graph, const NamedModel& original, const ProtectionJob& job,
         const Dataset& images, const std::string& folder, at::Device device)
      : comm_(comm),
        graph_(graph),
        original_(original),
        job_(job),
        images_(images),
        folder_(folder),
        device_(device) {}

  void of_site(NodeId site, const std::string& number) {
    const auto& op = std::get<BoundedActivation>(graph_[site].op);
    const double largest = op.bound.item<double>();
    const double least = op.low.defined() ? op.low.item<double>() : 0;
    if (!(largest > std::max(least, 0.0))) return;  // it lets one value pass, or none
    IntervalSearch search(largest, least);
    for (int round = 1; !search.done(); ++round) {
      const std::vector<double> bounds = search.candidates();
      const std::string file = fmt::format("{}/{}.{}.h5", folder_, number, round);
      const std::vector<CandidateScore> scores = round_of(site, bounds, file);
      std::vector<double> auc;
      for (const CandidateScore& score : scores) auc.push_back(score.auc.estimate);
      search.take(auc);
      if (comm_.rank() == 0)
        spdlog::info("ftclip, {}, round {}, AUC by bound [points]: {}", graph_[site].name, round,
                     told(bounds, scores));
    }
    set_bound(graph_, site, search.best());
  }

 private:
  std::vector<CandidateScore> round_of(NodeId site, const std::vector<double>& bounds,
                                       const std::string& file) {
    std::vector<NamedModel> models;
    comm_.agree([&] { models = candidate_networks(graph_, site, bounds, original_); });
    const TrialPlan plan{"ftclip", models,
                         images_,  points_of(job_.hardening.search.rates),
                         {},       "remove " + folder_ + " to start over",
                         true};  // whoever protects has looked
    const ExitCode code = run_trials(comm_, campaign_of(job_, file), plan, device_);
    if (code == ExitCode::kMismatch)
      throw SharedError(code,
                        fmt::format("ftclip: the audit of {} found a mismatch, so there are "
                                    "no bounds; its trials are stored. Keep the file for a report, "
                                    "and remove {} to search anew",
                                    file, folder_));
    if (code != ExitCode::kDone)
      throw SharedError(code, fmt::format("ftclip was stopped; its trials are in {}; run the same "
                                          "command again to go on",
                                          folder_));
    const Bytes bytes = comm_.from_root([&] {
      ByteWriter writer;
      writer.vector(trial_scores(read_result(file)));
      return writer.take();
    });
    ByteReader reader(bytes, "scores of ftclip");
    return candidate_scores(read_vector<double>(reader), bounds.size());
  }

  const Comm& comm_;
  Graph& graph_;
  const NamedModel& original_;
  const ProtectionJob& job_;
  const Dataset& images_;
  const std::string& folder_;
  at::Device device_;
};

}  // namespace

void search_by_trials(const Comm& comm, Graph& graph, const NamedModel& original,
                      const ProtectionJob& job, const Dataset& calibration,
                      const std::string& folder, at::Device device) {
  const Dataset images = hold_out(calibration).held_out.first(kMostImages);
  Search search(comm, graph, original, job, images, folder, device);
  int number = 0;
  for (NodeId id = 0; id < graph.size(); ++id)
    if (std::holds_alternative<BoundedActivation>(graph[id].op))
      search.of_site(id, fmt::format("{:03}", ++number));
}

}  // namespace sentinel
