#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// DataError where `path` is no regular file that may be read. Opens nothing: a FIFO would block.
void require_readable(const std::string& path);

/// The whole file. Throws DataError where it is missing, unreadable or larger than `limit` bytes.
Bytes read_file(const std::string& path, std::uint64_t limit = UINT64_MAX);

/// Where the file `path` is or would be made: symbolic links are followed, also one that leads
/// nowhere. EnvironmentError where they lead in a circle.
std::string link_target(const std::string& path);

/// Whether two names are of one file, which need not be there.
bool same_file(const std::string& a, const std::string& b);

/// The name of this process's temporary file beside what `path` leads to.
std::string temporary_beside(const std::string& path);

/// UserError where something is at `path` that no output may replace, whatever is in it: a folder,
/// FIFO, socket or device. Symbolic links are followed, nothing is opened.
void require_file_or_nothing(const std::string& path);

/// Before hours of work: can a file be written at `path`? As require_file_or_nothing, and
/// EnvironmentError where its folder is missing, read-only or full, or the name too long. Makes a
/// temporary file to find out, and removes it. An empty path is fine.
void require_writable(const std::string& path);

/// Replaces `path` by `data` so that a reader sees the old or the new content, never a part:
/// temporary name, fsync, rename, fsync of the directory. A symbolic link stays, what it leads to
/// is replaced. Throws EnvironmentError naming path and cause, UserError as
/// require_file_or_nothing.
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

/// fsync(file), rename(from, link_target(to)), fsync(directory). Throws as write_file_atomic.
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
