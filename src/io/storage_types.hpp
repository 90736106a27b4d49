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

}  // namespace sentinel
