#pragma once
#include <optional>
#include <string>

#include "sentinel/core/bytes.hpp"

namespace sentinel {

/// A folder that keeps results between calls, each under a text that says what it depends on. Not
/// collective: for one rank.
class KeyedCache {
 public:
  /// An empty `folder`: keeps nothing. Makes the folder where it is absent (EnvironmentError where
  /// that fails).
  explicit KeyedCache(std::string folder);

  /// What was kept under this name and key; nothing (with a warning) where the file is damaged or
  /// says another key.
  std::optional<Bytes> load(const std::string& name, const std::string& key) const;
  /// Throws EnvironmentError. `name` begins the file's name and is for people only.
  void store(const std::string& name, const std::string& key, const Bytes& content) const;
  /// The file of a name and key.
  std::string path(const std::string& name, const std::string& key) const;

  bool keeps() const { return !folder_.empty(); }

 private:
  std::string folder_;
};

}  // namespace sentinel
