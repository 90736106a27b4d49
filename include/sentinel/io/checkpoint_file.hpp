#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <unordered_map>
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
  std::unordered_map<std::string, std::size_t> index_;  // name -> which entry
};

/// A dictionary of tensors inside a file.
struct TensorDict {
  /// The keys that lead to it, "" for the outermost: "checkpoint.state_dict". Where another path is
  /// spelled the same, the later one ends with "#2".
  std::string key;
  StateDict tensors;                // at least one; contiguous, names and dtypes as stored
  std::vector<std::string> others;  // names of its entries that are neither tensors nor such
};

/// What is in a file of weights.
struct WeightsFile {
  std::vector<TensorDict> dicts;        // at least one; the usual one first
  std::optional<std::string> metadata;  // the record sentinelnn.json
  std::string remarks = {};             // __metadata__ of safetensors, as JSON
};

/// Reads every dictionary of tensors of a file: torch.save's zip and legacy (pre-1.6) format
/// (OrderedDict or dict at any key, tensor views) and safetensors; f16/bf16/f64/int entries are
/// kept as they are. Averages (see is_average) come last, outer dictionaries before inner ones,
/// then state_dict, model_state_dict, model and net before others, then the order of the file.
/// A pickle machine with an allow-list: nothing in the file is ever executed. Sizes and depth are
/// bounded by the file's size. `name` is what errors call the file. Throws DataError (path, offset,
/// what to do; where it is no such file, what it is instead).
WeightsFile parse_weights(const Bytes& bytes, const std::string& name);

/// Whether a key says that what it leads to is an average of weights: one of its words is ema, swa
/// or begins with averag.
bool is_average(const std::string& key);

/// The first dictionary of a file, and the record.
struct CheckpointFile {
  StateDict tensors;                    // contiguous, names and dtypes as stored
  std::optional<std::string> metadata;  // the record sentinelnn.json
};
/// As parse_weights.
CheckpointFile parse_pth(const Bytes& bytes, const std::string& name);
CheckpointFile read_pth(const std::string& path);

/// Whether it is a TorchScript file, which torch.jit.save wrote; false for anything else or broken.
bool is_script_archive(const Bytes& bytes);

/// Which of this program's own archives a file is: by the names of its records, nothing is
/// executed.
enum class OwnArchive { kNone, kCheckpoint, kTrainingState, kScript };
/// kNone for other files, and for damaged ones.
OwnArchive own_archive(const std::string& path);

/// Writes the zip format such that torch.load(f, weights_only=True) gives an OrderedDict of plain
/// contiguous tensors in this order, with `metadata` as the record sentinelnn.json. Same input,
/// same bytes.
Bytes serialize_pth(const StateDict& tensors, const std::optional<std::string>& metadata = {});
/// serialize_pth, then write_file_atomic.
void write_pth(const std::string& path, const StateDict& tensors,
               const std::optional<std::string>& metadata = {});

}  // namespace sentinel
