#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel::test {

/// A file that must be refused: what is wrong with it, and a part of the error it has to give.
struct HostileFile {
  std::string name, error;
  Bytes bytes;
};

/// Checkpoints made to hurt a reader, each broken in one way. Also the seeds of the fuzzer.
std::vector<HostileFile> hostile_checkpoints();

/// Small good files in the zip and the old format, to be damaged at will.
Bytes good_zip_checkpoint();
Bytes good_legacy_checkpoint();

/// A zip checkpoint around any pickle, checksums right, with one storage "0".
Bytes wrap_pickle(std::string_view pickle, const Bytes& storage);

}  // namespace sentinel::test
