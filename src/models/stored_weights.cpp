#include "models/stored_weights.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {
namespace {

bool is_float(const at::Tensor& tensor) {
  return at::isFloatingType(tensor.scalar_type());
}

/// Undefined where they are no such pair.
at::Tensor masked(const at::Tensor& weight, const at::Tensor& mask) {
  if (!is_float(weight) || weight.sizes() != mask.sizes()) return {};
  return weight * mask.to(weight.scalar_type());
}

/// v * g / |v|, the norm over all dimensions but the one that g has. Undefined where they are no
/// such pair.
at::Tensor normalised(const at::Tensor& g, const at::Tensor& v) {
  if (!is_float(v) || g.scalar_type() != v.scalar_type() || v.numel() == 0) return {};
  if (g.numel() == 1) return v * (g.reshape({}) / v.norm());
  for (std::int64_t dim = 0; dim < v.dim(); ++dim) {
    std::vector<std::int64_t> sizes(static_cast<std::size_t>(v.dim()), 1);
    sizes[static_cast<std::size_t>(dim)] = v.size(dim);
    if (g.sizes() == at::IntArrayRef(sizes)) return at::_weight_norm(v, g, dim);
  }
  return {};
}

struct Recipe {
  const char *first, *second;  // how the names of the two parts end
  at::Tensor (*combine)(const at::Tensor&, const at::Tensor&);
};
constexpr std::array<Recipe, 3> kRecipes{{{"_orig", "_mask", masked},
                                          {"_g", "_v", normalised},
                                          {".original0", ".original1", normalised}}};

constexpr std::string_view kParametrizations = "parametrizations.";

/// "conv.parametrizations.weight" -> "conv.weight"
std::string without_parametrizations(std::string name) {
  const std::size_t at = name.rfind(kParametrizations);
  if (at != std::string::npos) name.erase(at, kParametrizations.size());
  return name;
}

/// A weight put together.
struct Whole {
  std::string name, second;  // second: the entry that is used up
  at::Tensor value;
  bool masked = false;
};

std::optional<Whole> put_together(const StateDict& tensors, const std::string& name,
                                  const at::Tensor& tensor) {
  for (const Recipe& recipe : kRecipes) {
    if (!ends_with(name, recipe.first)) continue;
    const std::string base = name.substr(0, name.size() - std::string(recipe.first).size());
    const at::Tensor* second = tensors.find(base + recipe.second);
    const std::string whole = without_parametrizations(base);
    if (second == nullptr || tensors.contains(whole)) continue;
    const at::Tensor value = recipe.combine(tensor, *second);
    if (value.defined()) return Whole{whole, base + recipe.second, value, recipe.combine == masked};
  }
  return {};
}

}  // namespace

WholeWeights with_whole_weights(const StateDict& tensors) {
  WholeWeights result;
  StateDict all;
  std::set<std::string> used_up;
  for (const auto& [name, tensor] : tensors) {
    const auto whole = put_together(tensors, name, tensor);
    all.set(whole ? whole->name : name, whole ? whole->value : tensor);
    if (!whole) continue;
    used_up.insert(whole->second);
    (whole->masked ? result.masked : result.normalised).push_back(whole->name);
  }
  for (const auto& [name, tensor] : all)
    if (used_up.count(name) == 0) result.tensors.set(name, tensor);
  return result;
}

std::string advice_on_parts(const StateDict& tensors) {
  for (const auto& entry : tensors) {
    const std::string& name = entry.first;
    if (name.find(kParametrizations) != std::string::npos)
      return name +
             " belongs to a parametrization that is not read; call "
             "torch.nn.utils.parametrize.remove_parametrizations before saving";
    if (!ends_with(name, "_orig")) continue;
    const std::string mask = name.substr(0, name.size() - 5) + "_mask";
    if (const at::Tensor* found = tensors.find(mask))
      return fmt::format(
          "{} [{}] and {} [{}] are no weight and its mask: they differ in shape, or "
          "the weight is no float; save the network again",
          name, fmt::join(entry.second.sizes(), ", "), mask, fmt::join(found->sizes(), ", "));
    return name +
           " belongs to a weight that is computed (spectral norm?); call "
           "torch.nn.utils.remove_spectral_norm before saving";
  }
  return "";
}

std::string type_name(at::ScalarType type) {
  constexpr std::array<std::pair<at::ScalarType, const char*>, 10> kNames{{{at::kFloat, "fp32"},
                                                                           {at::kDouble, "fp64"},
                                                                           {at::kHalf, "fp16"},
                                                                           {at::kBFloat16, "bf16"},
                                                                           {at::kLong, "i64"},
                                                                           {at::kInt, "i32"},
                                                                           {at::kShort, "i16"},
                                                                           {at::kChar, "i8"},
                                                                           {at::kByte, "u8"},
                                                                           {at::kBool, "bool"}}};
  for (const auto& [known, name] : kNames)
    if (known == type) return name;
  return at::toString(type);
}

at::Tensor Conversion::to_float(const std::string& name, const at::Tensor& tensor) {
  ++tensors_;
  const at::Tensor result = tensor.to(at::kFloat).contiguous();
  if (tensor.scalar_type() == at::kFloat) return result;
  ++converted_;
  values_ += tensor.numel();
  const std::string type = type_name(tensor.scalar_type());
  if (std::find(types_.begin(), types_.end(), type) == types_.end()) types_.push_back(type);
  if (tensor.scalar_type() != at::kDouble) return result;  // fp32 holds every value of a half
  const auto count = [](const at::Tensor& which) { return which.sum().item<std::int64_t>(); };
  const at::Tensor finite = at::isfinite(tensor);
  rounded_ += count(finite & (result.to(at::kDouble) != tensor));
  vanished_ += count((result == 0) & (tensor != 0));
  const std::int64_t overflowed = count(finite & at::isinf(result));
  if (overflowed > 0 && overflowing_.empty()) overflowing_ = name;
  overflowed_ += overflowed;
  return result;
}

std::string Conversion::types() const {
  return fmt::format("{}", fmt::join(types_, ", "));
}

std::string Conversion::describe(const std::string& source) const {
  if (overflowed_ > 0)
    throw DataError(source, fmt::format("{} of its values are beyond the range of fp32, in which "
                                        "networks are computed here (the first in {}); save the "
                                        "network in fp32",
                                        overflowed_, overflowing_));
  std::string change = "changes no value";
  if (rounded_ > 0) change = fmt::format("rounds {} of {} values", rounded_, values_);
  if (vanished_ > 0) change += fmt::format(", {} of them to 0", vanished_);
  return fmt::format(
      "{}: {} of {} float tensors are stored as {}. They are converted to fp32, which {}. "
      "Faults are injected into the 32-bit words of these fp32 values, not into the words of the "
      "file",
      source, converted_, tensors_, types(), change);
}

}  // namespace sentinel
