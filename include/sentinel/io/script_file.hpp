#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Attributes of the networks that export_script writes: how images were normalised.
inline constexpr char kScriptMean[] = "sentinelnn_mean", kScriptStd[] = "sentinelnn_std";

/// The contents of a TorchScript file beside its code. Read without LibTorch: nothing in it is
/// executed.
struct ScriptContents {
  StateDict tensors;    // parameters and buffers, in PyTorch's order; contiguous, as stored
  std::string refused;  // why the file cannot be given as a network; empty where it can
};

/// Reads tensors and attributes by a pickle machine of our own, and the heads of its classes. The
/// code is checked as by checked_script, and what is wrong with it is told in `refused`. DataError
/// where the archive or its data is damaged, or is not of TorchScript's kinds.
ScriptContents read_script(const Bytes& file, const std::string& source);

/// The attributes sentinelnn_mean and sentinelnn_std of a network, empty where it has none. As
/// read_script, without its tensors.
struct ScriptNumbers {
  std::vector<double> mean, std;
};
ScriptNumbers read_script_numbers(const Bytes& file, const std::string& source);

/// The same network as an archive that LibTorch may be given: version, data and code alone. The
/// pickles are read and written again, so that no two readers can differ about them; the code is
/// text that was checked: only operators of is_script_operator, no hooks, no __setstate__, bounded
/// nesting. DataError, naming file, line and operator, where something else is in it.
Bytes checked_script(const Bytes& file, const std::string& source);

/// Whether a network may call this operator: "conv2d", "relu_". These compute with their arguments
/// and do nothing else. No file, no thread, no other module of Python.
bool is_script_operator(std::string_view name);

}  // namespace sentinel
