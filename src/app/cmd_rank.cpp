#include <fmt/format.h>

#include <algorithm>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "sentinel/campaign/setup.hpp"

namespace sentinel {
namespace {

class Rank : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("rank", "Importance of every convolution's channels");
    add_selection(*app, selection_);
    add_ranking(*app, ranking_);
    add_compute(*app, compute_, 0);
    app->add_option("--output", output_, "Ranking file: .h5 for --ranking, or .csv to look at");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    RankingJob job;
    at::Device device = at::kCPU;
    comm.agree([&] {
      job = ranking_job(ranking_);
      device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      require_writable(output_);
      return Bytes();
    });
    const NamedModel model = load_model(comm, selection_);
    const ChannelScores scores = channel_scores(comm, model, selection_, job, device);
    comm.from_root([&] {
      RankingFile ranking = to_ranking(model.graph, job.importance, scores);
      ranking.model_sha256 = model.sha256;
      ranking.command = context.command;
      if (!output_.empty()) write_ranking(output_, ranking);
      print(ranking);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print(const RankingFile& ranking) const {
    std::vector<std::vector<std::string>> rows = {
        {"layer", "channels", "most important", "largest", "median", "smallest"}};
    for (const ImportanceInfo& layer : ranking.layers) {
      std::string top;
      for (std::size_t i = 0; i < std::min<std::size_t>(5, layer.order.size()); ++i)
        top += (i ? " " : "") + std::to_string(layer.order[i]);
      const auto at = [&](std::size_t place) {
        return fmt::format("{:.4g}",
                           layer.scores.at(static_cast<std::size_t>(layer.order.at(place))));
      };
      const std::size_t last = layer.order.size() - 1;
      rows.push_back(
          {layer.layer, std::to_string(layer.scores.size()), top, at(0), at(last / 2), at(last)});
    }
    fmt::print("{} of {}\n", ranking.method, ranking.architecture);
    print_table(rows);
    if (!output_.empty()) fmt::print("written to {}\n", output_);
  }

  ModelSelection selection_;
  RankingOptions ranking_;
  Compute compute_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> make_rank() {
  return std::make_unique<Rank>();
}

}  // namespace sentinel
