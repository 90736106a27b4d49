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
#include "sentinel/campaign/campaign.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/word_table.hpp"
#include "sentinel/graph/outputs.hpp"
#include "sentinel/networks/device.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

/// Budgets hold to the three digits that are printed.
constexpr double kPrinted = 0.0005;

/// Seeds of races that users choose lie near each other.
constexpr std::uint64_t kToConfirmation = 1'000'000'000;

void require(bool holds, const std::string& message) {
  if (!holds) throw UserError(message);
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

Interval accuracy_of(const ResultFile& result, std::int32_t model) {
  for (const EstimateRow& row : result.estimates)
    if (row.model == model && row.against < 0 && row.quantity == "accuracy")
      return {row.estimate, row.lower, row.upper, row.confidence, row.method, row.trials};
  throw Bug("a complete campaign has no accuracy");
}

double fault_free(const ModelInfo& model) {
  return static_cast<double>(model.correct) / static_cast<double>(model.images);
}

/// Which images decide, and which confirm.
struct Images {
  bool training = true;                        // whether there are training images
  std::string race, confirmation;              // words of --images-of
  std::string race_words, confirmation_words;  // for people
};

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
    app_->add_option("--method", method_, "One built-in recipe alone, such as seed or secded");
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
    Answer answer;
    begin(context, answer, device);
    const NamedModel original = load_original(comm);
    const std::string dataset =
        selection_.dataset.empty() ? original.graph.dataset : selection_.dataset;
    answer.wish.dataset = dataset;
    answer.wish.network_sha256 = original.sha256;
    const Images images = images_for(comm, dataset);
    weigh(comm, original, dataset, images, answer);
    comm.agree([&] { require_own_name(original, answer); });
    if (racing(answer).empty()) return tell(comm, answer);
    make_networks(context, original, answer, device);
    if (racing(answer).size() > 1) answer.race_images = images.race_words;
    answer.confirmation_images = images.confirmation_words;
    ExitCode code = race(context, images, answer);
    if (code == ExitCode::kDone) code = confirm(context, images, answer);
    return code == ExitCode::kDone ? tell(comm, answer) : code;
  }

 private:
  void add_number(const std::string& name, double& value, const std::string& what) {
    app_->add_option(name, value, what)->capture_default_str();
  }

  // ---- what is asked for ------------------------------------------------------------------------

  void begin(const Context& context, Answer& answer, at::Device& device) {
    const Comm& comm = context.comm;
    const std::string text = recipes_.empty() ? "" : read_job_text(comm, recipes_);
    comm.agree([&] {
      check();
      // A method that is asked for by name has no budgets but those given.
      for (const auto& [name, budget] :
           {std::pair{"--memory", &wish_.memory}, std::pair{"--macs", &wish_.macs}})
        if (!method_.empty() && app_->get_option(name)->count() == 0)
          *budget = std::numeric_limits<double>::infinity();
      answer.wish = wish_;
      answer.wish.target = joined(targets());
      answer.wish.seed = seed_;
      answer.wish.trials = repeat_;
      for (Recipe& recipe : chosen_recipes(text)) {
        keep_trials(recipe.protection, context, path_of(place(context), recipe));
        answer.candidates.push_back({std::move(recipe), {}, ""});
      }
      device = choose_device(comm, resolved(compute_, comm));
    });
    comm.from_root([&] {
      check_outputs({{output_, FileKind::kCheckpoint},
                     {result(), FileKind::kResult},
                     {output_ + ".json", FileKind::kAnswer}},
                    {selection_.checkpoint, recipes_});
      return Bytes();
    });
  }

  void check() {
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
    wish_.max_loss = max_loss_ / 100;
    wish_.equal = equal_ / 100;
  }

  std::vector<std::string> targets() const {
    return target_.empty() ? std::vector<std::string>{"parameters"} : target_;
  }

  std::vector<Recipe> chosen_recipes(const std::string& text) const {
    if (!recipes_.empty()) return parse_recipes(recipes_, text);
    if (method_.empty()) return parse_recipes("built-in recipes", built_in_recipes());
    std::vector<std::string> known;
    for (const std::string_view table : {built_in_recipes(), long_recipes()})
      for (Recipe& recipe : parse_recipes("built-in recipes", table)) {
        if (recipe.name == method_) return {std::move(recipe)};
        known.push_back(recipe.name);
      }
    throw UserError(unknown_word("--method", method_, known));
  }

  NamedModel load_original(const Comm& comm) const {
    NamedModel original = load_model(comm, selection_);
    comm.agree([&] {
      require(steps_before_protection(original.graph).has_value(),
              selection_.checkpoint +
                  ": this network is protected already; protect starts from an unprotected one");
    });
    require_fault_free(comm, original);
    return original;
  }

  // ---- which recipes, which images --------------------------------------------------------------

  /// ImageNet's training images would all have to be decoded for their last tenth.
  Images images_for(const Comm& comm, const std::string& dataset) const {
    const auto numbered = [](std::int64_t first, const std::string& of) {
      return first < 0 ? of : fmt::format("the first {} of {}", first, of);
    };
    const bool training = has_training_images(comm, dataset);
    if (dataset != "imagenet" && training)
      return {training, "held-out", "test",
              numbered(race_images_, "the last tenth of the training images"),
              numbered(images_, "the test images")};
    if (comm.rank() == 0) spdlog::warn("half of the test images decides, the other half confirms");
    return {training, "first-half", "second-half",
            numbered(race_images_, "the first half of the test images"),
            numbered(images_, "the second half of the test images")};
  }

  bool has_training_images(const Comm& comm, const std::string& dataset) const {
    try {
      load_dataset(comm, selection_, dataset, Split::kTrain, 1);
      return true;
    } catch (const SharedError& error) {
      if (error.code() != ExitCode::kData) throw;
      if (comm.rank() == 0) spdlog::warn("there are no training images: {}", error.what());
      return false;
    }
  }

  /// Costs, and who takes part.
  void weigh(const Comm& comm, const NamedModel& original, const std::string& dataset,
             const Images& images, Answer& answer) const {
    std::vector<Recipe> recipes;
    for (const Candidate& own : answer.candidates) recipes.push_back(own.recipe);
    const std::vector<RecipeCost> costs = recipe_costs(comm, original, dataset, recipes);
    for (std::size_t i = 0; i < costs.size(); ++i) {
      Candidate& own = answer.candidates[i];
      own.cost = costs[i];
      if (!own.cost.unfit.empty())
        own.left_out = own.cost.unfit;
      else if (own.cost.memory > wish_.memory + kPrinted)
        own.left_out = "too much memory";
      else if (own.cost.macs > wish_.macs + kPrinted)
        own.left_out = "too many MACs";
      else if (!images.training && needs_training_images(own.recipe))
        own.left_out = "needs training images";
      require_possible(own, images);
    }
    if (comm.rank() == 0)
      spdlog::info("{} of {} recipes take part", racing(answer).size(), answer.candidates.size());
  }

  /// What a user asked for by name is not left out in silence.
  void require_possible(const Candidate& own, const Images& images) const {
    if (recipes_.empty() && method_.empty()) return;
    const std::string recipe = "recipe " + own.recipe.name;
    if (!own.cost.unfit.empty())
      throw SharedError(ExitCode::kUsage, recipe + ": " + own.cost.unfit);
    if (!images.training && needs_training_images(own.recipe))
      throw SharedError(ExitCode::kData, recipe + " needs training images, and there are none");
  }

  std::vector<std::size_t> racing(const Answer& answer) const {
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < answer.candidates.size(); ++i)
      if (answer.candidates[i].left_out.empty()) all.push_back(i);
    return all;
  }

  // ---- networks ---------------------------------------------------------------------------------

  std::string folder() const { return output_ + ".race"; }
  std::string result() const { return output_.empty() ? "" : output_ + ".h5"; }

  RecipePlace place(const Context& context) const { return {folder(), context.command, fresh_}; }

  /// Networks of a campaign differ in their names.
  void require_own_name(const NamedModel& original, const Answer& answer) const {
    for (const Candidate& own : answer.candidates)
      if (own.recipe.name == original.name)
        throw UserError("the network is called '" + original.name +
                        "' as a recipe is; copy its file to one of another name");
  }

  /// The folder is this race's: its first call says so in it. Files of others, and of another race,
  /// stay as they are.
  void claim_folder(const Answer& answer) const {
    const Wish& wish = answer.wish;
    const std::string race = fmt::format(
        "network {}\ndataset {}\nber {:.17g}\nfault-target {}\nseed {}\nrace-images {}\n",
        wish.network_sha256, wish.dataset, wish.ber, wish.target, wish.seed, race_images_);
    const std::string path = folder() + "/race.txt";
    std::error_code none;
    if (std::filesystem::exists(folder(), none) && !std::filesystem::exists(path, none) &&
        !std::filesystem::is_empty(folder(), none))
      throw UserError(folder() + " is there and not of protect; give another --output");
    if (std::filesystem::exists(path, none) && !fresh_) {
      const Bytes stored = read_file(path);
      if (std::string(reinterpret_cast<const char*>(stored.data()), stored.size()) != race)
        throw UserError(folder() +
                        " belongs to another race (of another network, --ber, --fault-target, "
                        "--seed or --race-images); give --fresh to start over, or another "
                        "--output");
    }
    std::filesystem::create_directories(folder());
    ByteWriter writer;
    writer.text(race);
    write_file_atomic(path, writer.take());
  }

  void make_networks(const Context& context, const NamedModel& original, const Answer& answer,
                     at::Device device) const {
    context.comm.from_root([&] {
      claim_folder(answer);
      return Bytes();
    });
    RecipePlace own = place(context);
    for (const std::size_t i : racing(answer))
      make_recipe(context.comm, original, selection_, answer.candidates[i].recipe, own, device);
  }

  // ---- trials -----------------------------------------------------------------------------------

  /// The options of this command that campaigns have too, as they were given.
  std::vector<std::string> shared_words() const {
    std::vector<std::string> words;
    for (const char* name :
         {"--model", "--dataset", "--data", "--mean", "--std", "--skip-broken", "--checkpoint",
          "--weights-key", "--device", "--threads", "--share-gpu", "--batch-size", "--fresh"}) {
      const CLI::Option* option = app_->get_option(name);
      if (option->count() > 0) words.push_back(std::string(name) + "=" + joined(option->results()));
    }
    return words;
  }

  /// A campaign on the original and recipes of these numbers.
  Job campaign(const Context& context, const Answer& answer, const std::vector<std::size_t>& which,
               const std::vector<std::string>& own) const {
    std::vector<std::string> words = shared_words();
    words.insert(words.end(),
                 {"--hardening-ratio=0", "--clipping=none", fmt::format("--ber={:.17g}", wish_.ber),
                  "--fault-target=" + joined(targets())});
    words.push_back("--also");
    for (const std::size_t i : which) {
      const Recipe& recipe = answer.candidates.at(i).recipe;
      words.push_back(recipe.name + "=" + path_of(place(context), recipe));
    }
    words.insert(words.end(), own.begin(), own.end());
    return typed_campaign(context, words);
  }

  ExitCode race(const Context& context, const Images& images, Answer& answer) const {
    const std::vector<std::size_t> all = racing(answer);
    RaceOptions options;
    options.equal = wish_.equal;
    for (const std::size_t i : all) options.costs.push_back(answer.candidates[i].cost.memory);
    const auto job_of = [&](const RaceRound& round) {
      std::vector<std::size_t> which;
      for (const std::size_t i : round.remaining) which.push_back(all.at(i));
      return campaign(context, answer, which,
                      {fmt::format("--trial-range={}:{}", round.trials.begin, round.trials.end),
                       "--images-of=" + images.race, fmt::format("--images={}", race_images_),
                       fmt::format("--seed={}", seed_), "--faults-stored=no",
                       fmt::format("--output={}/round{}.h5", folder(), round.number)});
    };
    const RaceReport report = run_race(context.comm, options, job_of);
    if (report.code != ExitCode::kDone) return report.code;
    for (std::size_t k = 0; k < all.size(); ++k) answer.candidates[all[k]].raced = report.raced[k];
    answer.winner = static_cast<int>(all.at(report.winner));
    answer.decided = report.decided;
    return ExitCode::kDone;
  }

  ExitCode confirm(const Context& context, const Images& images, Answer& answer) const {
    const Comm& comm = context.comm;
    Job job;
    comm.agree([&] {
      job = campaign(context, answer, {static_cast<std::size_t>(answer.winner)},
                     {fmt::format("--repeat={}", repeat_), "--images-of=" + images.confirmation,
                      fmt::format("--images={}", images_),
                      fmt::format("--seed={}", seed_ + kToConfirmation), "--output=" + result()});
    });
    const ExitCode code = run_campaign(comm, job);
    if (code != ExitCode::kDone) return code;
    comm.from_root([&] {
      const ResultFile found = read_result(result());
      Confirmed& own = answer.confirmed;
      own.fault_free = fault_free(found.info.models.at(0));
      own.original = accuracy_of(found, 0);
      own.chosen = accuracy_of(found, 1);
      own.chosen_without_faults.estimate = fault_free(found.info.models.at(1));
      return Bytes();
    });
    return ExitCode::kDone;
  }

  // ---- the answer -------------------------------------------------------------------------------

  ExitCode tell(const Comm& comm, const Answer& answer) const {
    return code_of_root(comm, [&] {
      if (answer.winner >= 0) {
        const Candidate& chosen = answer.candidates.at(static_cast<std::size_t>(answer.winner));
        write_output({output_, FileKind::kCheckpoint},
                     read_file(path_of({folder(), "", false}, chosen.recipe)));
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
