#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "fault/site_strata.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/trial_cost.hpp"

namespace sentinel {
namespace {

using Networks = std::vector<SpaceOfNetwork>;

/// Words that are numbered alike.
std::string kind_of_words(const FaultTensor& tensor) {
  return layout_name(tensor.layout) + (tensor.kind == TensorClass::kCheck ? " check" : "");
}

std::size_t place_of(const std::vector<std::string>& names, const std::string& name) {
  return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

/// The bits of a tensor that are strata of their own, or all of them together.
std::vector<std::vector<int>> pieces_of(DivideBy by, const FaultTensor& tensor) {
  if (by != DivideBy::kBit) return {{tensor.bits.begin(), tensor.bits.end()}};
  std::vector<std::vector<int>> alone;
  for (const int bit : tensor.bits) alone.push_back({bit});
  return alone;
}

/// Names of the strata of several networks, in order.
class Names {
 public:
  Names(DivideBy by, const Networks& networks) : by_(by) {
    for (const SpaceOfNetwork& network : networks)
      for (const FaultTensor& tensor : network.space.tensors()) {
        const std::string own = by == DivideBy::kBit ? kind_of_words(tensor) : tensor.name;
        if (place_of(seen_, own) == seen_.size()) seen_.push_back(own);
      }
  }

  std::string of(const FaultTensor& tensor, int bit) const {
    switch (by_) {
      case DivideBy::kLayer:
        return tensor.name;
      case DivideBy::kClass:
        return class_name(tensor.kind);
      case DivideBy::kBit:
        return fmt::format("{}bit {}", seen_.size() > 1 ? kind_of_words(tensor) + " " : "", bit);
    }
    throw Bug("unknown division");
  }

  /// Tensors and kinds of words as the networks have them, classes in their order, bits from 0 on.
  std::pair<std::size_t, int> place(const FaultTensor& tensor, int bit) const {
    switch (by_) {
      case DivideBy::kLayer:
        return {place_of(seen_, tensor.name), 0};
      case DivideBy::kClass:
        return {static_cast<std::size_t>(tensor.kind), 0};
      case DivideBy::kBit:
        return {place_of(seen_, kind_of_words(tensor)), bit};
    }
    throw Bug("unknown division");
  }

 private:
  DivideBy by_;
  std::vector<std::string> seen_;  // tensors; by bit: kinds of words
};

std::vector<std::string> all_names(DivideBy by, const Networks& networks, const Names& names) {
  std::map<std::pair<std::size_t, int>, std::string> ordered;
  for (const SpaceOfNetwork& network : networks)
    for (const FaultTensor& tensor : network.space.tensors())
      for (const std::vector<int>& bits : pieces_of(by, tensor))
        ordered[names.place(tensor, bits.front())] = names.of(tensor, bits.front());
  std::vector<std::string> all;
  for (const auto& [place, name] : ordered) all.push_back(name);
  return all;
}

}  // namespace

std::vector<SiteStrata> strata_by_part(DivideBy by, const Networks& networks) {
  if (by == DivideBy::kBit && networks.front().space.of_words())
    throw UserError(spelled(Setting::kSampling) +
                    " per-bit: these faults hit whole words; choose per-layer");
  const Names names(by, networks);
  const std::vector<std::string> called = all_names(by, networks, names);
  std::vector<SiteStrata> all;
  for (const auto& [graph, space] : networks) {
    SiteStrata& own = all.emplace_back(SiteStrata::DrawBy::kSite, called);
    const TrialCost cost(graph, space);
    for (std::size_t t = 0; t < space.tensors().size(); ++t) {
      const FaultTensor& tensor = space.tensors()[t];
      for (const std::vector<int>& bits : pieces_of(by, tensor))
        own.add(names.of(tensor, bits.front()),
                {tensor.first_site, tensor.selected, tensor.bits.size(), bits},
                cost.one_channel(t));
    }
  }
  return all;
}

}  // namespace sentinel
