#pragma once
#include <torch/script.h>

#include <string>

namespace sentinel {

/// Looks at everything that LibTorch compiled of a file, before any of it runs: all blocks of all
/// functions and methods, taken or not. DataError naming `source`, operator and function where
/// there is more than the operators of is_script_operator and what moves values about.
void check_script(const torch::jit::Module& network, const std::string& source);

}  // namespace sentinel
