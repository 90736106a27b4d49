#include "store/record.hpp"

#include <cstring>

namespace sentinel::store {

void pack_record(const TrialRow& row, const std::vector<FaultRow>& faults,
                 std::vector<std::byte>& to) {
  const std::size_t begin = to.size();
  to.resize(begin + kRecordHead + faults.size() * kFaultBytes);
  std::byte* at = pack(row, to.data() + begin);
  const auto count = static_cast<std::uint32_t>(faults.size());
  std::memcpy(at, &count, sizeof(count));
  at += sizeof(count);
  for (const FaultRow& fault : faults) at = pack(fault, at);
}

bool same_result(const PackedRecord& a, const PackedRecord& b) {
  if (std::memcmp(a.data, b.data, kComparedBytes) != 0) return false;
  if (!a.faults_stored() || !b.faults_stored()) return true;
  if (a.faults() != b.faults()) return false;
  for (std::uint32_t i = 0; i < a.faults(); ++i)
    if (std::memcmp(a.fault_bytes() + i * kFaultBytes, b.fault_bytes() + i * kFaultBytes,
                    kComparedFaultBytes) != 0)
      return false;
  return true;
}

std::string name_of(const TrialRow& row) {
  return "trial " + std::to_string(row.id) + " of point " + std::to_string(row.point) + ", model " +
         std::to_string(row.model);
}

}  // namespace sentinel::store
