#include "sentinel/fault/space_codes.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "fault/word_units.hpp"
#include "sentinel/words/misreads.hpp"

namespace sentinel {
namespace {

/// Whether the last blocks are complete, or coded although they are not.
bool all_blocks_coded(const FaultTensor& tensor) {
  const auto words = static_cast<std::uint64_t>(block_shape(tensor.layout).words);
  return codes_incomplete_blocks(tensor.layout) ||
         (tensor.originals % words == 0 && tensor.elements % words == 0);
}

bool corrects_selected(const FaultTensor& tensor) {
  if (tensor.kind == TensorClass::kCheck) return corrects_single_flips(tensor.layout);
  const std::vector<int> corrected = corrected_bits(tensor.layout);
  return std::includes(corrected.begin(), corrected.end(), tensor.bits.begin(), tensor.bits.end());
}

}  // namespace

std::string correcting_layouts(const FaultSpace& space) {
  std::set<std::string> names;
  for (const FaultTensor& tensor : space.tensors()) {
    if (!corrects_selected(tensor) || !all_blocks_coded(tensor)) return "";
    names.insert(layout_name(tensor.layout));
  }
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

std::optional<double> any_misread(const FaultSpace& space, double ber) {
  const bool coded = std::any_of(space.tensors().begin(), space.tensors().end(),
                                 [](const FaultTensor& tensor) { return tensor.layout.code; });
  const auto units = coded ? WordUnits::all(space) : std::nullopt;
  if (!units) return std::nullopt;
  double log_right = 0;  // of the probability that all words are read right
  for (const WordUnits::Kind& kind : units->kinds())
    log_right +=
        static_cast<double>(kind.units) * std::log1p(-std::min(1.0, kind.misreads.of_word(ber)));
  return -std::expm1(log_right);
}

}  // namespace sentinel
