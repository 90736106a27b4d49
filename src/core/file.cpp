#include "sentinel/core/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>

#include "sentinel/core/error.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/core/text.hpp"

namespace sentinel {
namespace {

std::string directory_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

constexpr int kMostLinks = 40;  // as Linux follows

/// Whether a name leads through an open descriptor, as /dev/stdout does.
bool is_stream(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code none;
  fs::path at = path;
  for (int links = 0; links < kMostLinks && fs::is_symlink(at, none); ++links) {
    const fs::path folder = fs::canonical(at.parent_path().empty() ? "." : at.parent_path(), none);
    if (begins_with(folder.string(), "/proc/") && folder.filename() == "fd") return true;
    at = folder / fs::read_symlink(at, none);
  }
  return false;
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

void throw_errno(const std::string& what, const std::string& path) {
  const int error = errno;
  std::string message = what + " " + path + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) message += "; free space and run the same command again";
  if (error == EFBIG)
    message +=
        "; the limit of file sizes is reached (ulimit -f): raise it and run the same "
        "command again";
  throw EnvironmentError(message);
}

FileHandle::FileHandle(const std::string& path, int flags, unsigned mode) : path_(path) {
  fd_ = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd_ < 0) throw_errno("cannot open", path);
}

FileHandle::~FileHandle() {
  if (fd_ >= 0) ::close(fd_);
}

void FileHandle::write_all(const void* data, std::size_t size) {
  const char* begin = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd_, begin, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw_errno("cannot write", path_);
    begin += written;
    size -= static_cast<std::size_t>(written);
  }
}

std::size_t FileHandle::read_at(void* data, std::size_t size, std::uint64_t offset) const {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = ::pread(fd_, static_cast<char*>(data) + done, size - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno("cannot read", path_);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

std::uint64_t FileHandle::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) throw_errno("cannot stat", path_);
  return static_cast<std::uint64_t>(info.st_size);
}

void FileHandle::sync() {
  if (::fdatasync(fd_) != 0) throw_errno("cannot sync", path_);
}

void FileHandle::close() {
  const int fd = fd_;
  fd_ = -1;
  if (fd >= 0 && ::close(fd) != 0) throw_errno("cannot close", path_);
}

void require_readable(const std::string& path) {
  std::error_code status;
  const auto type = std::filesystem::status(path, status).type();
  if (type == std::filesystem::file_type::not_found) throw DataError(path, "no such file");
  if (type == std::filesystem::file_type::none) throw DataError(path, status.message());
  if (type == std::filesystem::file_type::directory)
    throw DataError(path, "is a directory, a file is wanted");
  if (type != std::filesystem::file_type::regular) throw DataError(path, "is no regular file");
  if (::access(path.c_str(), R_OK) != 0)
    throw DataError(path, std::string("cannot be read: ") + std::strerror(errno));
}

Bytes read_file(const std::string& path, std::uint64_t limit) {
  require_readable(path);
  FileHandle file(path, O_RDONLY);
  const std::uint64_t size = file.size();
  if (size > limit)
    throw DataError(path, "has " + std::to_string(size) + " bytes, more than the " +
                              std::to_string(limit) + " expected");
  try {
    Bytes bytes(size);
    bytes.resize(file.read_at(bytes.data(), size, 0));
    return bytes;
  } catch (const std::bad_alloc&) {
    throw DataError(path, "has " + std::to_string(size) + " bytes, more than memory holds");
  }
}

void sync_parent(const std::string& path) {
  FileHandle handle(directory_of(path), O_RDONLY | O_DIRECTORY);
  // Some file systems cannot fsync a directory and need not.
  if (::fsync(handle.fd()) != 0 && errno != EINVAL)
    throw_errno("cannot sync directory", handle.path());
}

std::string link_target(const std::string& path) {
  std::filesystem::path target = path;
  for (int links = 0; links < kMostLinks; ++links) {
    std::error_code none;
    const std::filesystem::path next = std::filesystem::read_symlink(target, none);
    if (none) return target.string();
    target = target.parent_path() / next;  // an absolute one replaces the folder
  }
  throw EnvironmentError("cannot write " + path + ": its symbolic links lead in a circle");
}

bool same_file(const std::string& a, const std::string& b) {
  namespace fs = std::filesystem;
  std::error_code none;
  const auto place = [&](const std::string& name) {
    return fs::weakly_canonical(fs::absolute(link_target(name), none), none);
  };
  const fs::path at = place(a);
  return (!at.empty() && at == place(b)) || fs::equivalent(a, b, none);
}

std::string temporary_beside(const std::string& path) {
  return link_target(path) + ".tmp." + std::to_string(::getpid());
}

void require_file_or_nothing(const std::string& path) {
  if (is_stream(path))
    throw UserError(path + " is a stream, which no output replaces; give the name of a file");
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode)) return;
  throw UserError(path + " is " + kind_of(info.st_mode) +
                  ", which no output replaces; give the name of a file to write");
}

void require_writable(const std::string& path) {
  if (path.empty()) return;
  require_file_or_nothing(path);
  const std::string target = link_target(path);
  std::error_code none;
  if (!std::filesystem::is_directory(directory_of(target), none))
    throw EnvironmentError("cannot write " + path + ": there is no folder " + directory_of(target) +
                           "; make it first");
  const std::string temporary = temporary_beside(path);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST) return;  // another host's process of this number
  if (fd < 0) throw_errno("cannot write " + path + ": folder", directory_of(target));
  ::close(fd);
  std::remove(temporary.c_str());
}

void publish_file(const std::string& from, const std::string& to) {
  {
    FileHandle file(from, O_RDONLY);
    if (::fsync(file.fd()) != 0) throw_errno("cannot sync", from);
  }
  require_file_or_nothing(to);
  const std::string target = link_target(to);
  if (std::rename(from.c_str(), target.c_str()) != 0) throw_errno("cannot rename to", target);
  sync_parent(target);
}

void write_file_atomic(const std::string& path, const void* data, std::size_t size) {
  const StopWatch watch;  // a signal must not leave the temporary file behind
  const std::string temporary = temporary_beside(path);
  std::remove(temporary.c_str());  // of a killed process of this number
  try {
    FileHandle file(temporary, O_WRONLY | O_CREAT | O_EXCL);
    file.write_all(data, size);
    file.close();
    publish_file(temporary, path);
  } catch (const Error&) {
    std::remove(temporary.c_str());
    throw;
  }
}

}  // namespace sentinel
