#include "zip.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kDirectoryEntry = 0x02014b50, kEnd = 0x06054b50,
                        kZip64End = 0x06064b50, kZip64Locator = 0x07064b50;
constexpr std::size_t kEndSize = 22, kLocatorSize = 20, kLocalSize = 30, kAlignment = 64;
constexpr std::uint16_t kStored = 0, kDeflated = 8, kEncrypted = 1, kUtf8 = 0x0800;
constexpr std::uint16_t kZip64Field = 1, kPaddingField = 0x4246;  // "FB", as PyTorch pads
constexpr std::uint32_t kInZip64 = 0xffffffff;
constexpr std::uint16_t kDosDate = 0x0021;  // 1 January 1980, the earliest there is

const char* const kAdvice =
    "; the file is damaged or not a PyTorch checkpoint, download or save it again";

std::uint32_t checksum(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const Bytef*>(data);
  return static_cast<std::uint32_t>(::crc32_z(::crc32_z(0, nullptr, 0), bytes, size));
}

/// Sizes and offset of an entry that do not fit 32 bits follow in an extra field, in this order.
void read_zip64_field(ByteReader extra, std::array<std::uint64_t*, 3> values) {
  while (extra.remaining() >= 4) {
    const auto id = extra.read<std::uint16_t>();
    const auto size = extra.read<std::uint16_t>();
    if (id != kZip64Field) {
      extra.take(size);
      continue;
    }
    for (std::uint64_t* value : values)
      if (*value == kInZip64) *value = extra.read<std::uint64_t>();
    return;
  }
}

}  // namespace

ZipArchive::ZipArchive(const Bytes& bytes, std::string name)
    : bytes_(bytes), name_(std::move(name)) {
  const Directory directory = find_directory();
  if (directory.offset > bytes_.size() || directory.size > bytes_.size() - directory.offset)
    throw DataError(name_,
                    std::string("the zip directory lies behind the end of the file") + kAdvice);
  ByteReader reader(bytes_.data(), directory.offset + directory.size, name_);
  reader.seek(directory.offset);
  for (std::uint64_t i = 0; i < directory.count; ++i) read_entry(reader);
  if (!reader.done())
    reader.fail(std::string("the zip directory holds more records than the archive's end says") +
                kAdvice);
}

ZipArchive::Directory ZipArchive::find_directory() const {
  constexpr std::size_t kMaxComment = 65535;
  const std::size_t size = bytes_.size();
  ByteReader reader(bytes_, name_);
  for (std::size_t back = kEndSize; back <= std::min(size, kEndSize + kMaxComment); ++back) {
    reader.seek(size - back);
    if (reader.read<std::uint32_t>() != kEnd) continue;
    reader.take(6);  // disk numbers, entries on this disk
    Directory directory;
    directory.count = reader.read<std::uint16_t>();
    directory.size = reader.read<std::uint32_t>();
    directory.offset = reader.read<std::uint32_t>();
    if (size - back >= kLocatorSize) {
      reader.seek(size - back - kLocatorSize);
      if (reader.read<std::uint32_t>() == kZip64Locator) return read_zip64_end(reader.offset());
    }
    return directory;
  }
  throw DataError(name_, size, std::string("the zip archive has no end (truncated?)") + kAdvice);
}

ZipArchive::Directory ZipArchive::read_zip64_end(std::uint64_t locator) const {
  ByteReader reader(bytes_, name_);
  reader.seek(locator);
  reader.take(4);  // disk number
  reader.seek(reader.read<std::uint64_t>());
  if (reader.read<std::uint32_t>() != kZip64End)
    reader.fail(std::string("no zip64 end record here") + kAdvice);
  reader.take(28);  // size, versions, disk numbers, entries on this disk
  Directory directory;
  directory.count = reader.read<std::uint64_t>();
  directory.size = reader.read<std::uint64_t>();
  directory.offset = reader.read<std::uint64_t>();
  return directory;
}

void ZipArchive::read_entry(ByteReader& directory) {
  if (directory.read<std::uint32_t>() != kDirectoryEntry)
    directory.fail(std::string("no zip directory entry here") + kAdvice);
  directory.take(4);  // versions
  Entry entry;
  entry.flags = directory.read<std::uint16_t>();
  entry.method = directory.read<std::uint16_t>();
  directory.take(4);  // time and date
  entry.crc = directory.read<std::uint32_t>();
  entry.packed = directory.read<std::uint32_t>();
  entry.size = directory.read<std::uint32_t>();
  const auto name_length = directory.read<std::uint16_t>();
  const auto extra_length = directory.read<std::uint16_t>();
  const auto comment_length = directory.read<std::uint16_t>();
  directory.take(8);  // disk number, attributes
  entry.header = directory.read<std::uint32_t>();
  const std::string record = directory.text(name_length);
  const auto extra_offset = directory.offset();
  read_zip64_field(ByteReader(directory.take(extra_length), extra_length, name_, extra_offset),
                   {&entry.size, &entry.packed, &entry.header});
  directory.take(comment_length);
  // At once for every record: a damaged name would make one vanish that is looked for but need not
  // be there.
  behind_header(record, entry);
  if (!entries_.emplace(record, entry).second)
    directory.fail("two zip records have one name" + std::string(kAdvice));
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

ZipArchive::Record ZipArchive::read(const std::string& record) {
  const auto found = entries_.find(record);
  if (found == entries_.end())
    throw DataError(name_, "the record " + record + " is missing" + kAdvice);
  const Entry& entry = found->second;
  if (entry.size > kMaxExpansion * bytes_.size() - total_read_)
    throw DataError(name_, entry.header,
                    "the record " + record + " claims " + std::to_string(entry.size) +
                        " bytes, more than this file can honestly hold; save it again with "
                        "torch.save, which does not compress");
  total_read_ += entry.size;
  const std::byte* data = data_of(record, entry);
  if (checksum(data, entry.size) != entry.crc)
    throw DataError(name_, entry.header,
                    "the record " + record + " does not match its checksum" + kAdvice);
  const auto offset = data >= bytes_.data() && data < bytes_.data() + bytes_.size()
                          ? static_cast<std::uint64_t>(data - bytes_.data())
                          : entry.header;
  return {data, entry.size, offset};
}

// A reader behind the record's own header, whose name must be the directory's.
ByteReader ZipArchive::behind_header(const std::string& record, const Entry& entry) const {
  ByteReader reader(bytes_, name_);
  reader.seek(entry.header);
  if (reader.read<std::uint32_t>() != kLocalHeader)
    reader.fail(std::string("no zip record here") + kAdvice);
  reader.take(22);  // repeats the directory
  const auto name_length = reader.read<std::uint16_t>();
  const auto extra_length = reader.read<std::uint16_t>();
  if (reader.text(name_length) != record)
    reader.fail("the zip record is not " + record + ", as the directory says" + kAdvice);
  reader.take(extra_length);
  return reader;
}

const std::byte* ZipArchive::data_of(const std::string& record, const Entry& entry) {
  ByteReader reader = behind_header(record, entry);
  if (entry.flags & kEncrypted) reader.fail("the zip record " + record + " is encrypted");
  const std::byte* packed = reader.take(entry.packed);
  if (entry.method == kDeflated) return inflate(record, entry, packed);
  if (entry.method != kStored || entry.packed != entry.size)
    reader.fail("the zip record " + record + " is stored in an unknown way" + kAdvice);
  return packed;
}

const std::byte* ZipArchive::inflate(const std::string& record, const Entry& entry,
                                     const std::byte* packed) {
  constexpr std::uint64_t kMaxStream = 1u << 30;  // zlib counts in 32 bits
  if (entry.packed > kMaxStream || entry.size > kMaxStream)
    throw DataError(name_, entry.header,
                    "the compressed record " + record +
                        " is too large; save "
                        "the checkpoint again with torch.save, which does not compress");
  Bytes& out = inflated_.emplace_back(entry.size + 1);  // one more, to see a record that goes on
  z_stream stream{};
  if (::inflateInit2(&stream, -MAX_WBITS) != Z_OK)
    throw EnvironmentError("zlib cannot start (out of memory?)");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(packed));
  stream.avail_in = static_cast<uInt>(entry.packed);
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = ::inflate(&stream, Z_FINISH);
  const std::uint64_t got = stream.total_out;
  ::inflateEnd(&stream);
  if (status != Z_STREAM_END || got != entry.size)
    throw DataError(name_, entry.header,
                    "the compressed record " + record + " does not give the " +
                        std::to_string(entry.size) + " bytes it claims" + kAdvice);
  return out.data();
}

void ZipWriter::add(const std::string& record, const void* data, std::size_t size) {
  Entry entry{record, checksum(data, size), size, out_.bytes().size()};
  const std::size_t unpadded = entry.header + kLocalSize + record.size() + 4;
  const std::size_t padding = (kAlignment - unpadded % kAlignment) % kAlignment;
  out_.write(kLocalHeader);
  for (const std::uint16_t field : {std::uint16_t{20}, kUtf8, kStored, std::uint16_t{0}, kDosDate})
    out_.write(field);
  out_.write(entry.crc);
  out_.write(static_cast<std::uint32_t>(size));
  out_.write(static_cast<std::uint32_t>(size));
  out_.write(static_cast<std::uint16_t>(record.size()));
  out_.write(static_cast<std::uint16_t>(padding + 4));
  out_.text(record);
  out_.write(kPaddingField);
  out_.write(static_cast<std::uint16_t>(padding));
  out_.text(std::string(padding, 'Z'));
  out_.append(data, size);
  entries_.push_back(std::move(entry));
}

Bytes ZipWriter::finish() {
  const std::uint64_t start = out_.bytes().size();
  for (const Entry& entry : entries_) {
    out_.write(kDirectoryEntry);
    for (const std::uint16_t field :
         {std::uint16_t{20}, std::uint16_t{20}, kUtf8, kStored, std::uint16_t{0}, kDosDate})
      out_.write(field);
    out_.write(entry.crc);
    out_.write(static_cast<std::uint32_t>(entry.size));
    out_.write(static_cast<std::uint32_t>(entry.size));
    out_.write(static_cast<std::uint16_t>(entry.name.size()));
    out_.text(std::string(12, '\0'));  // no extra field, comment, disk number, attributes
    out_.write(static_cast<std::uint32_t>(entry.header));
    out_.text(entry.name);
  }
  const std::uint64_t end = out_.bytes().size();
  if (end >= kInZip64 || entries_.size() >= 0xffff)
    throw UserError(
        "a checkpoint of 4 GiB or more, or of 65 535 records or more, cannot be written");
  out_.write(kEnd);
  out_.write(std::uint32_t{0});  // disk numbers
  out_.write(static_cast<std::uint16_t>(entries_.size()));
  out_.write(static_cast<std::uint16_t>(entries_.size()));
  out_.write(static_cast<std::uint32_t>(end - start));
  out_.write(static_cast<std::uint32_t>(start));
  out_.write(std::uint16_t{0});  // no comment
  return out_.take();
}

}  // namespace sentinel
