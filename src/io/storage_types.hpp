#pragma once
#include <ATen/ATen.h>

#include <array>
#include <string_view>

namespace sentinel {

/// PyTorch's storage classes and the element type of each.
struct StorageType {
  std::string_view global;  // as pickles name it
  at::ScalarType dtype;
};

inline constexpr std::array<StorageType, 10> kStorageTypes{{
    {"torch.FloatStorage", at::kFloat},
    {"torch.DoubleStorage", at::kDouble},
    {"torch.HalfStorage", at::kHalf},
    {"torch.BFloat16Storage", at::kBFloat16},
    {"torch.LongStorage", at::kLong},
    {"torch.IntStorage", at::kInt},
    {"torch.ShortStorage", at::kShort},
    {"torch.CharStorage", at::kChar},
    {"torch.ByteStorage", at::kByte},
    {"torch.BoolStorage", at::kBool},
}};

/// The type of the integers of quantised tensors, and of the tensor.
struct QuantisedType {
  std::string_view global;
  at::ScalarType integers, dtype;
};

inline constexpr std::array<QuantisedType, 3> kQuantisedTypes{{
    {"torch.QInt8Storage", at::kChar, at::kQInt8},
    {"torch.QUInt8Storage", at::kByte, at::kQUInt8},
    {"torch.QInt32Storage", at::kInt, at::kQInt32},
}};

}  // namespace sentinel
