#pragma once
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// What a campaign on one network would do, without doing it.
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
  };
  struct Point {
    std::string fault_model, estimand;
    double ber = 0, faults = 0;   // expected faults per trial
    std::vector<Stratum> strata;  // that a stratified or sequential plan would have
    double relative_cost = 1;     // of a trial, in network runs, from MACs
    double audit_rate = 0;        // share of the trials that are run again by the reference path
    std::uint64_t trials = 0;     // planned, or at most
  };
  std::string network;
  Normalisation normalisation;  // of its images
  std::string stored_types;  // of the file's weights where not all are fp32: "bf16"
  std::uint64_t bits = 0;
  std::int64_t images = 0, images_per_trial = 0;
  std::vector<Layer> layers;
  std::vector<Point> points;
  double seconds_per_image = 0;  // of a fault-free run, measured here on one rank
  // Per rank [bytes]: network, images and the fault-free activations that would be kept.
  std::uint64_t network_bytes = 0, image_bytes = 0, cache_bytes = 0;
};

/// Reads the job's network and images, draws nothing, stores nothing. Collective; SharedErrors,
/// also where the job's plan cannot be made.
DryRun dry_run(const Comm& comm, const Job& job);

}  // namespace sentinel
