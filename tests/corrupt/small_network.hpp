#pragma once
#include <string>

#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel::test {

/// A checkpoint of a network of one convolution and one linear layer; hardened: a channel twice,
/// and everything bounded.
StateDict small_weights(bool hardened);
std::string small_record(bool hardened);

}  // namespace sentinel::test
