#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// What a fault flips one bit of.
enum class FlippedWord {
  kWeight,   // a stored weight, in its format
  kOutput,   // a stored output of a layer, fp32
  kOperand,  // an input value as one multiplier reads it, fp32
};
/// How tolerances are searched.
enum class ToleranceOrder {
  kExhaustive,    // every grid value by growing magnitude
  kBisect,        // as if larger shifts always mattered where smaller ones do
  kProportional,  // as if shifts below two quiet ones never mattered
};

/// Options of `vulnerability`, as docs/methods.md defines them.
struct FactorOptions {
  FlippedWord site = FlippedWord::kWeight;
  bool neurons = false;          // else channels
  std::optional<double> sample;  // share of the channels, (0, 1]; empty: every unit
  bool all_positions = false;    // of a channel's map; else floor(log2) drawn ones
  bool pool_images = false;      // deviations of all images together (the authors' way)
  bool limited = false;          // grid to 2^10, and no tolerance beyond (the authors' way)
  ToleranceOrder search = ToleranceOrder::kExhaustive;
  std::vector<std::string> layers;  // empty: all
  std::uint64_t seed = 1;
  std::string cache;  // folder where each layer's results are kept; empty: nowhere
};

/// What factors are computed from.
struct FactorInputs {
  const Graph& graph;  // contiguous, on the CPU
  const Dataset& images;
  Comm comm = Comm::local();     // work is shared among its ranks
  at::Device device = at::kCPU;  // of this rank
  std::string model_sha256;      // names the network in caches
};

}  // namespace sentinel
