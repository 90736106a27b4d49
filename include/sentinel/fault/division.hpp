#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/fault/strata.hpp"

namespace sentinel {

/// By what the population of single faults is divided.
enum class DivideBy : std::uint8_t {
  kLayer,  // the stored tensor: "layer1.0.conv1.weight"
  kClass,  // its class: "weight"
  kBit,  // the bit of the stored word: "bit 30"; with several layouts "int8:channel bit 6", and of
         // the check words of a code "int8:channel+secded:64 check bit 6"
};

/// The single faults (exact:1) of several networks, cut into strata by what is hit. A stratum is
/// what the networks call alike; a network may have nothing of it. Order: tensors and layouts as
/// the networks have them, the first network's first; classes in their own order; bits from 0 on.
class Division {
 public:
  /// A network and its own space; both live no longer than the constructor needs.
  struct Network {
    const Graph& graph;
    const FaultSpace& space;
  };
  /// UserError where words are to be divided by bit, and faults hit whole words.
  Division(DivideBy by, const std::vector<Network>& networks);

  /// Shares and costs of the first network. A stratum that it lacks has the share 0 and costs 1.
  const Strata& strata() const { return strata_; }
  /// The strata's shares of the network's sites; sum 1.
  const std::vector<double>& weights(std::size_t network) const { return weights_.at(network); }
  /// One site of the stratum, uniform: a pure function of its arguments. None where the network has
  /// nothing of it. `space`: of the network of that number.
  Faults draw(const FaultSpace& space, std::size_t network, std::int32_t stratum,
              const RngKey& key) const;

 private:
  /// Sites first, first + step ... of a space.
  struct Part {
    std::uint64_t first, count, step;
    std::size_t tensor;
  };
  struct Sites {
    std::vector<Part> parts;
    std::uint64_t total = 0;
  };
  void name_strata(DivideBy by, const std::vector<Network>& networks);
  void add_sites(DivideBy by, const FaultSpace& space);
  void add_costs(const Network& first);

  Strata strata_;
  std::vector<std::vector<Sites>> sites_;     // by network and stratum
  std::vector<std::vector<double>> weights_;  // the same
};

}  // namespace sentinel
