#include "models/stored_weights.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cfloat>
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
  constexpr std::array<std::pair<at::ScalarType, const char*>, 13> kNames{
      {{at::kFloat, "fp32"},
       {at::kDouble, "fp64"},
       {at::kHalf, "fp16"},
       {at::kBFloat16, "bf16"},
       {at::kLong, "i64"},
       {at::kInt, "i32"},
       {at::kShort, "i16"},
       {at::kChar, "i8"},
       {at::kByte, "u8"},
       {at::kBool, "bool"},
       {at::kQInt8, "qint8"},
       {at::kQUInt8, "quint8"},
       {at::kQInt32, "qint32"}}};
  for (const auto& [known, name] : kNames)
    if (known == type) return name;
  return at::toString(type);
}

namespace {

std::string counted(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

Layout int8_layout(bool by_row) {
  return parse_layout(by_row ? "int8:channel" : "int8:tensor");
}

/// Why a quantised tensor is not one of those that are read; empty where it is.
std::string obstacle(const at::Tensor& tensor) {
  if (tensor.scalar_type() != at::kQInt8)
    return "is quantised as " + type_name(tensor.scalar_type()) + ", of which only qint8 is read";
  const bool by_row = tensor.qscheme() == at::kPerChannelAffine;
  if (by_row && (tensor.q_per_channel_axis() != 0 || tensor.dim() < 2))
    return "has scales along another dimension than that of the output channels";
  const at::Tensor zeros =
      by_row ? tensor.q_per_channel_zero_points() : at::tensor(tensor.q_zero_point());
  if (!(zeros == 0).all().item<bool>()) return "has a zero point other than 0";
  return "";
}

/// [rows] or [1] f64; of a whole tensor in fp32's precision, as PyTorch's dequantize() takes it.
at::Tensor scales_of(const at::Tensor& tensor) {
  const bool by_row = tensor.qscheme() == at::kPerChannelAffine;
  return by_row ? tensor.q_per_channel_scales().to(at::kDouble)
                : at::tensor({static_cast<float>(tensor.q_scale())}).to(at::kDouble);
}

}  // namespace

at::Tensor Conversion::read_quantised(const std::string& name, const at::Tensor& tensor,
                                      const std::string& source) {
  const std::string why = obstacle(tensor);
  const at::Tensor given = why.empty() ? scales_of(tensor) : at::ones({1}, at::kDouble);
  const at::Tensor scales = given.to(at::kFloat).contiguous();
  const at::Tensor good = at::isfinite(scales) & (scales >= FLT_MIN);
  if (!why.empty() || !good.all().item<bool>())
    throw DataError(source,
                    name + " " +
                        (why.empty() ? "has a scale that is not finite or below 2^-126" : why) +
                        "; save its dequantize()");
  const at::Tensor words = tensor.int_repr();
  const std::int64_t lowest = (words == -128).sum().item<std::int64_t>();
  if (lowest > 0 && lowest_.empty()) lowest_ = name;
  lowest_words_ += lowest;
  const auto rounded = (scales.to(at::kDouble) != given).sum().item<std::int64_t>();
  if (rounded > 0 && rounded_scales_ == 0) rounded_scale_ = name;
  rounded_scales_ += rounded;
  kept_[name] = {int8_layout(tensor.qscheme() == at::kPerChannelAffine), scales};
  std::vector<std::int64_t> rows(static_cast<std::size_t>(std::max<std::int64_t>(1, tensor.dim())),
                                 1);
  rows[0] = scales.numel();
  const at::Tensor values = words.clamp(-127).to(at::kFloat);
  return (tensor.dim() == 0 ? values * scales[0] : values * scales.view(rows)).contiguous();
}

void Conversion::count_changes(const std::string& name, const at::Tensor& before,
                               const at::Tensor& after) {
  ++converted_;
  values_ += before.numel();
  const auto count = [](const at::Tensor& which) { return which.sum().item<std::int64_t>(); };
  const at::Tensor finite = at::isfinite(before);
  rounded_ += count(finite & (after.to(at::kDouble) != before));
  vanished_ += count((after == 0) & (before != 0));
  const std::int64_t overflowed = count(finite & at::isinf(after));
  if (overflowed > 0 && overflowing_.empty()) overflowing_ = name;
  overflowed_ += overflowed;
}

at::Tensor Conversion::to_float(const std::string& name, const at::Tensor& tensor,
                                const std::string& source) {
  ++tensors_;
  if (tensor.is_quantized()) return read_quantised(name, tensor, source);
  const at::Tensor result = tensor.to(at::kFloat).contiguous();
  if (tensor.scalar_type() == at::kHalf || tensor.scalar_type() == at::kBFloat16)
    kept_[name] = {parse_layout(type_name(tensor.scalar_type())), {}};
  else if (tensor.scalar_type() != at::kFloat)
    count_changes(name, tensor, result);
  return result;
}

std::string Conversion::warning(const std::string& source) const {
  if (converted_ == 0) return "";
  if (overflowed_ > 0)
    throw DataError(source, fmt::format("{} of its values are beyond the range of fp32, in which "
                                        "networks are computed here (the first in {}); save the "
                                        "network in fp32",
                                        overflowed_, overflowing_));
  std::string change = "changes no value";
  if (rounded_ > 0) change = fmt::format("rounds {} of {} values", rounded_, values_);
  if (vanished_ > 0) change += fmt::format(", {} of them to 0", vanished_);
  return fmt::format(
      "{}: {} of {} float tensors are stored as fp64. They are converted to fp32, which {}. Faults "
      "are injected into the 32-bit words of these fp32 values, not into the words of the file",
      source, converted_, tensors_, change);
}

void Conversion::log(const std::string& source) const {
  if (lowest_words_ > 0)
    spdlog::warn("{}: {} of int8 are -128, which is stored as -127 here (the first in {})", source,
                 counted(lowest_words_, "word"), lowest_);
  if (rounded_scales_ > 0)
    spdlog::warn(
        "{}: {} of int8 are fp64 and rounded to fp32 (the first in {}), so that values may "
        "differ from dequantize() in the last bit",
        source, counted(rounded_scales_, "scale"), rounded_scale_);
  if (const std::string text = warning(source); !text.empty()) spdlog::warn("{}", text);
}

}  // namespace sentinel
