#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/campaign/race.hpp"
#include "sentinel/campaign/recipe.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {

/// What `protect` is asked for; shares, not points.
struct Wish {
  std::string target = "parameters";  // what may fail
  double ber = 0;                     // [faults/bit]
  double max_loss = 0.01;             // of accuracy
  double memory = 1, macs = 1;        // relative to the original
  double equal = 0.005;
  std::uint64_t seed = 1, trials = 500;  // of the race; of the confirmation
  std::string dataset, network_sha256;   // of the unprotected network
};

/// Whether a network of this cost keeps the budgets, to the three digits that are printed.
bool fits_memory(const RecipeCost& cost, const Wish& wish);
bool fits_macs(const RecipeCost& cost, const Wish& wish);

/// A recipe with what is known of it.
struct Candidate {
  Recipe recipe;
  RecipeCost cost;
  std::string left_out;  // why it takes no part; empty: it does
  Raced raced = {};      // where there was a race
};

/// What the confirmation showed, on other trials and images than the race.
struct Confirmed {
  double fault_free = 0, chosen_fault_free = 0;  // accuracy of the original, of the chosen one
  Interval original, chosen;                     // accuracies at the rate
  // Of its result, which has so many planned trials.
  std::string fingerprint = {};
  std::uint64_t trials = 0;
};

struct Answer {
  Wish wish;
  std::vector<Candidate> candidates;
  ImagesOf race_of = ImagesOf::kHeldOut, confirmation_of = ImagesOf::kTest;
  std::string race_images, confirmation_images;  // in words; empty: there was none
  bool decided = true;
  int winner = -1;  // a number of `candidates`; -1: nothing fits the budgets
  Confirmed confirmed = {};

  /// Numbers of the candidates that take part.
  std::vector<std::size_t> racing() const;
  /// Accuracy of the original without faults minus that of the chosen network at the rate.
  Interval loss() const;
  /// Whether the whole interval of the loss lies within the wish.
  bool met() const;
};

/// A campaign on the original and these networks, at the rate of the wish: a round of the race, or
/// the confirmation.
struct ProtectCampaign {
  std::vector<std::pair<std::string, std::string>> networks;  // name, file
  ImagesOf images_of = ImagesOf::kTest;
  std::int64_t images = -1;         // the first so many of these, -1: all
  std::uint64_t trials = 0;         // where there is no range
  std::optional<TrialRange> range;  // of a round, which keeps no faults
  std::uint64_t seed = 1;
  std::string output;
};

struct ProtectJob {
  ModelSelection selection;
  Wish wish;
  std::vector<TensorClass> targets;  // those of the wish
  std::vector<Recipe> recipes;
  bool by_name = false;  // the user chose the recipes: one that cannot be made is an error
  std::int64_t race_images = -1, images = -1;  // of the race, of the confirmation; -1: all
  std::string folder;                          // of the recipes' networks and the rounds
  std::string result;                          // of the confirmation
  std::string command;                         // for the provenance of networks
  bool fresh = false;
  std::function<Job(const ProtectCampaign&)> campaign;
};

/// The network of the selection. UserError where it is protected already. Collective; SharedErrors.
NamedModel unprotected_network(const Comm& comm, const ModelSelection& selection);

/// Who takes part, by costs that shapes tell, and on which images; nothing is made or written.
/// UserError for what cannot be asked of this network. Collective; SharedErrors.
Answer weigh(const Comm& comm, const NamedModel& original, const ProtectJob& job);

/// Makes the networks that take part, races them, and confirms the winner, all kept for the next
/// call. The folder and the result are this race's alone: others are refused before the first
/// network is made, and `fresh` empties them first, so that a later call without it goes on. With a
/// code other than kDone it was stopped, or an audit found a mismatch. Collective; SharedErrors.
ExitCode prove(const Comm& comm, const NamedModel& original, const ProtectJob& job,
               at::Device device, Answer& answer);

}  // namespace sentinel
