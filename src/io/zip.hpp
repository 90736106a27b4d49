#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// The zip archives of torch.save, read from memory. A reader of our own, small, because LibTorch's
/// tells neither sizes (to refuse bombs before they are unpacked) nor offsets (for errors).
class ZipArchive {
 public:
  struct Record {
    const std::byte* data = nullptr;
    std::size_t size = 0;
    std::uint64_t offset = 0;  // of the data in the file
  };

  /// Reads the directory; `bytes` must outlive the archive. Throws DataError.
  ZipArchive(const Bytes& bytes, std::string name);

  /// Names of all records.
  std::vector<std::string> names() const;
  bool contains(const std::string& record) const { return entries_.count(record) > 0; }
  /// A record's content, its checksum compared; valid as long as the archive. All records read
  /// together may not exceed kMaxExpansion times the file, whatever they claim. Throws DataError.
  Record read(const std::string& record);

  static constexpr std::uint64_t kMaxExpansion = 4;

 private:
  struct Entry {
    std::uint16_t flags = 0, method = 0;
    std::uint32_t crc = 0;
    std::uint64_t packed = 0, size = 0, header = 0;  // bytes, bytes, offset of the local header
  };
  struct Directory {
    std::uint64_t count = 0, size = 0, offset = 0;
  };

  Directory find_directory() const;
  Directory read_zip64_end(std::uint64_t locator) const;
  void read_entry(ByteReader& directory);
  ByteReader behind_header(const std::string& record, const Entry& entry) const;
  const std::byte* data_of(const std::string& record, const Entry& entry);
  const std::byte* inflate(const std::string& record, const Entry& entry, const std::byte* packed);

  const Bytes& bytes_;
  std::string name_;
  std::unordered_map<std::string, Entry> entries_;
  std::deque<Bytes> inflated_;
  std::uint64_t total_read_ = 0;
};

/// Writes such an archive: uncompressed records aligned to 64 bytes as torch.save does, no time
/// stamps, so the same records give the same bytes.
class ZipWriter {
 public:
  void add(const std::string& record, const void* data, std::size_t size);
  /// The archive. Throws UserError where it would have 4 GiB or more, or too many records.
  Bytes finish();

 private:
  struct Entry {
    std::string name;
    std::uint32_t crc = 0;
    std::uint64_t size = 0, header = 0;
  };
  ByteWriter out_;
  std::deque<Entry> entries_;
};

}  // namespace sentinel
