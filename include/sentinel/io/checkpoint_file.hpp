#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// Ordered name -> tensor, as PyTorch's OrderedDict. Tensors on the CPU.
class StateDict {
 public:
  void set(const std::string& name, at::Tensor tensor);  // replaces or appends
  const at::Tensor* find(const std::string& name) const;
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  std::size_t size() const { return entries_.size(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

 private:
  std::vector<std::pair<std::string, at::Tensor>> entries_;
};

/// What is in a .pth file.
struct CheckpointFile {
  StateDict tensors;                    // contiguous, dtypes as stored
  std::optional<std::string> metadata;  // the record sentinelnn.json
};

/// Reads a state_dict as torch.save writes it: zip and legacy (pre-1.6) format; OrderedDict or
/// dict; inside wrappers `state_dict`, `model`, `net`; `module.` prefixes dropped; tensor views;
/// f16/bf16/f64/int entries kept as they are. A pickle machine with an allow-list: nothing in the
/// file is ever executed. Sizes and depth are bounded by the file's size. Throws DataError (path,
/// offset, what to do).
CheckpointFile read_pth(const std::string& path);
/// The same from memory; `name` is what errors call it.
CheckpointFile parse_pth(const Bytes& bytes, const std::string& name);

/// Whether it is a TorchScript file, which torch.jit.save wrote; false for anything else or broken.
bool is_script_archive(const Bytes& bytes);

/// Writes the zip format such that torch.load(f, weights_only=True) gives an OrderedDict of plain
/// contiguous tensors in this order, with `metadata` as the record sentinelnn.json. Same input,
/// same bytes.
Bytes serialize_pth(const StateDict& tensors, const std::optional<std::string>& metadata = {});
/// serialize_pth, then write_file_atomic.
void write_pth(const std::string& path, const StateDict& tensors,
               const std::optional<std::string>& metadata = {});

}  // namespace sentinel
