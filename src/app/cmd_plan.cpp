#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "sentinel/campaign/dry_run.hpp"
#include "sentinel/campaign/setup.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

std::string number(double value) {
  return fmt::format("{:.4g}", value);
}

std::string bytes_text(std::uint64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

std::string time_text(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

/// With its share of the audits, each of which runs a trial by either path.
double seconds_per_trial(const DryRun& run, const DryRun::Point& point) {
  const double networks = point.relative_cost + point.audit_rate * (1 + point.relative_cost);
  return networks * static_cast<double>(run.images_per_trial) * run.seconds_per_image;
}

void print_layers(const DryRun& run) {
  std::vector<std::vector<std::string>> rows = {{"weights", "bits", "MACs", "run for one flip"}};
  for (const DryRun::Point& point : run.points)
    rows[0].push_back(point.ber > 0 ? fmt::format("faults/trial at {:g}", point.ber)
                                    : "faults/trial, " + point.fault_model);
  for (const DryRun::Layer& layer : run.layers) {
    rows.push_back({layer.name, with_spaces(static_cast<std::int64_t>(layer.bits)),
                    with_spaces(layer.macs), percent(layer.one_channel) + " %"});
    for (const double faults : layer.faults) rows.back().push_back(number(faults));
  }
  print_table(rows);
}

void print_strata(const DryRun::Point& point) {
  if (point.strata.size() < 2) return;
  std::vector<std::vector<std::string>> rows = {{"stratum", "share of the population", "cost"}};
  for (const DryRun::Stratum& stratum : point.strata)
    rows.push_back({stratum.name, number(stratum.weight), number(stratum.cost)});
  fmt::print("\nStrata (--sampling stratified, or --half-width), {} {}:\n", point.fault_model,
             point.ber > 0 ? number(point.ber) : "");
  print_table(rows);
}

/// Trials that a half-width takes by simple sampling, for some standard deviations of a trial.
void print_trials(const DryRun& run, const DryRun::Point& point, const Job& job, int ranks) {
  std::vector<std::vector<std::string>> rows = {
      {"share of failing images, all or none in a trial", "simple trials", "time"}};
  for (const double share : {0.5, 0.1, 0.02, 0.01}) {
    // Images of a trial that fail together spread most.
    const std::uint64_t trials =
        trials_for(job.half_width, std::sqrt(share * (1 - share)), job.confidence);
    rows.push_back(
        {number(share), with_spaces(static_cast<std::int64_t>(trials)),
         time_text(static_cast<double>(trials) * seconds_per_trial(run, point) / ranks)});
  }
  fmt::print("\nFor +- {:g} at {:g} % confidence by simple sampling at most ({} {}):\n",
             job.half_width, 100 * job.confidence, point.fault_model,
             point.ber > 0 ? number(point.ber) : "");
  print_table(rows);
}

nlohmann::json to_json(const DryRun& run) {
  nlohmann::json json = {{"network", run.network},
                         {"bits", run.bits},
                         {"mean", run.normalisation.mean},
                         {"std", run.normalisation.std},
                         {"images", run.images},
                         {"images_per_trial", run.images_per_trial},
                         {"seconds_per_image", run.seconds_per_image},
                         {"network_bytes", run.network_bytes},
                         {"image_bytes", run.image_bytes},
                         {"cache_bytes", run.cache_bytes}};
  if (!run.stored_types.empty()) json["stored_types"] = run.stored_types;
  for (const DryRun::Layer& layer : run.layers)
    json["layers"].push_back({{"name", layer.name},
                              {"bits", layer.bits},
                              {"macs", layer.macs},
                              {"one_channel", layer.one_channel},
                              {"faults", layer.faults}});
  for (const DryRun::Point& point : run.points) {
    nlohmann::json own = {{"fault_model", point.fault_model},
                          {"estimand", point.estimand},
                          {"ber", point.ber},
                          {"faults", point.faults},
                          {"relative_cost", point.relative_cost},
                          {"audit_rate", point.audit_rate},
                          {"seconds_per_trial", seconds_per_trial(run, point)},
                          {"trials", point.trials}};
    for (const DryRun::Stratum& stratum : point.strata)
      own["strata"].push_back(
          {{"name", stratum.name}, {"weight", stratum.weight}, {"cost", stratum.cost}});
    json["points"].push_back(own);
  }
  return json;
}

class Plan : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "plan", "What an injection would do: faults per layer, strata, trials, time, memory");
    add_selection(*app, job_.selection);
    add_seed_checkpoint(*app, job_.selection);
    add_injection(*app, job_, injection_);
    add_compute(*app, job_.compute, 1);
    app->add_flag("--json", json_, "Print one JSON object");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    comm.agree([&] {
      finish_injection(injection_, job_);
      job_.compute = resolved(job_.compute, comm);
      if (job_.output.empty()) job_.output = "result.h5";  // nothing is written
      validate(job_);
    });
    const DryRun run = dry_run(comm, job_);
    comm.from_root([&] {
      json_ ? fmt::print("{}\n", to_json(run).dump()) : print(run, comm.size());
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print(const DryRun& run, int ranks) const {
    print_layers(run);
    fmt::print("\n{} bits may flip in the {} network; {} test images, {} per trial\n",
               with_spaces(static_cast<std::int64_t>(run.bits)), run.network, run.images,
               run.images_per_trial);
    fmt::print("images normalised by {}\n", in_words(run.normalisation));
    if (!run.stored_types.empty())
      fmt::print("They are bits of 32-bit fp32 words, converted from the file's {}\n",
                 run.stored_types);
    std::vector<std::vector<std::string>> rows = {
        {"faults", "estimates", "faults/trial", "layers run", "audited", "trials", "time per trial",
         fmt::format("on {} rank{}", ranks, ranks == 1 ? "" : "s")}};
    for (const DryRun::Point& point : run.points) {
      const double seconds = seconds_per_trial(run, point);
      rows.push_back(
          {point.ber > 0 ? fmt::format("{:g} {}", point.ber, point.fault_model) : point.fault_model,
           point.estimand, number(point.faults), percent(point.relative_cost) + " %",
           number(100 * point.audit_rate) + " %",
           (job_.half_width > 0 ? "at most " : "") + std::to_string(point.trials),
           fmt::format("{:.1f} ms", 1e3 * seconds),
           time_text(seconds * static_cast<double>(point.trials) / ranks)});
    }
    print_table(rows);
    for (const DryRun::Point& point : run.points) print_strata(point);
    if (job_.half_width > 0)
      for (const DryRun::Point& point : run.points) print_trials(run, point, job_, ranks);
    fmt::print(
        "\nTimes: MACs that the faults can reach, at {:.2f} ms per image measured here.\n"
        "Memory per rank beside the libraries: network {}, images {}, fault-free activations up to "
        "{} (--cache-budget).\n",
        1e3 * run.seconds_per_image, bytes_text(run.network_bytes), bytes_text(run.image_bytes),
        bytes_text(run.cache_bytes));
  }

  Job job_;
  InjectionOptions injection_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_plan() {
  return std::make_unique<Plan>();
}

}  // namespace sentinel
