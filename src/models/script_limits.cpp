#include "models/script_limits.hpp"

#include <c10/core/CPUAllocator.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>

#include "models/script_values.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/memory.hpp"

namespace sentinel {
namespace {

using c10::IValue;

// The need of EfficientNetV2-S, scripted, stands beside some limits.
constexpr std::uint64_t kMaxSteps = 5'000'000;                // operators and turns of loops; 8005
constexpr std::chrono::minutes kMaxTime{10};                  // a second or two
constexpr std::int64_t kMaxElements = std::int64_t{1} << 30;  // of a tensor
constexpr std::size_t kMaxList = 1'000'000, kMaxText = 1u << 20;
constexpr std::int64_t kMaxParts = 65536;  // of split, unbind, chunk
constexpr double kMaxProducts = 1e13;      // of one convolution or matrix product; VGG-16: 4e9
constexpr double kMaxLooks = 1e11;         // of one pooling; VGG-16: 3e7

/// Hands requests on to LibTorch's own allocator, whose memory it may free.
class LimitedAllocator final : public c10::Allocator {
 public:
  // LibTorch 1.13 has the first of these two, 2.x the second.
  at::DataPtr allocate(std::size_t n) const { return checked(n).allocate(n); }
  at::DataPtr allocate(std::size_t n) { return checked(n).allocate(n); }
  c10::DeleterFnPtr raw_deleter() const { return below->raw_deleter(); }
  void copy_data(void* to, const void* from, std::size_t n) const { std::memcpy(to, from, n); }

  c10::Allocator* below = nullptr;
  std::uint64_t limit = 0;
  std::string source;

 private:
  c10::Allocator& checked(std::size_t n) const {
    if (n > limit)
      throw DataError(source, "it wants a tensor of " + std::to_string(n) +
                                  " bytes, which no "
                                  "network for these images needs");
    return *below;
  }
};

LimitedAllocator& limited_allocator() {
  static auto* const allocator = new LimitedAllocator;  // LibTorch may ask it until the end
  return *allocator;
}

std::uint64_t memory_now() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

bool is_integral(const IValue& value) {
  return value.isInt() || (value.isTensor() && value.toTensor().defined() &&
                           at::isIntegralType(value.toTensor().scalar_type(), true));
}

/// x86 ends the program at an integer division by zero, and at that of the smallest by -1.
std::string fault_of_division(const std::vector<IValue>& in) {
  if (in.size() < 2 || !is_integral(in[0]) || !is_integral(in[1])) return "";
  const at::Tensor by =
      in[1].isInt() ? at::scalar_tensor(in[1].toInt(), at::kLong) : in[1].toTensor().to(at::kLong);
  return at::logical_or(by == 0, by == -1).any().item<bool>() ? "divides integers by zero or -1"
                                                              : "";
}

std::int64_t largest_dimension(const IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined()) return 0;
  std::int64_t most = 0;
  for (const std::int64_t size : value.toTensor().sizes()) most = std::max(most, size);
  return most;
}

/// LibTorch's kernels divide by these numbers.
std::string fault_of_shuffle(const std::string& name, const std::vector<IValue>& in) {
  constexpr std::int64_t kMaxFactor = 65536;
  if (name.find("shuffle") == std::string::npos || in.size() < 2 || !in[0].isTensor()) return "";
  if (in[0].toTensor().numel() == 0) return "shuffles nothing";
  const bool fits = in[1].isInt() && in[1].toInt() > 0 && in[1].toInt() <= kMaxFactor;
  return fits ? "" : "shuffles by a number that cannot be";
}

/// LibTorch 1.13 reads one norm for each filter, however many there are.
bool is_norm_of_weight(const std::vector<IValue>& in) {
  if (in.size() < 3 || !in[0].isTensor() || !in[1].isTensor() || !in[2].isInt()) return false;
  const at::Tensor weight = in[0].toTensor(), norms = in[1].toTensor();
  const std::int64_t dimension = in[2].toInt();
  if (dimension < 0 || dimension >= weight.dim()) return norms.numel() == 1;
  return norms.numel() == weight.size(dimension);
}

bool is_true(const std::vector<IValue>& in, std::size_t at) {
  return at < in.size() && in[at].isBool() && in[at].toBool();
}

/// A network that draws numbers, reads memory as it lies, or moves its statistics, may answer
/// otherwise at every call.
std::string fault_of_chance(const std::string& name, const std::vector<IValue>& in) {
  constexpr const char* kEval = ": call eval() before saving it";
  if (is_one_of(name, {"rand", "rand_like", "randn", "randn_like", "bernoulli"}) ||
      (name == "rrelu" && is_true(in, 3)))
    return std::string("draws random numbers") + kEval;
  if (name.find("dropout") != std::string::npos && is_true(in, 2))
    return std::string("is active") + kEval;
  const bool tracks = in.size() > 5 && in[3].isTensor() && in[3].toTensor().defined();
  if (is_one_of(name, {"empty", "empty_like", "new_empty"}))
    return "gives memory that nothing has written: use torch.zeros";
  const bool normalises = name.find("batch_norm") != std::string::npos || name == "instance_norm";
  if (normalises && tracks && is_true(in, 5)) return std::string("normalises by the batch") + kEval;
  return "";
}

/// Values in a value, one that is in two lists counted twice; no more than `most` + 1 are counted.
std::size_t places_in(const IValue& value, std::size_t most) {
  std::size_t places = 1;
  const auto add = [&](const auto& items) {
    for (const IValue& item : items)
      if (places <= most) places += places_in(item, most - places);
  };
  if (value.isList()) add(value.toListRef());
  if (value.isTuple()) add(value.toTupleRef().elements());
  if (value.isGenericDict())
    for (const auto& entry : value.toGenericDict())
      if (places <= most) places += places_in(entry.value(), most - places);
  return places;
}

/// Values that a pooling looks at, a bound: its window at every pixel.
double looks_of_pooling(const std::vector<IValue>& in) {
  if (in.size() < 2 || !in[0].isTensor() || !in[1].isIntList()) return 0;
  double looks = static_cast<double>(in[0].toTensor().numel());
  for (const std::int64_t size : in[1].toIntVector())
    looks *= static_cast<double>(std::max<std::int64_t>(1, size));
  return looks;
}

/// Multiplications, a bound.
double products_of(const std::string& name, const std::vector<IValue>& in) {
  std::vector<at::Tensor> tensors;
  const auto add = [&](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.dim() > 1) tensors.push_back(tensor);
  };
  for (const IValue& value : in) {
    if (value.isTensor()) add(value.toTensor());
    if (value.isTensorList())  // of einsum
      for (const at::Tensor& tensor : value.toTensorVector()) add(tensor);
  }
  if (tensors.size() < 2) return 0;
  const auto numel = [](const at::Tensor& tensor) { return static_cast<double>(tensor.numel()); };
  if (name.find("conv") == std::string::npos)
    return numel(tensors[0]) * static_cast<double>(largest_dimension(tensors[1]));
  double padded =
      numel(tensors[0]) / static_cast<double>(std::max<std::int64_t>(1, tensors[0].size(1)));
  for (const IValue& value : in)  // padding, among others
    if (value.isIntList() && value.toIntVector().size() == 2)
      padded += static_cast<double>(tensors[0].size(0)) *
                static_cast<double>(std::abs(value.toIntVector()[0])) *
                static_cast<double>(std::abs(value.toIntVector()[1])) * 4;
  return padded * numel(tensors[1]);
}

}  // namespace

TensorLimit::TensorLimit(const std::string& source, std::uint64_t bytes) {
  LimitedAllocator& allocator = limited_allocator();
  allocator.below = c10::GetCPUAllocator();
  allocator.limit = bytes;
  allocator.source = source;
  c10::SetCPUAllocator(&allocator);
}

TensorLimit::~TensorLimit() {
  c10::SetCPUAllocator(limited_allocator().below);
}

WalkLimits::WalkLimits(const std::string& source)
    : source_(source), memory_(memory_now()), begin_(std::chrono::steady_clock::now()) {}

void WalkLimits::step() {
  constexpr std::uint64_t kEvery = 64;  // looking at memory and time takes as long as an operator
  if (++steps_ > kMaxSteps)
    throw DataError(source_, "it runs more than " + std::to_string(kMaxSteps) +
                                 " operators for a few images: does it loop forever?");
  if (steps_ % kEvery != 0) return;
  if (std::chrono::steady_clock::now() - begin_ > kMaxTime)
    throw DataError(source_, "it takes more than 10 minutes for a few images");
  if (memory_now() > memory_ + memory_of_node() / 2)
    throw DataError(source_, "for a few images it takes more than half of this machine's memory");
}

std::string WalkLimits::fault_of_call(const std::string& called, const std::vector<IValue>& in) {
  const bool in_place = called.size() > 1 && called.back() == '_' && called[0] != '_';
  const std::string name = in_place ? called.substr(0, called.size() - 1) : called;
  if (is_one_of(name, {"remainder", "floordiv", "fmod", "div", "floor_divide"}))
    if (const std::string fault = fault_of_division(in); !fault.empty()) return fault;
  if (const std::string fault = fault_of_shuffle(name, in); !fault.empty()) return fault;
  if (const std::string fault = fault_of_chance(name, in); !fault.empty()) return fault;
  if (is_one_of(name, {"str", "format", "percentFormat"}) &&
      std::any_of(in.begin(), in.end(), holds_tensor))
    return "writes a tensor as text";
  if (name == "_weight_norm" && !is_norm_of_weight(in))
    return "has another number of norms than the weight has filters";
  if (is_one_of(name, {"split", "split_with_sizes", "chunk", "unbind", "tensor_split", "tolist",
                       "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes"}))
    if (!in.empty() && largest_dimension(in[0]) > kMaxParts) return "makes too many parts";
  if (name == "mul" && in.size() > 1 && (in[0].isList() || in[1].isList())) {
    const IValue &list = in[in[0].isList() ? 0 : 1], &times = in[in[0].isList() ? 1 : 0];
    const std::size_t most = kMaxList / std::max<std::size_t>(1, list.toListRef().size());
    if (times.isInt() && times.toInt() > static_cast<std::int64_t>(most))
      return "makes a list that is too long";
  }
  if (products_of(name, in) > kMaxProducts &&
      (name.find("conv") != std::string::npos || name.find("mm") != std::string::npos ||
       is_one_of(name, {"matmul", "linear", "einsum"})))
    return "multiplies more than any network for these images";
  const bool window = name.find("pool") != std::string::npos && name.find("adaptive") != 0;
  if (window && looks_of_pooling(in) > kMaxLooks)
    return "pools more than any network for these images";
  return "";
}

std::string WalkLimits::fault_of_result(const std::vector<IValue>& outputs) {
  for (const IValue& value : outputs) {
    if (value.isTensor() && value.toTensor().defined() &&
        (value.toTensor().layout() != at::kStrided || !value.toTensor().has_storage()))
      return "makes a tensor that is not dense";
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().numel() > kMaxElements)
      return "makes a tensor of " + std::to_string(value.toTensor().numel()) + " elements";
    if (places_in(value, kMaxList) > kMaxList) return "makes a list that is too long";
    if (value.isString() && value.toStringRef().size() > kMaxText)
      return "makes a text that is too long";
  }
  return "";
}

}  // namespace sentinel
