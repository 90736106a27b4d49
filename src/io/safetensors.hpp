#pragma once
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {

/// Whether a file begins as a safetensors file does: eight bytes, then a JSON object.
bool is_safetensors(const Bytes& bytes);

/// Reads a safetensors file (8 bytes: length of the header, little-endian; the header, JSON; raw
/// tensors, row-major): F64, F32, F16, BF16, I64, I32, I16, I8, U8 and BOOL, in the order of their
/// data. The header has at most 100 MB and no name twice; the tensors must cover the data without
/// gap or overlap. Throws DataError.
WeightsFile parse_safetensors(const Bytes& bytes, const std::string& name);

}  // namespace sentinel
