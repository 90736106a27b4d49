#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/protect/transform.hpp"

namespace sentinel {

/// Which network and which images. Empty `model`/`dataset`: taken from a checkpoint written by
/// sentinelnn.
struct ModelSelection {
  std::string model;       // "resnet20"
  std::string dataset;     // "cifar10"
  std::string data;        // folder of the data set
  std::string checkpoint;  // .pth
};

/// Where and how to compute on this rank.
struct Compute {
  std::string device = "auto";  // auto | cpu | cuda: one GPU per local rank
  int threads = 1;  // CPU threads per rank: one rank per core beats one rank with many threads
  bool share_gpu = false;  // several ranks on one GPU
};

/// How the protected model of a campaign is made from the unprotected one.
struct ProtectionJob {
  std::string importance = "l2-norm";
  std::string ranking;  // a ranking file instead of computing one
  HardeningPlan hardening;
  std::int64_t calibration_images = -1;  // the first n training images, -1: all
};

/// One fault-injection campaign; a pure description from which every rank builds the same graphs
/// and batches.
struct Job {
  ModelSelection selection;
  Compute compute;
  bool protect = false;  // campaign: also a protected model, injected with paired faults
  ProtectionJob protection;

  std::vector<double> ber;               // [flips/bit/trial], one point each; empty with exact:K
  std::string fault_count = "binomial";  // binomial | per-layer-floor | exact:K
  std::uint64_t trials = 100;            // per point
  std::int64_t images = -1;              // the first n test images, -1: all
  std::uint64_t seed = 1;
  double confidence = 0.95;

  std::string engine = "fast";  // fast | reference
  std::int64_t block = 32;      // images per batch
  double cache_budget_gib =
      0;  // of fault-free activations per rank; 0: half of this rank's share of memory
  int publish_seconds = 30;
  bool fresh = false, dedicated_driver = false;
  std::string output;           // result.h5
  std::string hardened_output;  // where to write the protected model, empty: nowhere

  std::string command, resolved;  // the command line; all options as TOML
};

/// Checks everything that can be known without reading a file. Throws UserError naming the option.
void validate(const Job& job);
void validate(const ProtectionJob& job);

}  // namespace sentinel
