#include "store/merge_records.hpp"

#include <algorithm>
#include <memory>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "store/record_stream.hpp"

namespace sentinel::store {
namespace {

using Key = std::tuple<std::uint32_t, std::uint64_t, std::uint32_t>;

Key key_of(const TrialRow& row) {
  return {row.point, row.id, row.model};
}

/// All inputs together hold about as much as one result being streamed.
StreamLimits limits_for(std::size_t inputs) {
  StreamLimits limits;
  limits.rows = std::max<hsize_t>(64, limits.rows / inputs);
  limits.faults = std::max<std::uint64_t>(1024, limits.faults / inputs);
  return limits;
}

/// The records of one input, each as it will be written.
class Cursor {
 public:
  using IsAudited = std::function<bool(const TrialRow&)>;
  Cursor(const MergeInput& input, const IsAudited& is_audited, const StreamLimits& limits)
      : input_(input), is_audited_(is_audited), stream_(input.path, limits) {
    next();
  }

  bool done() const { return block_.empty(); }
  const Key& key() const { return key_; }
  PackedRecord record() const { return {packed_.data()}; }
  const std::string& path() const { return input_.path; }

  void next() {
    if (block_.empty() || ++at_ == block_.size()) {
      block_ = stream_.next();
      at_ = 0;
    }
    if (done()) return;
    TrialRecord& record = block_[at_];
    key_ = key_of(record.row);
    record.row.session = input_.sessions.at(record.row.session);
    record.row.audited = is_audited_(record.row) ? 1 : 0;
    packed_.clear();
    pack_record(record.row, record.faults, packed_);
  }

 private:
  const MergeInput& input_;
  const IsAudited& is_audited_;
  RecordStream stream_;
  std::vector<TrialRecord> block_;
  std::size_t at_ = 0;
  Key key_;
  std::vector<std::byte> packed_;
};

using Cursors = std::vector<std::unique_ptr<Cursor>>;

/// The first of those whose next record is the lowest; null at the end.
Cursor* lowest(const Cursors& cursors) {
  Cursor* found = nullptr;
  for (const auto& cursor : cursors)
    if (!cursor->done() && (!found || cursor->key() < found->key())) found = cursor.get();
  return found;
}

/// Drops what other inputs hold of the same record.
std::uint64_t drop_equals(const Cursors& cursors, const Cursor& kept) {
  std::uint64_t dropped = 0;
  for (const auto& other : cursors) {
    if (other.get() == &kept || other->done() || other->key() != kept.key()) continue;
    if (!same_result(kept.record(), other->record()))
      throw DataError(other->path(), name_of(other->record().row()) +
                                         " has another result than in " + kept.path() +
                                         "; replay the trial to see which is right");
    other->next();
    ++dropped;
  }
  return dropped;
}

}  // namespace

std::uint64_t merge_records(const std::vector<MergeInput>& inputs,
                            const std::function<bool(const TrialRow&)>& is_audited,
                            const std::function<void(const PackedRecord&)>& visit) {
  Cursors cursors;
  for (const MergeInput& input : inputs)
    cursors.push_back(std::make_unique<Cursor>(input, is_audited, limits_for(inputs.size())));
  std::uint64_t dropped = 0;
  while (Cursor* cursor = lowest(cursors)) {
    dropped += drop_equals(cursors, *cursor);
    visit(cursor->record());
    cursor->next();
  }
  return dropped;
}

}  // namespace sentinel::store
