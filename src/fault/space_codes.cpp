#include "sentinel/fault/space_codes.hpp"

#include <algorithm>
#include <cmath>
#include <set>

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
  double log_right = 0;  // of the probability that all words are read right
  bool coded = false;
  for (const FaultTensor& tensor : space.tensors()) {
    const auto misreads = Misreads::of(tensor.layout);
    const auto width = static_cast<std::size_t>(tensor.word_bits);
    if (!misreads || tensor.kind == TensorClass::kCheck || tensor.bits.size() != width)
      return std::nullopt;
    const double values = static_cast<double>(tensor.selected) / block_shape(tensor.layout).copies;
    log_right += values * std::log1p(-std::min(1.0, misreads->of_word(ber)));
    coded = coded || tensor.layout.code;
  }
  if (!coded) return std::nullopt;
  return -std::expm1(log_right);
}

}  // namespace sentinel
