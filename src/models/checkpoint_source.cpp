#include "models/checkpoint_source.hpp"

#include <algorithm>
#include <numeric>
#include <sstream>

#include "sentinel/core/error.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/graph/rules.hpp"
#include "sentinel/graph/run.hpp"

namespace sentinel {
namespace {

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream text;
  text << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text << ", ";
    if (shape[i] < 0) {
      text << "any";
    } else {
      text << shape[i];
    }
  }
  text << ']';
  return text.str();
}

/// "2 missing entries (a, b)", the first eight by name.
void describe(std::string& text, const char* what, const std::vector<std::string>& names) {
  constexpr std::size_t kListed = 8;
  if (names.empty()) return;
  if (!text.empty()) text += "; ";
  text += std::to_string(names.size()) + " " + what + " (";
  for (std::size_t i = 0; i < std::min(names.size(), kListed); ++i) {
    text += (i > 0 ? ", " : "") + names[i];
  }
  if (names.size() > kListed) {
    text += " and " + std::to_string(names.size() - kListed) + " more";
  }
  text += ")";
}

}  // namespace

bool is_additional(const std::string& name) {
  return ends_with(name, ".duplicated") || ends_with(name, ".bound") ||
         ends_with(name, ".bound_low") || ends_with(name, ".range_low") ||
         ends_with(name, ".range_high") || ends_with(name, ".weight_low") ||
         ends_with(name, ".weight_high") || ends_with(name, ".weight_scale") ||
         ends_with(name, ".bias_scale");
}

at::Tensor rows_from_file(const at::Tensor& rows, std::int64_t copies, RowLayout layout) {
  switch (layout) {
    case RowLayout::kOwn:
      return rows;
    case RowLayout::kGroup:
      return at::cat({rows.narrow(0, 0, copies),
                      rows.narrow(0, 2 * copies, rows.size(0) - 2 * copies),
                      rows.narrow(0, copies, copies)});
  }
  throw Bug("unknown row layout");
}

at::Tensor rows_to_file(const at::Tensor& rows, std::int64_t copies, RowLayout layout) {
  const std::int64_t out = rows.size(0) - copies;
  switch (layout) {
    case RowLayout::kOwn:
      return rows;
    case RowLayout::kGroup:
      return at::cat({rows.narrow(0, 0, copies), rows.narrow(0, out, copies),
                      rows.narrow(0, copies, out - copies)});
  }
  throw Bug("unknown row layout");
}

const at::Tensor* CheckpointSource::look(const std::string& name) {
  const at::Tensor* tensor = tensors_.find(name);
  if (tensor != nullptr) used_.insert(name);
  return tensor;
}

bool CheckpointSource::matches(const std::string& name, const at::Tensor& tensor,
                               const Shape& expected) {
  if (!at::isFloatingType(tensor.scalar_type()) && !tensor.is_quantized()) {
    wrong_.push_back(name + " holds integers, not floats");
    return false;
  }
  bool same = static_cast<std::size_t>(tensor.dim()) == expected.size();
  for (std::size_t i = 0; same && i < expected.size(); ++i) {
    const std::int64_t size = tensor.size(static_cast<std::int64_t>(i));
    same = expected[i] == kAny ? size >= 1 : size == expected[i];
  }
  if (!same) {
    wrong_.push_back(name + " is " + shape_text(tensor.sizes()) + ", expected " +
                     shape_text(expected));
  }
  return same;
}

at::Tensor CheckpointSource::take(const std::string& name, const Shape& expected,
                                  std::int64_t fallback) {
  const at::Tensor* found = look(name);
  if (found == nullptr) missing_.push_back(name);
  if (found != nullptr && matches(name, *found, expected)) {
    const at::Tensor values = found->is_quantized() ? found->dequantize() : *found;
    return values.to(at::kFloat).contiguous().clone();
  }
  // A stand-in. The width that was found keeps one wrong dimension from making the layers behind
  // look wrong too; a limit, and no memory behind it, keep absurd files cheap.
  constexpr std::int64_t kWidest = 4096;
  Shape shape = expected;
  const bool same_rank = found != nullptr && found->dim() > 0 &&
                         found->dim() == static_cast<std::int64_t>(shape.size());
  if (same_rank && found->size(0) > 0) fallback = std::min(found->size(0), kWidest);
  for (std::int64_t& size : shape) {
    if (size == kAny) size = fallback;
  }
  return at::zeros({}, at::kFloat).expand(shape);
}

at::Tensor CheckpointSource::take_optional(const std::string& name, const Shape& expected) {
  return tensors_.contains(name) ? take(name, expected) : at::Tensor();
}

WeightBounds CheckpointSource::take_bounds(const std::string& name, const at::Tensor& weight) {
  const std::string low = name + ".weight_low", high = name + ".weight_high";
  const bool stand_in = weight.storage().nbytes() < weight.nbytes();  // see take
  if (stand_in) return {};
  const bool there = tensors_.contains(low) || tensors_.contains(high);
  const bool wanted = protection_ != nullptr && protection_->weights_bounded;
  if (!there && !wanted) return {};
  if (there && protection_ != nullptr && !wanted) {
    wrong_.push_back(low + ", but the record has no weight bounds");
  }
  const at::Tensor* found = tensors_.find(low);
  const Shape shape = found != nullptr && found->dim() == 0 ? Shape{} : Shape{weight.size(0)};
  WeightBounds bounds{take(low, shape), take(high, shape)};
  // A comparison with NaN is false; Inf would let every finite or infinite value pass.
  const at::Tensor good = (bounds.low <= bounds.high) & at::isfinite(bounds.high - bounds.low);
  if (!good.all().item<bool>()) {
    wrong_.push_back(low + " is above weight_high or not finite");
  } else if (!at::equal(decoded(weight, bounds), weight)) {
    wrong_.push_back(name + ".weight has values outside its weight bounds");
  }
  return bounds;
}

std::vector<std::int64_t> CheckpointSource::take_duplicated(const std::string& name,
                                                            std::int64_t rows) {
  const at::Tensor* found = look(name);
  if (found == nullptr) return {};
  const std::int64_t count = found->numel(), out = rows - count;
  std::vector<std::int64_t> channels;
  bool good = found->scalar_type() == at::kLong && found->dim() == 1 && count >= 1 && out >= count;
  if (good) {
    const at::Tensor list = found->contiguous();
    channels.assign(list.data_ptr<std::int64_t>(), list.data_ptr<std::int64_t>() + count);
    const std::set<std::int64_t> distinct(channels.begin(), channels.end());
    good = static_cast<std::int64_t>(distinct.size()) == count && *distinct.begin() >= 0 &&
           *distinct.rbegin() < out;
  }
  if (good) return channels;
  wrong_.push_back(name + " is not a list of different channel numbers of its convolution");
  return {};
}

std::int64_t CheckpointSource::seed_copies(const ConvSpec& spec, const at::Tensor& weight) {
  const at::Tensor* norm = tensors_.find(spec.norm + ".running_mean");
  if (norm == nullptr || norm->dim() != 1) return 0;
  const std::int64_t copies = weight.size(0) - norm->size(0);
  if (copies < 1 || copies > norm->size(0)) return 0;
  const bool twice = at::equal(weight.narrow(0, 0, copies), weight.narrow(0, copies, copies));
  return twice ? copies : 0;
}

Op CheckpointSource::duplicate(const ConvSpec& spec, Conv conv,
                               std::vector<std::int64_t> duplicated) {
  const auto copies = static_cast<std::int64_t>(duplicated.size());
  DuplicatedConv op;
  op.duplicated = std::move(duplicated);
  op.low = take_optional(spec.name + ".range_low", {copies});
  op.high = take_optional(spec.name + ".range_high", {copies});
  op.correction = op.low.defined() ? Correction::kRange : Correction::kMin;
  if (protection_ != nullptr && protection_->convs.count(spec.name) > 0) {
    op.correction = protection_->convs.at(spec.name).correction;
    op.layout = protection_->convs.at(spec.name).layout;
  }
  const bool range = op.correction == Correction::kRange;
  if (range && !op.low.defined()) missing_.push_back(spec.name + ".range_low");
  if (range && !op.high.defined()) missing_.push_back(spec.name + ".range_high");
  if (!range) op.low = op.high = at::Tensor();
  if (op.low.defined() && op.high.defined() && !(op.low <= op.high).all().item<bool>()) {
    wrong_.push_back(spec.name + ".range_low is above range_high or not a number");
  }
  if (op.layout == RowLayout::kGroup) {
    std::vector<std::int64_t> first(op.duplicated.size());
    std::iota(first.begin(), first.end(), 0);
    if (op.duplicated != first) {
      wrong_.push_back(spec.name + ".duplicated is not 0, 1, ... as the row layout needs");
    }
  }
  conv.weight = rows_from_file(conv.weight, copies, op.layout);
  if (conv.bias.defined()) conv.bias = rows_from_file(conv.bias, copies, op.layout);
  for (at::Tensor* bound : {&conv.bounds.low, &conv.bounds.high}) {
    if (bound->defined() && bound->dim() == 1) *bound = rows_from_file(*bound, copies, op.layout);
  }
  op.conv = std::move(conv);
  return op;
}

Op CheckpointSource::conv_or_duplicated(const ConvSpec& spec) {
  Conv op;
  op.groups = spec.groups;
  op.weight = take(spec.name + ".weight",
                   {kAny, spec.in / spec.groups, spec.kernel.height, spec.kernel.width}, spec.out);
  const std::int64_t rows = op.weight.size(0);
  if (spec.bias) op.bias = take(spec.name + ".bias", {rows});
  op.stride = spec.stride;
  op.dilation = spec.dilation;
  op.padding = padding_of(spec);
  op.bounds = take_bounds(spec.name, op.weight);
  auto duplicated = take_duplicated(spec.name + ".duplicated", rows);
  if (!duplicated.empty()) return duplicate(spec, std::move(op), std::move(duplicated));
  if (const std::int64_t copies = seed_copies(spec, op.weight); copies > 0) {
    DuplicatedConv twice;
    twice.duplicated.resize(static_cast<std::size_t>(copies));
    std::iota(twice.duplicated.begin(), twice.duplicated.end(), 0);
    twice.correction = Correction::kMin;
    twice.layout = RowLayout::kGroup;
    twice.conv = std::move(op);
    twice.conv.weight = rows_from_file(twice.conv.weight, copies, twice.layout);
    if (spec.bias) twice.conv.bias = rows_from_file(twice.conv.bias, copies, twice.layout);
    return twice;
  }
  return op;
}

Op CheckpointSource::conv(const ConvSpec& spec) {
  Op op = conv_or_duplicated(spec);
  const std::int64_t out = out_channels_of(op);
  if (spec.classifier) check_classes(spec.name, out);
  if (out % spec.groups != 0)
    wrong_.push_back(spec.name + ".weight has " + std::to_string(out) + " filters in " +
                     std::to_string(spec.groups) + " groups");
  return op;
}

Op CheckpointSource::batch_norm(const std::string& name, std::int64_t channels) {
  BatchNorm op;
  op.weight = take(name + ".weight", {channels});
  op.bias = take(name + ".bias", {channels});
  op.mean = take(name + ".running_mean", {channels});
  op.var = take(name + ".running_var", {channels});
  // Files of PyTorch before 0.4.1 have no counter.
  if (const at::Tensor* counter = look(name + ".num_batches_tracked")) {
    const at::ScalarType type = counter->scalar_type();
    const bool number = at::isIntegralType(type, false) || at::isFloatingType(type);
    if (number && counter->numel() == 1 && at::isfinite(*counter).all().item<bool>()) {
      op.batches_tracked = counter->to(at::kLong).reshape({}).clone();
    } else {
      wrong_.push_back(name + ".num_batches_tracked is not one number");
    }
  }
  return op;
}

Op CheckpointSource::activation(const std::string& name, ActivationKind kind,
                                std::int64_t channels) {
  const at::Tensor* bound = tensors_.find(name + ".bound");
  const bool recorded = protection_ != nullptr;
  if (bound == nullptr) {
    if (recorded && protection_->restricted) missing_.push_back(name + ".bound");
    return Activation{kind};
  }
  if (recorded && !protection_->restricted) {
    wrong_.push_back(name + ".bound, but the record has no restriction");
  }
  BoundedActivation op;
  op.kind = kind;
  const bool per_neuron = bound->dim() == 3;  // of maps of a size that is known later
  op.bound = take(name + ".bound", bound->dim() == 0 ? Shape{}
                                   : per_neuron      ? Shape{channels, kAny, kAny}
                                                     : Shape{channels});
  // A comparison with NaN is false. SiLU and Hardswish have values down to -0.375.
  const bool dips = kind == ActivationKind::kSilu || kind == ActivationKind::kHardswish;
  if (!(op.bound >= (dips ? -0.375 : 0.0)).all().item<bool>()) {
    wrong_.push_back(name + ".bound is negative or not a number");
  }
  if (recorded) op.clipping = protection_->clipping;
  if (!rules::can_restrict(op.clipping, kind))
    wrong_.push_back(name + ".bound is smooth, which is for ReLUs alone");
  if (kind == ActivationKind::kRelu) return op;
  op.low = take_optional(name + ".bound_low", op.bound.sizes().vec());
  if (recorded && protection_->two_sided && !op.low.defined())
    missing_.push_back(name + ".bound_low");
  if (op.low.defined() && !(op.low <= op.bound).all().item<bool>())
    wrong_.push_back(name + ".bound_low is above bound or not a number");
  return op;
}

Op CheckpointSource::linear(const LinearSpec& spec) {
  Linear op;
  op.weight = take(spec.name + ".weight", {kAny, spec.in}, spec.out);
  if (spec.bias) op.bias = take(spec.name + ".bias", {op.weight.size(0)});
  op.bounds = take_bounds(spec.name, op.weight);
  if (spec.role == LinearRole::kClassifier) check_classes(spec.name, op.weight.size(0));
  return op;
}

void CheckpointSource::check_classes(const std::string& layer, std::int64_t found) {
  if (classes_ < 0 || found == classes_) return;
  classes_differ_ = true;
  wrong_.push_back(layer + ".weight is for " + std::to_string(found) +
                   " classes, the data set has " + std::to_string(classes_));
}

void CheckpointSource::ignore(const std::string& prefix) {
  for (const auto& entry : tensors_)
    if (begins_with(entry.first, prefix)) ignored_.insert(entry.first);
}

void CheckpointSource::widths_differ(const std::string& name, std::int64_t a, std::int64_t b) {
  wrong_.push_back("the branches that meet at " + name + " have " + std::to_string(a) + " and " +
                   std::to_string(b) + " channels");
}

void CheckpointSource::mark_unexpected() {
  for (const auto& entry : tensors_) {
    if (used_.count(entry.first) == 0 && !ignores(entry.first)) unexpected_.push_back(entry.first);
  }
}

std::string CheckpointSource::problems() const {
  std::string text;
  describe(text, missing_.size() == 1 ? "missing entry" : "missing entries", missing_);
  describe(text, unexpected_.size() == 1 ? "unexpected entry" : "unexpected entries", unexpected_);
  describe(text, wrong_.size() == 1 ? "wrong entry" : "wrong entries", wrong_);
  return text;
}

}  // namespace sentinel
