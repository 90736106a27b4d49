#pragma once
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// What comes of a Chunk.
struct ChunkResult {
  std::vector<TrialRecord> records;  // one per trial and model, in that order
  std::vector<AuditRow> audits;      // of the audited ones of these
  double audit_seconds = 0;          // of wall time, all audits together

  Bytes encode() const {
    ByteWriter writer;
    writer.write<std::uint64_t>(records.size());
    for (const TrialRecord& record : records) {
      writer.write(record.row);
      writer.vector(record.faults);
    }
    writer.vector(audits);
    writer.write(audit_seconds);
    return writer.take();
  }

  static ChunkResult decode(const Bytes& bytes) {
    ByteReader reader(bytes, "trial records");
    ChunkResult result;
    result.records.resize(reader.read<std::uint64_t>());
    for (TrialRecord& record : result.records) {
      record.row = reader.read<TrialRow>();
      record.faults = read_vector<FaultRow>(reader);
    }
    result.audits = read_vector<AuditRow>(reader);
    result.audit_seconds = reader.read<double>();
    return result;
  }
};

}  // namespace sentinel
