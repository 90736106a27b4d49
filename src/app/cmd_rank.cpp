#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/campaign/ranking.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/harden.hpp"

namespace sentinel {
namespace {

class Rank : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("rank", "Importance of every convolution's channels");
    add_selection(*app, selection_);
    add_ranking(*app, ranking_);
    add_group_score(*app, group_score_);
    app->add_flag("--groups", groups_,
                  "Every channel group with all its convolutions, however many there are");
    add_channel_layers(*app, ranking_);
    add_compute(*app, compute_, 1);
    app->add_option("--output", output_, "Ranking file: .h5 for --ranking, or .csv to look at");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    RankingJob job;
    bool by_images = false;
    GroupScore group_score{};
    at::Device device = at::kCPU;
    comm.agree([&] {
      job = ranking_job(ranking_);
      by_images = ranks_by_images(job);
      group_score = group_score_of(group_score_);
      keep_channel_trials(job, context, output_);
      device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      std::vector<Output> outputs = channel_outputs(job);
      outputs.push_back(output());
      check_outputs(outputs, {selection_.checkpoint});
      return Bytes();
    });
    const NamedModel model = load_model(comm, selection_);
    if (by_images) look_at_training_images(comm, model, selection_, device);
    const ChannelScores scores = channel_scores(comm, model, selection_, job, device);
    comm.from_root([&] {
      RankingFile ranking = to_ranking(model.graph, job.importance, scores);
      ranking.model_sha256 = model.sha256;
      ranking.command = context.command;
      if (job.importance == "deepvigor") ranking.definition = definition_of(job.deepvigor);
      require_replaceable(output());
      if (!output_.empty()) write_ranking(output_, ranking);
      print(ranking, title_of(model));
      if (scored_whole(model.graph, scores))
        print_groups(group_orders(model.graph, scores, group_score));
      if (!output_.empty()) say("written to {}\n", output_);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  Output output() const {
    return {output_, is_ranking_table(output_) ? FileKind::kRankingTable : FileKind::kRanking};
  }

  void print(const RankingFile& ranking, const std::string& title) const {
    std::vector<std::vector<std::string>> rows = {
        {"layer", "channels", "most important", "largest", "median", "smallest"}};
    const bool sampled = !ranking.layers.empty() && !ranking.layers[0].sample.trials.empty();
    if (sampled) rows[0].insert(rows[0].end(), {"+- at most", "accuracy %", "trials"});
    for (const ImportanceInfo& layer : ranking.layers) {
      const auto at = [&](std::size_t place) {
        return fmt::format("{:.4g}",
                           layer.scores.at(static_cast<std::size_t>(layer.order.at(place))));
      };
      const std::size_t last = layer.order.size() - 1;
      rows.push_back({layer.layer, std::to_string(layer.scores.size()), first_of(layer.order),
                      at(0), at(last / 2), at(last)});
      if (sampled) add_sample(layer.sample, rows.back());
    }
    say("{} of {}\n", ranking.method, title);
    print_table(rows);
  }

  /// What channel-FI knows of a layer beside the scores: the widest interval, the mean accuracy and
  /// all trials.
  static void add_sample(const ChannelSample& sample, std::vector<std::string>& row) {
    double widest = 0;
    for (std::size_t c = 0; c < sample.trials.size(); ++c)
      widest = std::max(widest, (sample.upper[c] - sample.lower[c]) / 2);
    const auto channels = static_cast<double>(sample.trials.size());
    const auto& accuracy = sample.accuracy;
    const auto trials =
        std::accumulate(sample.trials.begin(), sample.trials.end(), std::uint64_t{0});
    row.insert(row.end(),
               {fmt::format("{:.4f}", widest),
                percent(std::accumulate(accuracy.begin(), accuracy.end(), 0.0) / channels),
                with_spaces(static_cast<std::int64_t>(trials))});
  }

  /// Sorting and pruning go by groups, all of whose convolutions share one order.
  void print_groups(const std::vector<GroupOrder>& groups) const {
    say("\n{} channel groups, --group-score {}\n", groups.size(), group_score_);
    if (groups.size() > kGroupsShown && !groups_) {
      say("(--groups lists them)\n");
      return;
    }
    std::vector<std::vector<std::string>> rows = {
        {"group", "channels", "most important", "permutable"}};
    for (const GroupOrder& group : groups)
      rows.push_back({members(group), std::to_string(group.channels), first_of(group.order),
                      group.permutable ? "yes" : "no"});
    print_table(rows);
  }

  std::string members(const GroupOrder& group) const {
    const std::size_t shown = groups_ ? group.layers.size() : kMembersShown;
    if (group.layers.size() <= shown) return fmt::format("{}", fmt::join(group.layers, " "));
    const auto end = group.layers.begin() + static_cast<std::ptrdiff_t>(shown);
    return fmt::format("{} and {} more", fmt::join(group.layers.begin(), end, " "),
                       group.layers.size() - shown);
  }

  static std::string first_of(const std::vector<std::int64_t>& order) {
    const auto n = static_cast<std::ptrdiff_t>(std::min<std::size_t>(5, order.size()));
    return fmt::format("{}", fmt::join(order.begin(), order.begin() + n, " "));
  }

  /// A ranking of some layers only orders no group.
  static bool scored_whole(const Graph& graph, const ChannelScores& scores) {
    const auto is_conv = [](const Node& node) { return as_conv(node.op) != nullptr; };
    return std::count_if(graph.nodes().begin(), graph.nodes().end(), is_conv) ==
           static_cast<std::ptrdiff_t>(scores.size());
  }

  static constexpr std::size_t kGroupsShown = 20, kMembersShown = 3;

  ModelSelection selection_;
  RankingOptions ranking_;
  Compute compute_;
  std::string group_score_ = "mean", output_;
  bool groups_ = false;
};

}  // namespace

std::unique_ptr<Command> make_rank() {
  return std::make_unique<Rank>();
}

}  // namespace sentinel
