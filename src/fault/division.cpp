#include "sentinel/fault/division.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/fault/trial_cost.hpp"

namespace sentinel {
namespace {

constexpr double kOfARow = 1e-3;  // a trial without effect still has its row

/// Words that are numbered alike.
std::string kind_of_words(const FaultTensor& tensor) {
  return layout_name(tensor.layout) + (tensor.kind == TensorClass::kCheck ? " check" : "");
}

std::string bit_name(const std::string& words, int bit) {
  return fmt::format("{}{}bit {}", words, words.empty() ? "" : " ", bit);
}

/// Kinds of words and their bits that may fail, in the order of the networks.
std::vector<std::pair<std::string, std::set<int>>> kinds_of(
    const std::vector<Division::Network>& networks) {
  std::vector<std::pair<std::string, std::set<int>>> kinds;
  for (const Division::Network& network : networks)
    for (const FaultTensor& tensor : network.space.tensors()) {
      const std::string words = kind_of_words(tensor);
      auto own = std::find_if(kinds.begin(), kinds.end(),
                              [&](const auto& kind) { return kind.first == words; });
      if (own == kinds.end()) own = kinds.insert(kinds.end(), {words, {}});
      own->second.insert(tensor.bits.begin(), tensor.bits.end());
    }
  return kinds;
}

std::vector<std::string> names_by_bit(const std::vector<Division::Network>& networks) {
  const auto kinds = kinds_of(networks);
  std::vector<std::string> names;
  for (const auto& [words, bits] : kinds)
    for (const int bit : bits) names.push_back(bit_name(kinds.size() > 1 ? words : "", bit));
  return names;
}

std::vector<std::string> names_by_layer(const std::vector<Division::Network>& networks) {
  std::vector<std::string> names;
  std::set<std::string> known;
  for (const Division::Network& network : networks)
    for (const FaultTensor& tensor : network.space.tensors())
      if (tensor.sites() > 0 && known.insert(tensor.name).second) names.push_back(tensor.name);
  return names;
}

std::vector<std::string> names_by_class(const std::vector<Division::Network>& networks) {
  std::set<TensorClass> classes;
  for (const Division::Network& network : networks)
    for (const FaultTensor& tensor : network.space.tensors())
      if (tensor.sites() > 0) classes.insert(tensor.kind);
  std::vector<std::string> names;
  for (const TensorClass kind : classes) names.emplace_back(class_name(kind));
  return names;
}

std::size_t place_of(const std::vector<std::string>& names, const std::string& name) {
  return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

}  // namespace

Division::Division(DivideBy by, const std::vector<Network>& networks) {
  if (by == DivideBy::kBit && networks.front().space.of_words())
    throw UserError("--sampling per-bit: these faults hit whole words; choose per-layer");
  name_strata(by, networks);
  for (const Network& network : networks) add_sites(by, network.space);
  strata_.weights = weights_.front();
  add_costs(networks.front());
}

void Division::name_strata(DivideBy by, const std::vector<Network>& networks) {
  switch (by) {
    case DivideBy::kLayer:
      strata_.names = names_by_layer(networks);
      return;
    case DivideBy::kClass:
      strata_.names = names_by_class(networks);
      return;
    case DivideBy::kBit:
      strata_.names = names_by_bit(networks);
      return;
  }
}

void Division::add_sites(DivideBy by, const FaultSpace& space) {
  const std::vector<std::string>& names = strata_.names;
  std::vector<Sites>& own = sites_.emplace_back(names.size());
  const auto add = [&](const std::string& name, const Part& part) {
    Sites& sites = own.at(place_of(names, name));
    sites.parts.push_back(part);
    sites.total += part.count;
  };
  for (std::size_t t = 0; t < space.tensors().size(); ++t) {
    const FaultTensor& tensor = space.tensors()[t];
    if (tensor.sites() == 0) continue;
    if (by == DivideBy::kLayer) add(tensor.name, {tensor.first_site, tensor.sites(), 1, t});
    if (by == DivideBy::kClass)
      add(class_name(tensor.kind), {tensor.first_site, tensor.sites(), 1, t});
    if (by != DivideBy::kBit) continue;
    const std::uint64_t step = tensor.bits.size();
    const std::string words = kind_of_words(tensor);
    for (std::uint64_t b = 0; b < step; ++b) {
      const std::string alone = bit_name("", tensor.bits[b]),
                        full = bit_name(words, tensor.bits[b]);
      const bool one_kind = place_of(names, full) == names.size();
      add(one_kind ? alone : full, {tensor.first_site + b, tensor.selected, step, t});
    }
  }
  std::vector<double>& weights = weights_.emplace_back();
  for (const Sites& sites : own)
    weights.push_back(static_cast<double>(sites.total) / static_cast<double>(space.sites()));
}

/// Mean over the sites of what a fault there costs.
void Division::add_costs(const Network& first) {
  const TrialCost cost(first.graph, first.space);
  for (const Sites& sites : sites_.front()) {
    double sum = 0;
    for (const Part& part : sites.parts)
      sum += static_cast<double>(part.count) * cost.one_channel(part.tensor);
    strata_.costs.push_back(
        sites.total == 0 ? 1 : std::max(kOfARow, sum / static_cast<double>(sites.total)));
  }
}

Faults Division::draw(const FaultSpace& space, std::size_t network, std::int32_t stratum,
                      const RngKey& key) const {
  const Sites& sites = sites_.at(network).at(static_cast<std::size_t>(stratum));
  if (sites.total == 0) return {};
  Rng rng(key);
  std::uint64_t left = rng.below(sites.total);
  for (const Part& part : sites.parts) {
    if (left < part.count) return {space.at(part.first + left * part.step)};
    left -= part.count;
  }
  throw Bug("a stratum has fewer sites than it counts");
}

}  // namespace sentinel
