#include "store/working_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/store/result_file.hpp"
#include "store/h5.hpp"
#include "store/journal.hpp"

namespace sentinel::store {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

const char* in_words(fs::file_type type) {
  switch (type) {
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::symlink:
      return "a symbolic link";
    case fs::file_type::fifo:
      return "a FIFO";
    case fs::file_type::socket:
      return "a socket";
    default:
      return "a device";
  }
}

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw UserError(
      path + " is there already and is " + what +
      ", and sentinelnn keeps files of such names for itself; move it away, or give another " +
      spelled(Setting::kOutput));
}

/// The digits behind `prefix` in the names of the result's folder.
std::vector<std::string> numbers_behind(const std::string& result, const std::string& kind) {
  const fs::path path(result);
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string prefix = path.filename().string() + kind;
  std::vector<std::string> numbers;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > prefix.size() && begins_with(name, prefix) &&
        name.find_first_not_of("0123456789", prefix.size()) == std::string::npos)
      numbers.push_back(name.substr(prefix.size()));
  }
  return numbers;
}

/// Nothing of a file that was removed meanwhile, as those that try whether a folder may be written.
std::string first_bytes(const std::string& path, std::size_t size) {
  try {
    const FileHandle file(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    std::string bytes(size, '\0');
    bytes.resize(file.read_at(bytes.data(), size, 0));
    return bytes;
  } catch (const EnvironmentError&) {
    if (fs::exists(path)) throw;
    return "";
  }
}

/// As much of the beginning as a file has; all of it where nothing was written yet.
bool begins_like(const std::string& path, std::string_view magic) {
  return begins_with(magic, first_bytes(path, magic.size()));
}

/// HDF5 (a superblock of version 0, as our files have) that ends elsewhere than it says.
bool is_unclosed_hdf5(const std::string& path) {
  constexpr std::size_t kVersion = 8, kEnd = 40;
  const std::string begin = first_bytes(path, kEnd + sizeof(std::uint64_t));
  if (begin.size() < kEnd + sizeof(std::uint64_t)) return true;
  std::uint64_t end = 0;
  std::memcpy(&end, begin.data() + kEnd, sizeof end);
  std::error_code none;
  return begin[kVersion] == 0 && end != fs::file_size(path, none);
}

/// A publication that was not closed has no sound HDF5 yet; a closed one names its campaign.
bool is_left_over(const std::string& path, const std::string& fingerprint) {
  constexpr auto kSignature = "\x89HDF\r\n\x1a\n"sv, kNothing = "\0\0\0\0\0\0\0\0"sv;
  if (begins_like(path, kNothing)) return true;
  if (!begins_like(path, kSignature)) return false;
  if (is_unclosed_hdf5(path)) return true;
  try {
    const h5::Guard guard;
    const h5::File file = h5::File::open(path);
    return h5::has_attribute(file, file.id(), "schema") &&
           h5::get_text(file, file.id(), "schema") == kResultSchema &&
           h5::get_text(file, file.id(), "fingerprint") == fingerprint;
  } catch (const DataError&) {
    return true;
  }
}

}  // namespace

void require_plain_or_nothing(const std::string& path) {
  std::error_code none;
  const fs::file_type type = fs::symlink_status(path, none).type();
  if (type != fs::file_type::not_found && type != fs::file_type::none &&
      type != fs::file_type::regular)
    refuse(path, in_words(type));
}

std::string journal_path(const std::string& result, std::uint32_t number) {
  return result + ".journal." + std::to_string(number);
}

std::vector<std::uint32_t> journal_numbers(const std::string& result) {
  constexpr std::size_t kMostDigits = 9;
  std::vector<std::uint32_t> numbers;
  for (const std::string& digits : numbers_behind(result, ".journal.")) {
    const std::string path = result + ".journal." + digits;
    require_plain_or_nothing(path);
    const bool leading_zero = digits.size() > 1 && digits[0] == '0';
    if (leading_zero || digits.size() > kMostDigits || !begins_like(path, kJournalMagic))
      refuse(path, "no journal of a result");
    numbers.push_back(static_cast<std::uint32_t>(std::stoul(digits)));
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

bool has_journals(const std::string& result) {
  const auto numbers = numbers_behind(result, ".journal.");
  return std::any_of(numbers.begin(), numbers.end(), [&](const std::string& digits) {
    const std::string path = result + ".journal." + digits;
    return fs::is_regular_file(fs::symlink_status(path)) && begins_like(path, kJournalMagic);
  });
}

void remove_temporaries(const std::string& result, const std::string& fingerprint) {
  const auto numbers = numbers_behind(result, ".tmp.");
  for (const std::string& digits : numbers) {
    const std::string path = result + ".tmp." + digits;
    require_plain_or_nothing(path);
    if (!is_left_over(path, fingerprint)) refuse(path, "nothing that this campaign left behind");
  }
  std::error_code ignored;
  for (const std::string& digits : numbers) fs::remove(result + ".tmp." + digits, ignored);
}

OwnFile::OwnFile(std::string path) : path_(std::move(path)), known_(identity_of(path_)) {}

bool OwnFile::Identity::operator==(const Identity& other) const {
  return device == other.device && inode == other.inode && size == other.size &&
         changed == other.changed;
}

std::optional<OwnFile::Identity> OwnFile::identity_of(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
  std::error_code none;
  return Identity{info.st_dev, info.st_ino, static_cast<std::uintmax_t>(info.st_size),
                  fs::last_write_time(path, none)};
}

void OwnFile::replace_by(const std::string& temporary) {
  const auto fresh = identity_of(temporary), found = identity_of(path_);
  if (found && !(known_ && *found == *known_))
    throw EnvironmentError(path_ +
                           " is no longer the file that this campaign wrote; move it away and run "
                           "the same command again");
  publish_file(temporary, path_);
  known_ = fresh;
}

}  // namespace sentinel::store
