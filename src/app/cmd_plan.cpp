#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/campaign/dry_run.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/io/normalisation.hpp"

namespace sentinel {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string number(double value) {
  return fmt::format("{:.4g}", value);
}

std::string count(double value) {
  return with_spaces(static_cast<std::int64_t>(std::llround(value)));
}

std::string bytes_text(double bytes) {
  if (bytes < 1 << 20) return fmt::format("{:.0f} KiB", bytes / (1 << 10));
  return fmt::format("{:.1f} MiB", bytes / (1 << 20));
}

std::string bytes_text(std::uint64_t bytes) {
  return bytes_text(static_cast<double>(bytes));
}

std::string time_text(double seconds) {
  if (seconds < 120) return fmt::format("{:.0f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

std::string name_of(const DryRun::Point& point) {
  return point.ber > 0 ? fmt::format("{:g} {}", point.ber, point.fault_model) : point.fault_model;
}

/// "bits" or "words": faults of some models hit whole words.
const char* sites_of(const Job& job) {
  return fault_model_of(job.faults).of_words() ? "words" : "bits";
}

bool flip_bits(const Job& job) {
  return job.faults.model.effect == Effect::kFlip;
}

/// Whether each image of a trial draws faults of its own.
bool has_own_faults(const Job& job) {
  return fault_model_of(job.faults).lifetime == Lifetime::kImage;
}

void print_layers(const DryRun& run, const Job& job) {
  const bool weights = job.faults.list.empty() && job.faults.targets == FaultsJob().targets;
  const bool flips = flip_bits(job) && job.faults.model.of_bits();
  Rows rows = {{weights ? "weights" : "tensor", sites_of(job), "MACs",
                flips ? "run for one flip" : "run for one fault"}};
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

void print_networks(const DryRun& run, const Job& job) {
  say("\n");
  for (const DryRun::Network& network : run.networks) {
    say("{} {} may {} in the {} network; {:.2f} ms per image, measured here\n",
        with_spaces(static_cast<std::int64_t>(network.bits)), sites_of(job),
        flip_bits(job) ? "flip" : "fail", network.name, 1e3 * network.seconds_per_image);
    if (!network.stored_types.empty())
      say("  they are bits of 32-bit fp32 words, converted from the file's {}\n",
          network.stored_types);
    say("  images normalised by {}\n", in_words(network.normalisation));
  }
  say("{} test images, {} per trial\n", run.images, run.images_per_trial);
}

void print_points(const DryRun& run, bool stops, int ranks) {
  Rows rows = {{"faults", "estimates", "faults/trial", "layers run", "audited", "trials",
                run.networks.size() > 1 ? "time per trial, all networks" : "time per trial",
                fmt::format("on {} rank{}", ranks, ranks == 1 ? "" : "s")}};
  for (const DryRun::Point& point : run.points)
    rows.push_back({name_of(point), point.estimand, number(point.faults),
                    percent(point.relative_cost) + " %", number(100 * point.audit_rate) + " %",
                    (stops ? "at most " : "") + std::to_string(point.trials),
                    fmt::format("{:.1f} ms", 1e3 * point.seconds),
                    time_text(point.seconds * static_cast<double>(point.trials) / ranks)});
  print_table(rows);
  for (const DryRun::Point& point : run.points)
    if (point.bits_hit)
      say("{}: events hit {} bits per bit that may fail and trial.\n", name_of(point),
          number(*point.bits_hit));
}

/// "10 or more" of an allocated plan, of which only the fewest are known.
void print_division(const DryRun::Point& point) {
  const char* more = point.pilot > 0 ? " or more" : "";
  Rows rows = {
      {"stratum", "share of the population", "cost", "trials", "half-width at most [points]"}};
  for (const DryRun::Stratum& stratum : point.strata)
    rows.push_back({stratum.name, number(stratum.weight), number(stratum.cost),
                    std::to_string(stratum.trials) + more,
                    fmt::format("{:.2f}", 100 * stratum.half_width)});
  say("\nStrata (--sampling {}), {}:\n", point.division, name_of(point));
  print_table(rows);
  say("Half-width: of the stratum's own interval, where half of its trials fail.\n");
  if (point.pilot > 0)
    say("{} trials are a pilot, which decides how many of the others each stratum gets.\n",
        point.pilot);
}

void print_strata(const DryRun::Point& point) {
  if (!point.division.empty()) return print_division(point);
  if (point.strata.size() < 2) return;
  Rows rows = {{"stratum", "share of the population", "cost"}};
  for (const DryRun::Stratum& stratum : point.strata)
    rows.push_back({stratum.name, number(stratum.weight), number(stratum.cost)});
  say("\nStrata (--sampling stratified, or --half-width), {}:\n", name_of(point));
  print_table(rows);
}

std::string range_text(const DryRun::Range& range, const std::function<std::string(double)>& text) {
  if (range.low == range.high) return text(range.median);
  return text(range.median) + " (" + text(range.low) + " to " + text(range.high) + ")";
}

/// One population: trials or half-width, time, and disk.
std::vector<std::string> outlook_row(const DryRun& run, const DryRun::Point& point,
                                     const DryRun::Outlook& outlook, bool stops, int ranks) {
  std::vector<std::string> row = {number(100 * outlook.supposed) + " %",
                                  number(100 * outlook.failing) + " %"};
  const bool ends = std::isfinite(outlook.trials.median);
  const double trials = ends ? outlook.trials.median : static_cast<double>(outlook.most);
  const auto trials_text = [&](double value) {
    const std::string most = count(static_cast<double>(outlook.most));
    return std::isfinite(value) ? count(value) : "more than " + most;
  };
  const auto points = [](double share) { return fmt::format("{:.3f}", 100 * share); };
  const std::string more = ends ? "" : "more than ";
  row.push_back(stops ? range_text(outlook.trials, trials_text)
                      : range_text(outlook.half_width, points));
  if (!stops) return row;
  row.push_back(more + time_text(trials * point.seconds / ranks));
  const double result = static_cast<double>(run.result_bytes) + trials * point.result_bytes;
  row.push_back(more + bytes_text(result));
  row.push_back(more + bytes_text(trials * point.journal_bytes + 2 * result));
  return row;
}

/// "Trials until +- 1 points", "Half-width after 1 000 trials"
std::string what_is_told(const DryRun::Point& point, const Job& job) {
  if (job.precision.stops())
    return fmt::format("Trials until +- {:g} points", 100 * job.precision.half_width);
  const std::uint64_t trials = point.outlooks.front().most;
  return fmt::format("Half-width after {}{} trials", count(static_cast<double>(trials)),
                     trials < point.trials ? " of the" : "");
}

void print_outlooks(const DryRun& run, const DryRun::Point& point, const Job& job, int ranks) {
  if (point.bound) {
    say("\n{}: no trial is needed. In all but {} % of them every word is read right.\n",
        name_of(point), number(100 * *point.bound));
    return;
  }
  for (const auto& [network, bound] : point.bounded)
    say("\n{}, {}: its trials are not needed. In all but {} % of them every word is read right.\n",
        name_of(point), network, number(100 * bound));
  if (point.outlooks.empty()) return;
  const bool stops = job.precision.stops();
  Rows rows = {{point.supposed, has_own_faults(job) ? "failing images" : "failing trials"}};
  if (stops)
    for (const char* head : {"trials", "time", "result file", "disk while it runs"})
      rows[0].push_back(head);
  else
    rows[0].push_back("half-width [points]");
  for (const DryRun::Outlook& outlook : point.outlooks)
    rows.push_back(outlook_row(run, point, outlook, stops, ranks));
  say("\n{}, {}, {:g} % confidence, {}:\n", what_is_told(point, job),
      point.estimand == "T1" ? "failing images" : "accuracy", 100 * job.precision.confidence,
      name_of(point));
  print_table(rows);
}

bool any_supposed(const DryRun& run, const std::string& word) {
  return std::any_of(run.points.begin(), run.points.end(), [&](const DryRun::Point& point) {
    return point.supposed.rfind(word, 0) == 0;
  });
}

void print_suppositions(const DryRun& run, const Job& job) {
  if (std::all_of(run.points.begin(), run.points.end(),
                  [](const DryRun::Point& point) { return point.bound.has_value(); }))
    return;
  if (run.points.front().outlooks.empty()) return;  // of a list
  say("Simulated by the code with which a run decides, 21 times each (fewer of many trials): the "
      "median (and the range of 19 of 21).\n"
      "Supposed: {}. Fault-free accuracy {} % (of the {} network on the first {} images).\n",
      has_own_faults(job) ? "every image fails by itself" : "in a trial all images fail, or none",
      percent(run.accuracy), run.networks.front().name, run.accuracy_images);
  if (any_supposed(run, "critical flips"))
    say("A critical flip is one of bit 30 where it is 0. Other flips never fail.\n");
  if (any_supposed(run, "critical misreads"))
    say("A critical misread is the highest exponent bit read as 1 where it is 0. Other flips never "
        "fail.\n");
  if (any_supposed(run, "words")) say("Words that are read right never fail.\n");
  if (any_supposed(run, "flips of ")) say("Flips of other bits never fail.\n");
  if (run.networks.size() > 1)
    say("All {} networks fail as often; the run ends when the last is narrow enough.\n",
        run.networks.size());
}

void print_disk(const DryRun& run) {
  double result = static_cast<double>(run.result_bytes), journals = 0;
  for (const DryRun::Point& point : run.points) {
    result += static_cast<double>(point.trials) * point.result_bytes;
    journals += static_cast<double>(point.trials) * point.journal_bytes;
  }
  say("Disk: the result file {}, and while it runs {} (journals, and two copies of it).\n",
      bytes_text(result), bytes_text(journals + 2 * result));
}

std::uint64_t peak_bytes(const DryRun& run) {
  return run.program_bytes + run.fault_bytes + run.network_bytes + run.image_bytes +
         run.cache_bytes;
}

void print_memory(const DryRun& run, int ranks) {
  const std::uint64_t peak = peak_bytes(run), other = peak - run.less_elsewhere;
  say("Memory at the peak: {} on rank 0", bytes_text(peak));
  if (ranks > 1)
    say(", {} on each other; all {} ranks {}", bytes_text(other), ranks,
        bytes_text(peak + static_cast<std::uint64_t>(ranks - 1) * other));
  say(".\n  program with its libraries, networks and images as loaded (measured here): {}\n"
      "  faults of the trials that are run together: {}\n"
      "  the engine's copies of networks: {}\n  … of images: {}\n"
      "  fault-free activations (--cache-budget): {}\n",
      bytes_text(run.program_bytes), bytes_text(run.fault_bytes), bytes_text(run.network_bytes),
      bytes_text(run.image_bytes), bytes_text(run.cache_bytes));
  if (run.on_gpu) say("  The last three lie in the GPU's memory.\n");
}

nlohmann::json to_json(const DryRun::Range& range) {
  return {{"low", range.low}, {"median", range.median}, {"high", range.high}};  // infinity: null
}

nlohmann::json to_json(const DryRun::Point& point) {
  nlohmann::json own = {{"fault_model", point.fault_model},
                        {"estimand", point.estimand},
                        {"ber", point.ber},
                        {"faults", point.faults},
                        {"relative_cost", point.relative_cost},
                        {"audit_rate", point.audit_rate},
                        {"seconds_per_trial", point.seconds},
                        {"result_bytes_per_trial", point.result_bytes},
                        {"journal_bytes_per_trial", point.journal_bytes},
                        {"fault_bytes", point.fault_bytes},
                        {"trials", point.trials},
                        {"supposed", point.supposed}};
  if (point.bound) own["bound"] = *point.bound;
  for (const auto& [network, bound] : point.bounded) own["bounds"][network] = bound;
  if (point.bits_hit) own["bits_hit_per_bit"] = *point.bits_hit;
  for (const DryRun::Stratum& stratum : point.strata) {
    own["strata"].push_back(
        {{"name", stratum.name}, {"weight", stratum.weight}, {"cost", stratum.cost}});
    if (!point.division.empty())
      own["strata"].back().update({{"trials", stratum.trials}, {"half_width", stratum.half_width}});
  }
  if (!point.division.empty()) own.update({{"division", point.division}, {"pilot", point.pilot}});
  for (const DryRun::Outlook& outlook : point.outlooks) {
    own["outlooks"].push_back({{"supposed", outlook.supposed},
                               {"failing", outlook.failing},
                               {"simulations", outlook.simulations},
                               {"most", outlook.most},
                               {"trials", to_json(outlook.trials)},
                               {"half_width", to_json(outlook.half_width)}});
  }
  return own;
}

nlohmann::json to_json(const DryRun& run) {
  nlohmann::json json = {{"network", run.networks.front().name},
                         {"bits", run.networks.front().bits},
                         {"mean", run.networks.front().normalisation.mean},
                         {"std", run.networks.front().normalisation.std},
                         {"images", run.images},
                         {"images_per_trial", run.images_per_trial},
                         {"seconds_per_image", run.networks.front().seconds_per_image},
                         {"accuracy", run.accuracy},
                         {"accuracy_images", run.accuracy_images},
                         {"peak_bytes", peak_bytes(run)},
                         {"less_elsewhere_bytes", run.less_elsewhere},
                         {"program_bytes", run.program_bytes},
                         {"network_bytes", run.network_bytes},
                         {"image_bytes", run.image_bytes},
                         {"cache_bytes", run.cache_bytes},
                         {"fault_bytes", run.fault_bytes},
                         {"result_bytes", run.result_bytes}};
  for (const DryRun::Network& network : run.networks) {
    json["networks"].push_back({{"name", network.name},
                                {"bits", network.bits},
                                {"mean", network.normalisation.mean},
                                {"std", network.normalisation.std},
                                {"seconds_per_image", network.seconds_per_image}});
    if (!network.stored_types.empty())
      json["networks"].back()["stored_types"] = network.stored_types;
  }
  for (const DryRun::Layer& layer : run.layers)
    json["layers"].push_back({{"name", layer.name},
                              {"bits", layer.bits},
                              {"macs", layer.macs},
                              {"one_channel", layer.one_channel},
                              {"faults", layer.faults}});
  for (const DryRun::Point& point : run.points) json["points"].push_back(to_json(point));
  return json;
}

class Plan : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "plan", "What an injection would do: faults per layer, strata, trials, time, memory, disk");
    add_selection(*app, job_.selection);
    add_seed_checkpoint(*app, job_.selection);
    add_also(*app, job_);
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
      json_ ? say_json(to_json(run)) : print(run, comm.size());
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  void print(const DryRun& run, int ranks) const {
    const bool stops = job_.precision.stops();
    print_layers(run, job_);
    print_networks(run, job_);
    print_points(run, stops, ranks);
    for (const DryRun::Point& point : run.points) print_strata(point);
    for (const DryRun::Point& point : run.points) print_outlooks(run, point, job_, ranks);
    print_suppositions(run, job_);
    say("\nTimes: from the MACs that the faults can reach.\n");
    if (!stops) print_disk(run);
    print_memory(run, ranks);
    say("Not counted: networks that `campaign` makes. Each (pruned, hardened) takes about as much "
        "again in time, memory and disk; make it first and give it by --also to have it "
        "counted.\n");
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
