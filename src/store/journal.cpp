#include "store/journal.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/time.hpp"
#include "store/checks.hpp"

namespace sentinel::store {
namespace {

using nlohmann::json;

constexpr std::size_t kHeaderHead = 24;  // magic, version, length, checksum
constexpr std::size_t kVersionAt = 8, kLengthAt = 12;
constexpr std::size_t kSmallWindow = 1024, kLargeWindow = std::size_t{256} * 1024;
constexpr std::size_t kMaxOpenFiles = 256;

template <class T>
void put_at(std::vector<std::byte>& bytes, std::size_t offset, const T& value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

template <class T>
T get_at(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

std::string header_body(const JournalHeader& header) {
  const SessionRow& s = header.session;
  json plan = json::array();
  for (const IdRange& range : header.plan) plan.push_back({range.first, range.end});
  const json body = {{"fingerprint", header.fingerprint},
                     {"parts", header.parts},
                     {"plan", plan},
                     {"session",
                      {{"number", s.number},
                       {"started", s.started},
                       {"ranks", s.ranks},
                       {"host", s.host},
                       {"info", s.info}}}};
  // Host names and the like may hold any bytes: never fail on them.
  return body.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// As `get` alone does not: without a number that is of another kind or too large.
std::uint32_t number_at(const json& object, const char* name) {
  const json& value = object.at(name);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > UINT32_MAX)
    throw std::invalid_argument(std::string(name) + " is no number of 32 bits");
  return value.get<std::uint32_t>();
}

JournalHeader parse_body(const std::string& path, const std::string& text) {
  check_json(path, text);
  try {
    const json body = json::parse(text);
    const json& s = body.at("session");
    JournalHeader header;
    header.fingerprint = body.at("fingerprint").get<std::string>();
    header.parts = body.at("parts").get<std::map<std::string, std::string>>();
    for (const json& range : body.value("plan", json::array()))
      header.plan.push_back({range.at(0).get<std::uint64_t>(), range.at(1).get<std::uint64_t>()});
    header.session.number = number_at(s, "number");
    header.session.started = header.session.ended = s.at("started").get<double>();
    header.session.ranks = number_at(s, "ranks");
    header.session.host = s.at("host").get<std::string>();
    header.session.info = s.at("info").get<std::string>();
    check_session({path, "session", header.session.number}, header.session);
    return header;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw DataError(path, std::string("header of the journal: ") + error.what());
  }
}

/// Payload of the frame at `offset`, or null with the reason it is bad.
const std::byte* good_frame(WindowedFile& file, std::uint64_t offset, std::uint32_t& length,
                            std::string& reason) {
  const std::byte* head = file.fetch(offset, Frame::kHead);
  if (!head) return reason = "a torn frame", nullptr;
  length = get_at<std::uint32_t>(head);
  const auto checksum = get_at<std::uint64_t>(head + sizeof(length));
  const std::byte* payload = file.fetch(offset + Frame::kHead, length);
  if (!payload) return reason = "a torn frame", nullptr;
  if (length < Frame::kFirstRecord - Frame::kHead || checksum64(payload, length) != checksum)
    return reason = "a frame with a wrong checksum", nullptr;
  return payload;
}

/// The checksum vouches for the content, the bounds are checked all the same.
void visit_payload(const std::string& path, std::uint64_t offset, const std::byte* payload,
                   std::uint32_t length, const JournalVisitor& visitor) {
  ByteReader reader(payload, length, path, offset);
  const auto kind = reader.read<std::uint32_t>();
  if (!is_time(reader.read<double>())) reader.fail("a frame with no time in seconds since 1970");
  const auto count = reader.read<std::uint32_t>();
  for (std::uint32_t i = 0; i < count; ++i) {
    if (kind == static_cast<std::uint32_t>(Frame::Kind::kAudits)) {
      const std::size_t begin = reader.offset();
      visitor.audit(offset + begin, unpack<AuditRow>(reader.take(packed_size<AuditRow>())));
    } else if (kind == static_cast<std::uint32_t>(Frame::Kind::kRecords)) {
      const std::size_t begin = reader.offset();
      const PackedRecord record{reader.take(kRecordHead)};
      reader.take(record.faults() * kFaultBytes);
      visitor.record(offset + begin, record);
    } else {
      reader.fail("unknown kind of frame");
    }
  }
  if (!reader.done()) reader.fail("a frame is longer than what it holds");
}

/// Whether a frame behind damage has all that belongs to it.
bool is_whole(const std::string& path, std::uint64_t offset, const std::byte* payload,
              std::uint32_t length, const JournalVisitor& visitor) {
  bool whole = true;
  const auto look = [&](std::uint64_t, const PackedRecord& record) {
    whole = whole && visitor.whole(record);
  };
  visit_payload(path, offset + Frame::kHead, payload, length,
                {look, [](std::uint64_t, const AuditRow&) {}});
  return whole;
}

bool looks_like_frame(const std::byte* head, std::uint64_t left) {
  const auto length = get_at<std::uint32_t>(head);
  const auto kind = get_at<std::uint32_t>(head + Frame::kHead);
  return length >= Frame::kFirstRecord - Frame::kHead && length <= left - Frame::kHead &&
         kind >= 1 && kind <= 2 && is_time(get_at<double>(head + Frame::kHead + sizeof(kind)));
}

/// Where the first good frame behind a bad one begins.
std::optional<std::uint64_t> next_good_frame(WindowedFile& file, std::uint64_t bad) {
  constexpr std::uint64_t kMostLooks = 8;  // at the same byte, however hostile the file is
  std::uint64_t looked = 0;
  for (std::uint64_t at = bad + 1; at + Frame::kFirstRecord <= file.size(); ++at) {
    const std::byte* head = file.fetch(at, Frame::kFirstRecord);
    if (!head || !looks_like_frame(head, file.size() - at)) continue;
    std::uint32_t length = 0;
    std::string reason;
    if (good_frame(file, at, length, reason)) return at;
    looked += length;
    if (looked > kMostLooks * file.size()) break;
  }
  return std::nullopt;
}

void warn_skipped(const std::string& path, std::uint64_t offset, const std::string& reason,
                  std::uint64_t bytes) {
  spdlog::warn(
      "{}: at byte {}: {}; {} bytes from here on are not used, the trials in them run again", path,
      offset, reason, bytes);
}

/// A header is text: a zero byte behind it belongs to a frame.
bool has_frames(WindowedFile& file) {
  constexpr std::uint64_t kMostHeader = 1 << 20;
  const std::uint64_t size = std::min(file.size() - kHeaderHead, kMostHeader);
  const std::byte* bytes = file.fetch(kHeaderHead, size);
  return bytes && std::find(bytes, bytes + size, std::byte{0}) != bytes + size;
}

[[noreturn]] void damaged_header(const std::string& path, std::size_t offset,
                                 const std::string& what) {
  throw DataError(path, offset,
                  what +
                      "; the journal is damaged and is kept: move it away to go on without the "
                      "trials in it, or give another " +
                      spelled(Setting::kOutput));
}

}  // namespace

double unix_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

void Frame::begin(Kind kind, double time) {
  count_ = 0;
  bytes_.resize(kFirstRecord);
  put_at(bytes_, kHead, static_cast<std::uint32_t>(kind));
  put_at(bytes_, kHead + 4, time);
}

std::size_t Frame::add(const TrialRow& row, const std::vector<FaultRow>& faults) {
  const std::size_t offset = bytes_.size();
  pack_record(row, faults, bytes_);
  ++count_;
  return offset;
}

void Frame::add(const AuditRow& row) {
  const std::size_t offset = bytes_.size();
  bytes_.resize(offset + packed_size<AuditRow>());
  pack(row, bytes_.data() + offset);
  ++count_;
}

const std::vector<std::byte>& Frame::seal() {
  const std::size_t length = bytes_.size() - kHead;
  if (length > UINT32_MAX) throw Bug("a chunk's records exceed 4 GiB; smaller chunks are needed");
  put_at(bytes_, kHead + 12, count_);
  put_at(bytes_, 0, static_cast<std::uint32_t>(length));
  put_at(bytes_, 4, checksum64(bytes_.data() + kHead, length));
  return bytes_;
}

JournalWriter::JournalWriter(const std::string& path, const JournalHeader& header)
    : file_(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND) {
  const std::string body = header_body(header);
  ByteWriter bytes;
  bytes.append(kJournalMagic.data(), kJournalMagic.size());
  bytes.write(kJournalVersion);
  bytes.write(static_cast<std::uint32_t>(body.size()));
  bytes.write(checksum64(body.data(), body.size()));
  bytes.text(body);
  try {
    file_.write_all(bytes.bytes().data(), bytes.bytes().size());
    file_.sync();
    sync_parent(path);
  } catch (const EnvironmentError&) {
    ::unlink(path.c_str());
    throw;
  }
  size_ = bytes.bytes().size();
}

void JournalWriter::append(const std::vector<std::byte>& frame) {
  if (broken_)
    throw EnvironmentError("journal " + file_.path() +
                           " could not be repaired after a failed write; run the command again");
  try {
    file_.write_all(frame.data(), frame.size());
  } catch (const EnvironmentError&) {
    broken_ = ::ftruncate(file_.fd(), static_cast<off_t>(size_)) != 0;
    throw;
  }
  size_ += frame.size();
  dirty_ = true;
}

void JournalWriter::sync() {
  if (!dirty_.exchange(false)) return;
  try {
    file_.sync();
  } catch (const EnvironmentError&) {
    dirty_ = true;
    throw;
  }
}

WindowedFile::WindowedFile(const std::string& path) : file_(path, O_RDONLY), size_(file_.size()) {}

const std::byte* WindowedFile::fetch(std::uint64_t offset, std::size_t size) {
  const std::uint64_t end = begin_ + window_.size();
  if (offset < begin_ || offset + size > end) {
    // Memory follows what the file holds, not what a damaged length claims.
    if (offset > size_ || size > size_ - offset) return nullptr;
    const bool near = offset >= begin_ && offset <= end + kLargeWindow;
    const std::uint64_t wanted = near ? kLargeWindow : kSmallWindow;
    window_.resize(std::max(size, static_cast<std::size_t>(std::min(wanted, size_ - offset))));
    begin_ = offset;
    window_.resize(file_.read_at(window_.data(), window_.size(), offset));
    if (window_.size() < size) return nullptr;
  }
  return window_.data() + (offset - begin_);
}

std::optional<JournalHeader> read_journal_header(const std::string& path) {
  WindowedFile file(path);
  const std::byte* head = file.fetch(0, kHeaderHead);
  if (!head) return std::nullopt;
  const auto version = get_at<std::uint32_t>(head + kVersionAt);
  if (version > kJournalVersion)
    throw DataError(path, "was written by a newer sentinelnn (journal version " +
                              std::to_string(version) + "); use that version");
  if (std::memcmp(head, kJournalMagic.data(), kJournalMagic.size()) != 0)
    damaged_header(path, 0, "no journal begins so");
  if (version == 0) damaged_header(path, kVersionAt, "there is no version 0 of a journal");
  const auto length = get_at<std::uint32_t>(head + kLengthAt);
  const auto checksum = get_at<std::uint64_t>(head + kLengthAt + sizeof(length));
  const std::byte* body = file.fetch(kHeaderHead, length);
  if (!body && has_frames(file)) damaged_header(path, kLengthAt, "a length beyond the file");
  if (!body) return std::nullopt;
  if (checksum64(body, length) != checksum)
    damaged_header(path, kHeaderHead, "the header has a wrong checksum");
  JournalHeader header = parse_body(path, std::string(reinterpret_cast<const char*>(body), length));
  header.version = version;
  return header;
}

JournalScan scan_journal(const std::string& path, const JournalVisitor& visitor) {
  WindowedFile file(path);
  const std::byte* head = file.fetch(0, kHeaderHead);
  if (!head) return {};
  const auto version = get_at<std::uint32_t>(head + kVersionAt);
  if (version != kJournalVersion)
    throw DataError(path, kVersionAt,
                    "rows of journal version " + std::to_string(version) + " are not read");
  std::uint64_t offset = kHeaderHead + get_at<std::uint32_t>(head + kLengthAt);
  JournalScan scan;
  while (offset < file.size()) {
    std::uint32_t length = 0;
    std::string reason;
    const std::byte* payload = good_frame(file, offset, length, reason);
    const std::uint64_t end = offset + Frame::kHead + length;
    if (payload && scan.damaged && !is_whole(path, offset, payload, length, visitor)) {
      warn_skipped(path, offset, "trials without their audits", end - offset);
    } else if (payload) {
      scan.last = get_at<double>(payload + 4);
      visit_payload(path, offset + Frame::kHead, payload, length, visitor);
    } else {
      const auto next = next_good_frame(file, offset);
      scan.damaged = scan.damaged || next || end < file.size();
      warn_skipped(path, offset, reason, next.value_or(file.size()) - offset);
      if (!next) break;
      offset = *next;
      continue;
    }
    offset = end;
  }
  return scan;
}

RecordReader::RecordReader(std::vector<std::string> paths)
    : paths_(std::move(paths)), files_(paths_.size()) {}

WindowedFile& RecordReader::file(std::size_t journal) {
  auto& file = files_.at(journal);
  if (file) return *file;
  // A campaign requeued a thousand times must not run out of file descriptors.
  if (open_ >= kMaxOpenFiles) {
    for (auto& other : files_) other.reset();
    open_ = 0;
  }
  file = std::make_unique<WindowedFile>(paths_[journal]);
  ++open_;
  return *file;
}

PackedRecord RecordReader::at(Location location) {
  WindowedFile& source = file(location.journal());
  PackedRecord record{source.fetch(location.offset(), kRecordHead)};
  if (record.data) record.data = source.fetch(location.offset(), record.size());
  if (!record.data)
    throw DataError(source.path(), location.offset(), "a stored record is no longer there");
  return record;
}

}  // namespace sentinel::store
