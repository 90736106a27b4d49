#pragma once
#include <string>
#include <vector>

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

/// A recipe with what is known of it.
struct Candidate {
  Recipe recipe;
  RecipeCost cost;
  std::string left_out;  // why it takes no part; empty: it does
  Raced raced = {};      // where there was a race
};

/// What the confirmation showed, on other trials and images than the race.
struct Confirmed {
  double fault_free = 0;  // of the original, share
  Interval original, chosen,
      chosen_without_faults;  // accuracies at the rate; the last an estimate alone
};

/// The answer as a table, as one sentence and as JSON.
struct Answer {
  Wish wish;
  std::vector<Candidate> candidates;
  std::string race_images, confirmation_images;  // in words
  bool decided = true;
  int winner = -1;  // a number of `candidates`; -1: nothing fits the budgets
  Confirmed confirmed = {};

  /// Accuracy of the original without faults minus that of the chosen network at the rate.
  Interval loss() const;
  /// Whether the whole interval of the loss lies within the wish.
  bool met() const;
};
/// The first line of everything that is told.
std::string sentence_of(const Answer& answer);
/// The sentence first, then the figures behind it and a table of the recipes.
void print_answer(const Answer& answer);
/// One line that begins with kAnswerHead.
std::string to_json(const Answer& answer);

}  // namespace sentinel
