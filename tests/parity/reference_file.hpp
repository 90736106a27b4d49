#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sentinel::parity {

/// Reads what an independent PyTorch program computed (reference/<model>.h5). Throws
/// std::runtime_error naming the object that cannot be read.
class ReferenceFile {
 public:
  explicit ReferenceFile(const std::string& path);
  ReferenceFile(const ReferenceFile&) = delete;
  ReferenceFile& operator=(const ReferenceFile&) = delete;
  ~ReferenceFile();

  /// A numeric data set in its shape: f32 and f64 as stored, integers as i64.
  at::Tensor tensor(const std::string& name) const;
  /// A list of variable-length strings.
  std::vector<std::string> texts(const std::string& name) const;
  /// An integer attribute of a group.
  std::int64_t number(const std::string& group, const std::string& attribute) const;
  /// Names in a group, alphabetically.
  std::vector<std::string> members(const std::string& group) const;

 private:
  std::int64_t file_;  // hid_t
};

}  // namespace sentinel::parity
