#include "sentinel/networks/outputs.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/fault/fault_list.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/store/vulnerability_file.hpp"
#include "sentinel/words/fault_list_words.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

const char* in_words(FileKind kind) {
  switch (kind) {
    case FileKind::kResult:
      return "the result of a campaign";
    case FileKind::kRanking:
      return "a ranking (HDF5)";
    case FileKind::kRankingTable:
      return "a ranking (CSV)";
    case FileKind::kFaultList:
      return "a list of faults of `sentinelnn summarize` or `replay`";
    case FileKind::kCheckpoint:
      return "a checkpoint of sentinelnn";
    case FileKind::kTrainingState:
      return "the state of a training";
    case FileKind::kScript:
      return "a TorchScript file of `sentinelnn export`";
    case FileKind::kAnswer:
      return "an answer of `sentinelnn protect`";
    case FileKind::kVulnerability:
      return "vulnerability factors (HDF5)";
    case FileKind::kVulnerabilityTable:
      return "vulnerability factors (CSV)";
    case FileKind::kDamagedHdf5:
      return "an HDF5 file that cannot be read";
    case FileKind::kOther:
      return "a file that sentinelnn did not write";
  }
  throw Bug("a kind of file without a name");
}

std::string beginning_of(const std::string& path) {
  const FileHandle file(path, O_RDONLY);
  std::string begin(32, '\0');
  begin.resize(file.read_at(begin.data(), begin.size(), 0));
  return begin;
}

FileKind kind_of_hdf5(const std::string& path) {
  try {
    const std::string schema = hdf5_schema(path);
    if (schema == kResultSchema) return FileKind::kResult;
    if (schema == kVulnerabilitySchema) return FileKind::kVulnerability;
    return schema == kRankingSchema ? FileKind::kRanking : FileKind::kOther;
  } catch (const DataError&) {
    return FileKind::kDamagedHdf5;
  }
}

FileKind kind_of_archive(const std::string& path) {
  switch (own_archive(path)) {
    case OwnArchive::kNone:
      return FileKind::kOther;
    case OwnArchive::kCheckpoint:
      return FileKind::kCheckpoint;
    case OwnArchive::kTrainingState:
      return FileKind::kTrainingState;
    case OwnArchive::kScript:
      return FileKind::kScript;
  }
  throw Bug("a kind of archive without a rule");
}

void require_distinct(const std::string& output, const std::string& other) {
  if (!output.empty() && !other.empty() && same_file(output, other))
    throw UserError(output +
                    " is named twice, as this command's output and as another file; choose another "
                    "output");
}

/// x.h5.lock, x.h5.journal.0, x.h5.tmp.17
bool is_working_name(const std::string& path) {
  const std::string name = fs::path(path).filename().string();
  if (ends_with(name, ".lock")) return true;
  const std::size_t last = name.find_last_not_of("0123456789");
  if (last == std::string::npos || last + 1 == name.size()) return false;
  const std::string_view before = std::string_view(name).substr(0, last + 1);
  return ends_with(before, ".journal.") || ends_with(before, ".tmp.");
}

void require_own_name(const std::string& path) {
  for (const std::string& name : {path, link_target(path)})
    if (is_working_name(name))
      throw UserError(name +
                      ": names of this form (.lock, .journal.<number>, .tmp.<number>) are working "
                      "files of results; choose another name for the output");
}

}  // namespace

FileKind file_kind(const std::string& path) {
  const std::string begin = beginning_of(path);
  if (begins_with(begin, "\x89HDF\r\n\x1a\n"sv)) return kind_of_hdf5(path);
  if (begins_with(begin, "PK\x03\x04"sv)) return kind_of_archive(path);
  if (begins_with(begin, kFaultListHead)) return FileKind::kFaultList;
  if (begins_with(begin, kAnswerHead)) return FileKind::kAnswer;
  if (begins_with(begin, kVulnerabilityTableHead)) return FileKind::kVulnerabilityTable;
  return begins_with(begin, kRankingTableHead) ? FileKind::kRankingTable : FileKind::kOther;
}

void require_replaceable(const Output& output) {
  if (output.path.empty()) return;
  require_own_name(output.path);
  if (output.kind == FileKind::kCheckpoint && ends_with(output.path, ".h5"))
    throw UserError(output.path +
                    ": .h5 is the ending of results, and a network is written; end it in .pth");
  require_writable(output.path);
  std::error_code none;
  if (!fs::exists(output.path, none)) return;
  // As mktemp makes it. A result would be resumed.
  if (output.kind != FileKind::kResult && fs::file_size(output.path, none) == 0) return;
  const FileKind found = file_kind(output.path);
  // The store says what is wrong with a damaged result.
  const bool damaged = output.kind == FileKind::kResult && found == FileKind::kDamagedHdf5;
  if (found == output.kind || damaged) return;
  throw UserError(fmt::format(
      "{} is there already and is {}; this output replaces {} only: give another name, or remove "
      "the file",
      output.path, in_words(found), in_words(output.kind)));
}

void check_outputs(const std::vector<Output>& outputs, const std::vector<std::string>& inputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    for (const std::string& input : inputs) require_distinct(outputs[i].path, input);
    for (std::size_t k = 0; k < i; ++k) require_distinct(outputs[i].path, outputs[k].path);
    require_replaceable(outputs[i]);
  }
}

void write_output(const Output& output, const Bytes& content) {
  require_replaceable(output);
  write_file_atomic(output.path, content);
}

void write_network(const std::string& path, const Bytes& content) {
  write_output({path, FileKind::kCheckpoint}, content);
  const std::string state = state_beside(path);
  std::error_code none;
  if (std::filesystem::exists(state, none) && file_kind(state) == FileKind::kTrainingState)
    std::filesystem::remove(link_target(state), none);
}

}  // namespace sentinel
