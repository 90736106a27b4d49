#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// The whole file. Throws DataError where it is missing, unreadable or larger than `limit` bytes.
Bytes read_file(const std::string& path, std::uint64_t limit = UINT64_MAX);

/// Replaces `path` by `data` so that a reader sees the old or the new content, never a part:
/// temporary name, fsync, rename, fsync of the directory. Throws EnvironmentError naming path and
/// cause.
void write_file_atomic(const std::string& path, const void* data, std::size_t size);
inline void write_file_atomic(const std::string& path, const Bytes& data) {
  write_file_atomic(path, data.data(), data.size());
}
inline void write_file_atomic(const std::string& path, std::string_view text) {
  write_file_atomic(path, text.data(), text.size());
}

/// fsync of the directory that holds `path`, so that a file created or renamed there outlives a
/// power cut. Throws EnvironmentError.
void sync_parent(const std::string& path);

/// fsync(file), rename(from, to), fsync(directory). Throws EnvironmentError.
void publish_file(const std::string& from, const std::string& to);

/// An owned POSIX file descriptor.
class FileHandle {
 public:
  /// open(2); throws EnvironmentError naming the path.
  FileHandle(const std::string& path, int flags, unsigned mode = 0644);
  FileHandle(FileHandle&& other) noexcept : fd_(other.fd_), path_(std::move(other.path_)) {
    other.fd_ = -1;
  }
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  ~FileHandle();

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  /// All bytes or EnvironmentError (a short write is continued).
  void write_all(const void* data, std::size_t size);
  /// Bytes at an offset; fewer at the end of the file.
  std::size_t read_at(void* data, std::size_t size, std::uint64_t offset) const;
  std::uint64_t size() const;
  void sync();   // fdatasync
  void close();  // checked; the destructor closes unchecked

 private:
  int fd_ = -1;
  std::string path_;
};

/// "what path: strerror(errno)" as an EnvironmentError, disk-full errors with advice.
[[noreturn]] void throw_errno(const std::string& what, const std::string& path);

}  // namespace sentinel
