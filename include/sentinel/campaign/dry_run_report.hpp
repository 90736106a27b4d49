#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sentinel/core/normalisation.hpp"

namespace sentinel {

/// A campaign told before it runs. Trials are run on every network of it.
struct DryRun {
  struct Layer {
    std::string name;
    std::uint64_t bits = 0;
    std::int64_t macs = 0;
    double one_channel = 1;      // of a trial with faults in one channel of it, in network runs
    std::vector<double> faults;  // expected per trial, by point
  };
  struct Stratum {
    std::string name;
    double weight = 0, cost = 1;
    // A divided point (sampling per-layer and the like): trials, of an allocated plan the
    // fewest; the half-width of its own interval where half of these trials fail, the widest.
    std::uint64_t trials = 0;
    double half_width = 0;
  };
  /// Over several simulations: the 5th, 50th and 95th of a hundred.
  struct Range {
    double low = 0, median = 0, high = 0;
  };
  /// How a point ends if its trials turn out as supposed, by the code with which a run plans,
  /// estimates and stops.
  struct Outlook {
    double supposed = 0;     // chance, of Point::supposed
    double failing = 0;      // share of the trials that fail, each with all its images
    int simulations = 0;     // 21, or fewer of many trials
    std::uint64_t most = 0;  // no simulation had more trials; of a fixed plan all had so many
    Range trials;            // until the plan's end; infinity: more than `most`
    Range half_width;        // then, of the widest network
  };
  struct Point {
    std::string fault_model, estimand;
    double ber = 0, faults = 0;  // expected faults per trial of the first network
    /// Expected bits that events hit, per bit that may fail and trial; empty where faults are of
    /// one bit, or of words. A bit that several events hit counts as often.
    std::optional<double> bits_hit;
    std::vector<Stratum> strata;  // that a stratified or sequential plan would have
    std::string division;         // "per-layer"; empty: strata have no estimates of their own
    std::uint64_t pilot = 0;      // trials of a divided point that are in no estimate
    double relative_cost = 1;     // of a trial of the first network, in network runs, from MACs
    double audit_rate = 0;        // share of the trials that are run again by the reference path
    std::uint64_t trials = 0;     // planned, or at most
    double seconds = 0;           // of a trial of all networks, audits included, on one rank
    double result_bytes = 0, journal_bytes = 0;  // of a trial of all networks
    double fault_bytes = 0;  // in memory, of the trials that a rank runs together
    /// P(any word read wrongly), where that bounds the answer without trials; the largest of the
    /// networks'.
    std::optional<double> bound;
    /// Networks that such a bound answers for while others need trials, by name.
    std::vector<std::pair<std::string, double>> bounded;
    std::string supposed;  // what Outlook::supposed is the chance of
    std::vector<Outlook> outlooks;
  };
  struct Network {
    std::string name;
    std::uint64_t bits = 0;
    double seconds_per_image = 0;  // of a fault-free run, measured here on one rank
    Normalisation normalisation;   // of its images
    std::string stored_types;      // of the file's weights that were converted to fp32: "fp64"
  };
  std::vector<Network> networks;  // the first is the original
  std::int64_t images = 0, images_per_trial = 0;
  std::vector<Layer> layers;  // of the first network
  std::vector<Point> points;
  double accuracy = 0;  // supposed of every network without faults: the first's, as measured …
  std::int64_t accuracy_images = 0;  // … on so many images
  // Memory of a rank at its peak [bytes] is the sum of these, as a run has it. The program with its
  // libraries, the networks and images as loaded, and the scratch of a batch, as measured here on
  // rank 0; how much less another rank took; the engines' copies of networks and images; the
  // fault-free activations that are kept, or needed at once; and the faults of trials that are run
  // together, of the point that has most.
  std::uint64_t program_bytes = 0, less_elsewhere = 0;
  std::uint64_t network_bytes = 0, image_bytes = 0, cache_bytes = 0, fault_bytes = 0;
  bool on_gpu = false;             // where the engines' copies and the activations then are
  std::uint64_t result_bytes = 0;  // of the result file without trials
};

}  // namespace sentinel
