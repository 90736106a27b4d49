#include "sentinel/campaign/protect.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include "sentinel/campaign/campaign.hpp"
#include "sentinel/campaign/trial_images.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/fault_space.hpp"
#include "sentinel/networks/load.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/store/file_lock.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/store/result_store.hpp"

namespace sentinel {
namespace {

/// Budgets hold to the three digits that are printed.
constexpr double kPrinted = 0.0005;

/// Seeds of races that users choose lie near each other.
constexpr std::uint64_t kToConfirmation = 1'000'000'000;

RecipePlace place_of(const ProtectJob& job) {
  return {job.folder, job.command};
}

RaceOptions race_options(const Answer& answer) {
  RaceOptions options;
  options.equal = answer.wish.equal;
  for (const std::size_t i : answer.racing())
    options.costs.push_back(answer.candidates[i].cost.memory);
  return options;
}

// ---- who takes part -------------------------------------------------------------------------

/// Networks of a campaign differ in their names.
void require_own_name(const NamedModel& original, const std::vector<Recipe>& recipes) {
  for (const Recipe& recipe : recipes)
    if (recipe.name == original.name)
      throw UserError("the network is called '" + original.name +
                      "' as a recipe is; copy its file to one of another name");
}

/// Else nothing is better than no protection.
void require_faults(const NamedModel& original, const ProtectJob& job) {
  Selection selection;
  selection.targets = job.targets;
  if (FaultSpace(original.graph, selection).sites() == 0)
    throw UserError(spelled(Setting::kFaultTarget) + " " + job.wish.target +
                    ": the unprotected network has nothing of it, so that it never fails; add "
                    "what it stores, such as weight");
}

bool has_training_images(const Comm& comm, const ModelSelection& selection,
                         const std::string& dataset) {
  try {
    load_dataset(comm, selection, dataset, Split::kTrain, 1);
    return true;
  } catch (const SharedError& error) {
    if (error.code() != ExitCode::kData) throw;
    if (comm.rank() == 0) spdlog::warn("there are no training images: {}", error.what());
    return false;
  }
}

/// ImageNet's training images would all have to be decoded for their last tenth.
void choose_images(const Comm& comm, bool training, Answer& answer) {
  if (answer.wish.dataset != "imagenet" && training) return;
  if (comm.rank() == 0) spdlog::warn("half of the test images decides, the other half confirms");
  answer.race_of = ImagesOf::kFirstHalf;
  answer.confirmation_of = ImagesOf::kSecondHalf;
}

/// Why a recipe takes no part; empty: it does.
std::string obstacle(const Recipe& recipe, const RecipeCost& cost, const Wish& wish,
                     bool training) {
  if (!cost.unfit.empty()) return cost.unfit;
  if (!fits_memory(cost, wish)) return "too much memory";
  if (!fits_macs(cost, wish)) return "too many MACs";
  return !training && needs_training_images(recipe) ? "needs training images" : "";
}

/// What a user asked for by name is not left out in silence.
void require_possible(const Recipe& recipe, const RecipeCost& cost, bool training) {
  if (!cost.unfit.empty())
    throw SharedError(ExitCode::kUsage, "recipe " + recipe.name + ": " + cost.unfit);
  if (!training && needs_training_images(recipe))
    throw SharedError(ExitCode::kData,
                      "recipe " + recipe.name + " needs training images, and there are none");
}

// ---- campaigns ------------------------------------------------------------------------------

std::vector<std::pair<std::string, std::string>> files_of(const ProtectJob& job,
                                                          const Answer& answer,
                                                          const std::vector<std::size_t>& which) {
  std::vector<std::pair<std::string, std::string>> files;
  for (const std::size_t i : which) {
    const Recipe& recipe = answer.candidates.at(i).recipe;
    files.emplace_back(recipe.name, path_of(place_of(job), recipe));
  }
  return files;
}

std::string round_path(const ProtectJob& job, std::size_t number) {
  return fmt::format("{}/round{}.h5", job.folder, number);
}

/// `round.remaining`: numbers among the candidates.
Job round_of(const ProtectJob& job, const Answer& answer, const RaceRound& round) {
  ProtectCampaign own;
  own.networks = files_of(job, answer, round.remaining);
  own.images_of = answer.race_of;
  own.images = job.race_images;
  own.range = round.trials;
  own.seed = job.wish.seed;
  own.output = round_path(job, static_cast<std::size_t>(round.number));
  return job.campaign(own);
}

Job confirmation_of(const ProtectJob& job, const Answer& answer, std::size_t winner) {
  ProtectCampaign own;
  own.networks = files_of(job, answer, {winner});
  own.images_of = answer.confirmation_of;
  own.images = job.images;
  own.trials = job.wish.trials;
  own.seed = job.wish.seed + kToConfirmation;
  own.output = job.result;
  return job.campaign(own);
}

// ---- before anything is made ----------------------------------------------------------------

void require_enough_images(const Comm& comm, const ProtectJob& job, const Answer& answer) {
  const auto look = [&](ImagesOf of, std::int64_t images) {
    if (images > 0) trial_images(comm, job.selection, answer.wish.dataset, of, images);
  };
  if (answer.racing().size() > 1) look(answer.race_of, job.race_images);
  look(answer.confirmation_of, job.images);
}

constexpr char kMark[] = "race.txt";

std::string normalisation_in_words(const NamedModel& original, const Wish& wish) {
  return in_words(
      original.graph.normalisation.value_or(dataset_info(wish.dataset).normalisation()));
}

/// What tells a race from others. One recipe alone has no race.
std::string race_text(const ProtectJob& job, const NamedModel& original, const Answer& answer) {
  const Wish& wish = answer.wish;
  const std::vector<std::size_t> racing = answer.racing();
  std::string text = fmt::format(
      "network {}\ndataset {}\nnormalisation {}\nber {:.17g}\nfault-target {}\nseed {}\n",
      wish.network_sha256, wish.dataset, normalisation_in_words(original, wish), wish.ber,
      wish.target, wish.seed);
  if (racing.size() > 1)
    text += fmt::format("equal {:.17g}\nimages {} of {}\n", wish.equal, job.race_images,
                        in_words(answer.race_of));
  for (const std::size_t i : racing) {
    const Recipe& recipe = answer.candidates[i].recipe;
    text += fmt::format("recipe {} {}\n", recipe.name, recipe.options);
  }
  return text;
}

/// Whether a folder without its mark holds more than a call leaves that was killed at its start.
bool holds_other_files(const std::string& folder) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(kMark, 0) != 0 && name.find(".tmp.") == std::string::npos) return true;
  }
  return false;
}

/// Files of others, and of another race, stay as they are.
void require_own_folder(const ProtectJob& job, const std::string& mark, const std::string& race) {
  std::error_code none;
  const bool marked = std::filesystem::exists(mark, none);
  if (!marked && holds_other_files(job.folder))
    throw UserError(job.folder + " is there and not of protect; give another " +
                    spelled(Setting::kOutput));
  if (!marked) return;
  const Bytes bytes = read_file(mark);
  const std::string stored(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (stored.rfind("network ", 0) != 0)
    throw UserError(mark + " is there and not of protect; give another " +
                    spelled(Setting::kOutput));
  if (stored != race && !job.fresh)
    throw UserError(job.folder +
                    " belongs to another race (race.txt in it says of which network, rate, target, "
                    "seed, images and recipes); " +
                    restart_advice());
}

/// Whether the result is a confirmation of this network by this job, as far as is known before the
/// race.
bool is_own_confirmation(const ResultInfo& info, const ProtectJob& job, const Answer& answer) {
  const auto images_of = info.provenance.find("images_of");
  const auto network = info.fingerprint_parts.lower_bound("model 0 ");  // and its name
  return info.seed == job.wish.seed + kToConfirmation && info.models.size() == 2 &&
         network != info.fingerprint_parts.end() && network->second == answer.wish.network_sha256 &&
         images_of != info.provenance.end() &&
         images_of->second == images_of_name(answer.confirmation_of) &&
         (job.images < 0 || info.models[0].images == job.images);
}

void require_own_result(const ProtectJob& job, const Answer& answer) {
  std::error_code none;
  if (std::filesystem::exists(job.result, none) &&
      !is_own_confirmation(read_result_outline(job.result).info, job, answer))
    throw UserError(job.result +
                    " is there and no confirmation of this race (of another network, seed or "
                    "number of images); " +
                    restart_advice());
}

/// Whether protect writes files of this name; others stay.
bool is_made_here(const std::string& name) {
  return name.find(".pth") != std::string::npos || name.rfind("round", 0) == 0;
}

/// The mark goes last: until then the folder is the old race's.
void start_over(const ProtectJob& job) {
  remove_result(job.result);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(job.folder, error)) {
    if (!is_made_here(entry.path().filename().string())) continue;
    std::error_code failed;
    std::filesystem::remove_all(entry.path(), failed);
    if (failed)
      throw EnvironmentError("cannot remove " + entry.path().string() + ": " + failed.message());
  }
}

/// Everything that is written, each once: recipes may share what is trained.
std::vector<Output> outputs_of(const ProtectJob& job, const NamedModel& original,
                               const Answer& answer) {
  std::map<std::string, FileKind> kinds = {{job.result, FileKind::kResult}};
  for (const std::size_t i : answer.racing())
    for (const Output& output :
         recipe_outputs(place_of(job), original, job.selection, answer.candidates[i].recipe))
      kinds[output.path] = output.kind;
  const std::size_t rounds = Race::round_ends(race_options(answer).most).size();
  for (std::size_t number = 1; number <= rounds; ++number)
    kinds[round_path(job, number)] = FileKind::kResult;
  std::vector<Output> outputs;
  for (const auto& [path, kind] : kinds) outputs.push_back({path, kind});
  return outputs;
}

void make_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw EnvironmentError("cannot make the folder " + folder + ": " + error.message());
}

void check_campaigns(const Comm& comm, const ProtectJob& job, at::Device device,
                     const Answer& answer) {
  const std::vector<std::size_t> racing = answer.racing();
  comm.agree([&] {
    for (const Job& own :
         {round_of(job, answer, {1, {0, 1}, racing}), confirmation_of(job, answer, racing[0])}) {
      validate(own);
      validate_device(own, device);
    }
  });
  require_enough_images(comm, job, answer);
}

/// The folder becomes this race's, and a file in it says so. Of rank 0: no other call works in the
/// folder while the lock is held.
std::unique_ptr<FileLock> claim(const Comm& comm, const NamedModel& original, const ProtectJob& job,
                                const Answer& answer) {
  std::unique_ptr<FileLock> lock;
  comm.from_root([&] {
    const std::string mark = job.folder + "/" + kMark, race = race_text(job, original, answer);
    require_own_folder(job, mark, race);
    if (!job.fresh) require_own_result(job, answer);
    make_folder(job.folder);
    check_outputs(outputs_of(job, original, answer), {job.selection.checkpoint});
    lock = std::make_unique<FileLock>(mark);
    require_own_folder(job, mark, race);  // whoever held the lock may have made it another's
    if (job.fresh) start_over(job);
    ByteWriter writer;
    writer.text(race);
    write_file_atomic(mark, writer.take());
    return Bytes();
  });
  return lock;
}

// ---- what will run --------------------------------------------------------------------------

std::string numbered(std::int64_t first, ImagesOf of) {
  return first < 0 ? in_words(of) : fmt::format("the first {} of {}", first, in_words(of));
}

/// Each training once, by the first recipe that wants it; each search of bounds.
std::string long_work(const ProtectJob& job, const NamedModel& original, const Answer& answer) {
  std::vector<std::string> words;
  std::set<std::string> trained;
  for (const std::size_t i : answer.racing()) {
    const Recipe& recipe = answer.candidates[i].recipe;
    const BoundSearch& search = recipe.protection.hardening.search;
    if (recipe.training && recipe.training->finetune_epochs > 0 &&
        trained.insert(recipe_outputs(place_of(job), original, job.selection, recipe).back().path)
            .second)
      words.push_back(fmt::format("fine-tuning of {} ({} epochs)", recipe.name,
                                  recipe.training->finetune_epochs));
    if (trains_bounds(search) || search.method == BoundMethod::kFtclip)
      words.push_back(fmt::format("{} of {}", bound_search_name(search), recipe.name));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

/// No times: nothing has run yet. The first trials of each round tell them.
void log_plan(const ProtectJob& job, const NamedModel& original, const Answer& answer) {
  const std::string work = long_work(job, original, answer);
  if (!work.empty()) spdlog::info("before the race, where no earlier call did it: {}", work);
  const RaceOptions options = race_options(answer);
  if (!answer.race_images.empty())
    spdlog::info("a race on {}; it may end after {} trials, and each round says how long it takes",
                 answer.race_images, fmt::join(Race::round_ends(options.most), ", "));
  spdlog::info("a confirmation by {} trials of 2 networks on {}", job.wish.trials,
               answer.confirmation_images);
}

// ---- the race and the confirmation ----------------------------------------------------------

ExitCode race(const Comm& comm, const ProtectJob& job, Answer& answer) {
  const std::vector<std::size_t> all = answer.racing();
  std::vector<std::string> names;
  for (const std::size_t i : all) names.push_back(answer.candidates[i].recipe.name);
  const RaceReport report =
      run_race(comm, race_options(answer), names, [&](const RaceRound& round) {
        RaceRound own = round;
        for (std::size_t& i : own.remaining) i = all.at(i);
        return round_of(job, answer, own);
      });
  if (report.code != ExitCode::kDone) return report.code;
  for (std::size_t k = 0; k < all.size(); ++k) answer.candidates[all[k]].raced = report.raced[k];
  answer.winner = static_cast<int>(all.at(report.winner));
  answer.decided = report.decided;
  return ExitCode::kDone;
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

Confirmed confirmed_by(const ResultFile& result) {
  Confirmed own;
  own.fault_free = fault_free(result.info.models.at(0));
  own.original = accuracy_of(result, 0);
  own.chosen = accuracy_of(result, 1);
  own.chosen_fault_free = fault_free(result.info.models.at(1));
  own.fingerprint = result.info.fingerprint;
  own.trials = result.info.points.at(0).trials;
  return own;
}

ExitCode confirm(const Comm& comm, const ProtectJob& job, Answer& answer) {
  if (comm.rank() == 0) spdlog::info("the confirmation, {} trials", job.wish.trials);
  Job own;
  comm.agree([&] { own = confirmation_of(job, answer, static_cast<std::size_t>(answer.winner)); });
  const ExitCode code = run_campaign(comm, own);
  if (code != ExitCode::kDone) return code;
  comm.from_root([&] {
    answer.confirmed = confirmed_by(read_result(job.result));
    return Bytes();
  });
  return ExitCode::kDone;
}

}  // namespace

bool fits_memory(const RecipeCost& cost, const Wish& wish) {
  return cost.memory <= wish.memory + kPrinted;
}

bool fits_macs(const RecipeCost& cost, const Wish& wish) {
  return cost.macs <= wish.macs + kPrinted;
}

std::vector<std::size_t> Answer::racing() const {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (candidates[i].left_out.empty()) all.push_back(i);
  return all;
}

Interval Answer::loss() const {
  const Interval& own = confirmed.chosen;
  Interval loss = own;
  loss.estimate = confirmed.fault_free - own.estimate;
  loss.lower = confirmed.fault_free - own.upper;
  loss.upper = confirmed.fault_free - own.lower;
  return loss;
}

bool Answer::met() const {
  return winner >= 0 && loss().upper <= wish.max_loss;
}

NamedModel unprotected_network(const Comm& comm, const ModelSelection& selection) {
  NamedModel original = load_model(comm, selection);
  comm.agree([&] {
    if (!steps_before_protection(original.graph))
      throw UserError(
          selection.checkpoint +
          ": this network is protected already; protect starts from an unprotected one");
  });
  require_fault_free(comm, original);
  return original;
}

Answer weigh(const Comm& comm, const NamedModel& original, const ProtectJob& job) {
  Answer answer;
  answer.wish = job.wish;
  answer.wish.dataset =
      job.selection.dataset.empty() ? original.graph.dataset : job.selection.dataset;
  answer.wish.network_sha256 = original.sha256;
  comm.agree([&] {
    require_own_name(original, job.recipes);
    require_faults(original, job);
  });
  const bool training = has_training_images(comm, job.selection, answer.wish.dataset);
  choose_images(comm, training, answer);
  const std::vector<RecipeCost> costs =
      recipe_costs(comm, original, answer.wish.dataset, job.recipes);
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const Recipe& recipe = job.recipes[i];
    if (job.by_name) require_possible(recipe, costs[i], training);
    answer.candidates.push_back({recipe, costs[i], obstacle(recipe, costs[i], job.wish, training)});
  }
  if (comm.rank() == 0) {
    spdlog::info("images normalised by {}", normalisation_in_words(original, answer.wish));
    spdlog::info("{} of {} recipes take part", answer.racing().size(), costs.size());
  }
  return answer;
}

ExitCode prove(const Comm& comm, const NamedModel& original, const ProtectJob& job,
               at::Device device, Answer& answer) {
  const std::vector<std::size_t> racing = answer.racing();
  if (racing.empty()) return ExitCode::kDone;
  check_campaigns(comm, job, device, answer);
  const auto lock = claim(comm, original, job, answer);
  if (racing.size() > 1) answer.race_images = numbered(job.race_images, answer.race_of);
  answer.confirmation_images = numbered(job.images, answer.confirmation_of);
  if (comm.rank() == 0) log_plan(job, original, answer);
  for (const std::size_t i : racing)
    make_recipe(comm, original, job.selection, answer.candidates[i].recipe, place_of(job), device);
  const ExitCode code = race(comm, job, answer);
  return code == ExitCode::kDone ? confirm(comm, job, answer) : code;
}

}  // namespace sentinel
