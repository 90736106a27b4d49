#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sentinel/transform/storing.hpp"

namespace sentinel {

/// Stochastic gradient descent with momentum and a cosine schedule over all steps.
struct TrainOptions {
  std::int64_t epochs = 10, batch_size = 128;
  double learning_rate = 0.1, momentum = 0.9, weight_decay = 1e-4;
  bool augment = true;  // pad 4, random crop, horizontal flip
  std::uint64_t seed = 1;
  at::Device device = at::kCPU;
  std::string state_file;        // kept after each epoch, so that a later call goes on; empty: none
  bool fresh = false;            // throw away a state that is there
  std::vector<StoreRule> store;  // how the trained network is stored; see train()
};
/// By which images the epoch is chosen that is kept.
enum class BestOn {
  kHeldOut,  // the last tenth of the training images, on which nothing is trained then
  kTest,     // the test images
};
/// "held-out", "test". UserError.
BestOn parse_best_on(const std::string& word);
std::string best_on_name(BestOn best_on);

struct EpochReport {
  std::int64_t epoch = 0;  // from 1
  double loss = 0;         // mean cross entropy of the epoch
  double accuracy = 0;     // on the held-out images
  bool stored = false;     // done by an earlier call, told again from the state file
};
using OnEpoch = std::function<void(const EpochReport&)>;

}  // namespace sentinel
