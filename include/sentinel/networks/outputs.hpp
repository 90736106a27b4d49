#pragma once
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// Files that this program writes, and any other.
enum class FileKind {
  kResult,         // of a campaign, HDF5
  kRanking,        // HDF5
  kRankingTable,   // CSV
  kFaultList,      // CSV with the first line that this program writes
  kCheckpoint,     // with the record sentinelnn.json
  kTrainingState,  // OUTPUT.training
  kScript,         // TorchScript, by `export`
  kDamagedHdf5,
  kOther,
  kAnswer,              // JSON, by `protect`
  kVulnerability,       // HDF5
  kVulnerabilityTable,  // CSV
};

/// What an answer of `protect` begins with.
inline constexpr char kAnswerHead[] = R"({"sentinelnn_protect":)";

/// By what is in it; nothing is executed, no network is built. EnvironmentError where it cannot be
/// read.
FileKind file_kind(const std::string& path);

/// A file that a command is going to write. An empty path stands for none.
struct Output {
  std::string path;
  FileKind kind;
};

/// Whether `output` may be written: as require_writable, and UserError where another kind of file
/// is there. A result may go on or start over, so its own rules decide what becomes of it. On
/// rank 0 only.
void require_replaceable(const Output& output);

/// Before any work, on rank 0: require_replaceable of each, and UserError where one is also an
/// input, or another output. Empty names are none.
void check_outputs(const std::vector<Output>& outputs, const std::vector<std::string>& inputs);

/// require_replaceable once more, then write_file_atomic.
void write_output(const Output& output, const Bytes& content);

/// The same of a network. Only then the state of its training is removed, where there is one.
void write_network(const std::string& path, const Bytes& content);

}  // namespace sentinel
