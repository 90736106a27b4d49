// Journals of a campaign that was stopped.
#include <fcntl.h>
#include <unistd.h>

#include "corrupt/target.hpp"
#include "sentinel/core/hash.hpp"
#include "store/journal_set.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

using store::Frame;
using store::JournalSet;

constexpr std::size_t kHeaderHead = 24, kFrameHead = 12;

/// A header, records and audits.
Bytes good_journal(std::uint32_t number) {
  const TempDir folder;
  const std::string path = folder / "r.journal";
  store::JournalWriter writer(
      path, {"f00d", {{"ber", "1e-5"}}, {number, 1.7e9, 1.7e9, 2, "node1", 0, "{}"}});
  Frame frame;
  for (std::uint64_t id = number; id < number + 2; ++id) {
    frame.begin(Frame::Kind::kAudits, 1.7e9);
    frame.add(sample_audit(0, id, 0));
    writer.append(frame.seal());
    frame.begin(Frame::Kind::kRecords, 1.7e9 + 1);
    for (const TrialRecord& record : sample_trial(0, id)) frame.add(record.row, record.faults);
    writer.append(frame.seal());
  }
  return read_file(path);
}

std::uint32_t length_at(const Bytes& file, std::size_t at) {
  std::uint32_t length = 0;
  std::memcpy(&length, file.data() + at, sizeof length);
  return length;
}

/// Gives a part behind its length (u32) and checksum (u64) at `at` the right ones. Where the part
/// would end behind the file, it ends with it. Returns its end.
std::size_t vouch(Bytes& file, std::size_t at) {
  const std::size_t begin = at + kFrameHead;
  const auto length =
      static_cast<std::uint32_t>(std::min<std::size_t>(length_at(file, at), file.size() - begin));
  const std::uint64_t checksum = checksum64(file.data() + begin, length);
  std::memcpy(file.data() + at, &length, sizeof length);
  std::memcpy(file.data() + at + sizeof length, &checksum, sizeof checksum);
  return begin + length;
}

void repair(Bytes& file) {
  if (file.size() < kHeaderHead) return;
  for (std::size_t at = kHeaderHead - kFrameHead; file.size() - at >= kFrameHead;)
    at = vouch(file, at);
}

/// A result's folder with two journals: a good one, and that of the fuzzer.
class Journals {
 public:
  Journals() : result_(folder_ / "r.h5"), file_(result_ + ".journal.1", O_RDWR | O_CREAT | O_EXCL) {
    write_file_atomic(result_ + ".journal.0", good_journal(0));
  }

  void read(const Bytes& bytes) {
    if (::ftruncate(file_.fd(), 0) != 0 || ::lseek(file_.fd(), 0, SEEK_SET) != 0)
      throw std::runtime_error("the journal cannot be replaced");
    file_.write_all(bytes.data(), bytes.size());
    JournalSet journals(result_);
    std::vector<std::uint32_t> sessions;
    for (const auto& [number, header] : journals.headers())
      sessions.push_back(header.session.number);
    journals.load(store::RowChecks(info_, sessions));
    std::uint64_t rows = 0;
    const JournalSet::Snapshot snapshot = journals.snapshot();
    snapshot.each([&](const store::PackedRecord& record) { rows += record.row().images < 1; });
    journals.has(0, rows);
  }

 private:
  const ResultInfo info_ = sample_info();
  TempDir folder_;
  std::string result_;
  FileHandle file_;
};

}  // namespace

Target journal_target() {
  const auto journals = std::make_shared<Journals>();
  Bytes same = good_journal(0), head = good_journal(1);
  head.resize(180);
  return {"journal",
          {good_journal(0), good_journal(1), same, head},
          {"SNNJRNL", std::string("\1\0\0\0", 4), std::string("\2\0\0\0", 4), "\"session\":{",
           "\"number\":", "\"started\":", "1e300", "null", "[[[["},
          repair,
          [journals](const Bytes& bytes) { return accepted([&] { journals->read(bytes); }); }};
}

}  // namespace sentinel::test
