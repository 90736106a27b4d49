#pragma once
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Trial records as a message between ranks.
inline Bytes encode_records(const std::vector<TrialRecord>& records) {
  ByteWriter writer;
  writer.write<std::uint64_t>(records.size());
  for (const TrialRecord& record : records) {
    writer.write(record.row);
    writer.vector(record.faults);
  }
  return writer.take();
}

inline std::vector<TrialRecord> decode_records(const Bytes& bytes) {
  ByteReader reader(bytes, "trial records");
  std::vector<TrialRecord> records(reader.read<std::uint64_t>());
  for (TrialRecord& record : records) {
    record.row = reader.read<TrialRow>();
    record.faults = read_vector<FaultRow>(reader);
  }
  return records;
}

}  // namespace sentinel
