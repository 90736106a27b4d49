#pragma once
#include <string>

#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel::test {

/// A network of one convolution and one linear layer; kHardened: a channel twice, and everything
/// bounded; kStored: weights in other formats, and coded.
enum class Small { kPlain, kHardened, kStored };
StateDict small_weights(Small kind);
std::string small_record(Small kind);

}  // namespace sentinel::test
