#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/print.hpp"
#include "app/protect_answer.hpp"
#include "app/recipe_table.hpp"
#include "app/stored_job.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/graph/outputs.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

class Protect : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    app_ = parent.add_subcommand(
        "protect", "Finds the best protection within budgets, proves it by faults, writes it");
    add_selection(*app_, selection_);
    app_->add_option("--ber", wish_.ber, "Probability that a stored bit flips, in (0, 1)");
    app_->add_option("--fault-target", target_,
                     "What may fail in memory: weight, bias, bn, bound, scale, check, or "
                     "parameters (all)")
        ->delimiter(',')
        ->default_str("parameters");
    add_number("--max-loss", max_loss_,
               "Points of accuracy, from the unprotected network without faults to the protected "
               "one at the rate");
    add_number("--memory", wish_.memory, "At most so much of the unprotected network's memory");
    add_number("--macs", wish_.macs, "At most so many of its MACs");
    add_number("--equal", equal_, "Points of accuracy that do not matter in the race");
    app_->add_option("--recipes", recipes_,
                     "TOML file of recipes, instead of the built-in ones: a table each, its keys "
                     "are options of `harden` and `prune`, and train-store");
    app_->add_option(
        "--method", method_,
        "One of these recipes alone: " + fmt::format("{}", fmt::join(method_names(), ", ")));
    add_images(*app_, images_, "test images of the confirmation");
    app_->add_option("--race-images", race_images_, "Only the first N images of the race (-1: all)")
        ->capture_default_str();
    add_whole(*app_, "--repeat", repeat_, "Trials of the confirmation");
    add_whole(*app_, "--seed", seed_, "Seed of the race's faults");
    app_->add_option("--batch-size", batch_size_, "Images per batch")->capture_default_str();
    app_->add_flag("--fresh", fresh_, "Throw away what an earlier call did and start over");
    add_compute(*app_, compute_, 1);
    app_->add_flag("--json", json_, "Print the answer as one JSON object");
    app_->add_option("--output", output_,
                     "Where the protected .pth goes; beside it OUTPUT.h5, the confirmation, "
                     "OUTPUT.json, the answer, and OUTPUT.race/");
    return app_;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    at::Device device = at::kCPU;
    const ProtectJob job = protect_job(context, device);
    const NamedModel original = unprotected_network(comm, job.selection);
    Answer answer = weigh(comm, original, job);
    const ExitCode code = prove(comm, original, job, device, answer);
    return code == ExitCode::kDone ? tell(comm, answer) : code;
  }

 private:
  void add_number(const std::string& name, double& value, const std::string& what) {
    app_->add_option(name, value, what)->capture_default_str();
  }

  // ---- what is asked for ------------------------------------------------------------------------

  /// What the options say.
  ProtectJob protect_job(const Context& context, at::Device& device) {
    const Comm& comm = context.comm;
    const std::string text = recipes_.empty() ? "" : read_job_text(comm, recipes_);
    ProtectJob job;
    comm.agree([&] {
      check();
      job = described(context);
      job.recipes = chosen_recipes(text);
      for (Recipe& recipe : job.recipes)
        keep_trials(recipe.protection, context, path_of({folder(), ""}, recipe));
      device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      check_outputs({{output_, FileKind::kCheckpoint},
                     {job.result, FileKind::kResult},
                     {output_ + ".json", FileKind::kAnswer}},
                    {selection_.checkpoint, recipes_});
      return Bytes();
    });
    return job;
  }

  /// All but the recipes.
  ProtectJob described(const Context& context) const {
    ProtectJob job;
    job.selection = selection_;
    job.wish = wish();
    job.targets = parse_targets(targets());
    job.by_name = !recipes_.empty() || !method_.empty();
    job.race_images = race_images_;
    job.images = images_;
    job.folder = folder();
    job.result = output_ + ".h5";
    job.command = context.command;
    job.fresh = fresh_;
    job.campaign = [this, &context](const ProtectCampaign& own) { return campaign(context, own); };
    return job;
  }

  /// A method that is asked for by name has no budgets but those given.
  Wish wish() const {
    Wish wish = wish_;
    for (const auto& [name, budget] :
         {std::pair{"--memory", &wish.memory}, std::pair{"--macs", &wish.macs}})
      if (!method_.empty() && app_->get_option(name)->count() == 0)
        *budget = std::numeric_limits<double>::infinity();
    wish.max_loss = max_loss_ / 100;
    wish.equal = equal_ / 100;
    wish.target = joined(targets());
    wish.seed = seed_;
    wish.trials = repeat_;
    return wish;
  }

  void check() const {
    require(!output_.empty(), "--output protected.pth is missing");
    require(wish_.ber > 0 && wish_.ber < 1,
            "--ber is missing or lies outside (0, 1): the probability that a bit flips, such as "
            "1e-3");
    require(max_loss_ >= 0 && max_loss_ <= 100,
            fmt::format("--max-loss {:g} lies outside [0, 100]; it is in points, such as 1",
                        max_loss_));
    require(
        equal_ > 0 && equal_ <= 100,
        fmt::format("--equal {:g} lies outside (0, 100]; it is in points, such as 0.5", equal_));
    for (const auto& [name, budget] :
         {std::pair{"--memory", wish_.memory}, std::pair{"--macs", wish_.macs}})
      require(budget > 0 && std::isfinite(budget),
              fmt::format("{} {:g} is no budget; give it relative to the unprotected network, such "
                          "as 0.5",
                          name, budget));
    require(repeat_ >= 2, "--repeat must be at least 2");
    require(images_ != 0 && race_images_ != 0 && images_ >= -1 && race_images_ >= -1,
            "--images and --race-images are 1 or more, or -1 for all");
    require(recipes_.empty() || method_.empty(),
            "--recipes and --method contradict each other; give one");
    for (const TensorClass target : parse_targets(targets()))
      require(!is_output(target), "--fault-target: protect is for faults in memory");
  }

  std::vector<std::string> targets() const {
    return target_.empty() ? std::vector<std::string>{"parameters"} : target_;
  }

  std::vector<Recipe> chosen_recipes(const std::string& text) const {
    if (!recipes_.empty()) return parse_recipes(recipes_, text);
    if (method_.empty()) return parse_recipes("built-in recipes", built_in_recipes());
    for (const std::string_view table : {built_in_recipes(), long_recipes()})
      for (Recipe& recipe : parse_recipes("built-in recipes", table))
        if (recipe.name == method_) return {std::move(recipe)};
    throw UserError(unknown_word("--method", method_, method_names()));
  }

  std::string folder() const { return output_ + ".race"; }

  // ---- campaigns --------------------------------------------------------------------------------

  /// The options of this command that campaigns have too, as they were given.
  std::vector<std::string> shared_words() const {
    std::vector<std::string> words;
    for (const char* name :
         {"--model", "--dataset", "--data", "--mean", "--std", "--skip-broken", "--checkpoint",
          "--weights-key", "--device", "--threads", "--share-gpu", "--batch-size"}) {
      const CLI::Option* option = app_->get_option(name);
      if (option->count() > 0) words.push_back(std::string(name) + "=" + joined(option->results()));
    }
    return words;
  }

  /// As if it were typed, so that `replay` runs its trials again.
  Job campaign(const Context& context, const ProtectCampaign& own) const {
    std::vector<std::string> words = shared_words();
    words.insert(words.end(),
                 {"--hardening-ratio=0", "--clipping=none", fmt::format("--ber={:.17g}", wish_.ber),
                  "--fault-target=" + joined(targets()), "--also"});
    for (const auto& [name, path] : own.networks) words.push_back(name + "=" + path);
    if (own.range)
      words.insert(words.end(),
                   {fmt::format("--trial-range={}:{}", own.range->begin, own.range->end),
                    "--faults-stored=no"});
    else
      words.push_back(fmt::format("--repeat={}", own.trials));
    words.insert(words.end(), {"--images-of=" + images_of_name(own.images_of),
                               fmt::format("--images={}", own.images),
                               fmt::format("--seed={}", own.seed), "--output=" + own.output});
    return typed_campaign(context, words);
  }

  // ---- the answer -------------------------------------------------------------------------------

  ExitCode tell(const Comm& comm, const Answer& answer) const {
    return code_of_root(comm, [&] {
      if (answer.winner >= 0) {
        const Candidate& chosen = answer.candidates.at(static_cast<std::size_t>(answer.winner));
        write_output({output_, FileKind::kCheckpoint},
                     read_file(path_of({folder(), ""}, chosen.recipe)));
      }
      std::error_code none;
      if (answer.winner < 0 && std::filesystem::exists(output_, none))
        spdlog::warn("{} is there from an earlier call, and not of this answer", output_);
      const std::string json = to_json(answer);
      ByteWriter writer;
      writer.text(json);
      write_output({output_ + ".json", FileKind::kAnswer}, writer.take());
      if (json_) {
        print_raw(json);
      } else {
        print_answer(answer);
        if (answer.winner >= 0) say("written to {}\n", output_);
      }
      return answer.met() ? ExitCode::kDone : ExitCode::kUnmet;
    });
  }

  CLI::App* app_ = nullptr;
  ModelSelection selection_;
  Wish wish_;
  std::vector<std::string> target_;
  double max_loss_ = 1, equal_ = 0.5;  // points
  std::string recipes_, method_, output_;
  std::int64_t images_ = -1, race_images_ = -1, batch_size_ = 32;
  std::uint64_t repeat_ = 500, seed_ = 1;
  Compute compute_;
  bool fresh_ = false, json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_protect() {
  return std::make_unique<Protect>();
}

}  // namespace sentinel
