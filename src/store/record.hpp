#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "store/fields.hpp"

namespace sentinel::store {

inline constexpr std::size_t kRowBytes = packed_size<TrialRow>();
inline constexpr std::size_t kFaultBytes = packed_size<FaultRow>();
inline constexpr std::size_t kComparedFaultBytes = kFaultBytes - 1;  // all but the outcome
inline constexpr std::size_t kRecordHead = kRowBytes + sizeof(std::uint32_t);
/// faults_stored, session, audited, path, wall_us and rank may differ between two runs of one
/// trial.
inline constexpr std::size_t kComparedBytes = kRowBytes - 15;
static_assert(kRowBytes == 100 && kFaultBytes == 38, "the journal's layout is part of its version");

/// How many faults of a row are stored.
inline std::uint32_t stored_faults(const TrialRow& row) {
  return row.faults_stored != 0 ? row.n_faults : 0;
}

/// A record as it lies in a journal: packed row, number of faults (u32), packed faults. A view.
struct PackedRecord {
  const std::byte* data = nullptr;

  TrialRow row() const { return unpack<TrialRow>(data); }
  std::uint32_t faults() const {
    std::uint32_t count = 0;
    std::memcpy(&count, data + kRowBytes, sizeof(count));
    return count;
  }
  bool faults_stored() const { return data[kComparedBytes] != std::byte{0}; }
  const std::byte* fault_bytes() const { return data + kRecordHead; }
  std::size_t size() const { return kRecordHead + faults() * kFaultBytes; }
};

/// Appends the packed record.
void pack_record(const TrialRow& row, const std::vector<FaultRow>& faults,
                 std::vector<std::byte>& to);
/// Whether two runs of a trial had the same result. Faults are compared where both have them.
bool same_result(const PackedRecord& a, const PackedRecord& b);
/// "trial 7 of point 0, model 1", for messages.
std::string name_of(const TrialRow& row);

}  // namespace sentinel::store
