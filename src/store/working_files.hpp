#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

/// Files beside a result while it is being made: `<result>.lock`, `<result>.journal.<n>` and
/// `<result>.tmp.<n>`. Somebody else may have put a file of such a name there: it is kept.
namespace sentinel::store {

/// UserError where something else than a plain file is at the path of a working file: a link,
/// folder, FIFO or device. Opens nothing.
void require_plain_or_nothing(const std::string& path);

/// Numbers of the files `<result>.journal.<n>`, ascending. UserError where one is no journal.
std::vector<std::uint32_t> journal_numbers(const std::string& result);
std::string journal_path(const std::string& result, std::uint32_t number);
/// Whether there is a journal, whatever else has such a name.
bool has_journals(const std::string& result);

/// Removes what killed publications of the campaign with this fingerprint left as
/// `<result>.tmp.<n>`. UserError where a file of such a name is another one; then none is removed.
/// Only under the lock.
void remove_temporaries(const std::string& result, const std::string& fingerprint);

/// The file at a result's name that its campaign may replace: the one that was there when this was
/// made, then the one that it put there.
class OwnFile {
 public:
  explicit OwnFile(std::string path);
  const std::string& path() const { return path_; }
  /// Renames a finished file to the path. EnvironmentError where another file is there by now.
  void replace_by(const std::string& temporary);

 private:
  struct Identity {
    std::uintmax_t device, inode, size;
    std::filesystem::file_time_type changed;
    bool operator==(const Identity& other) const;
  };
  static std::optional<Identity> identity_of(const std::string& path);

  std::string path_;
  std::optional<Identity> known_;
};

}  // namespace sentinel::store
