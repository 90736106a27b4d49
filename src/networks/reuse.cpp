#include "networks/reuse.hpp"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "networks/everywhere.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"

namespace sentinel {

std::string hash_of(const ChannelScores& scores) {
  Sha256 hash;
  for (const LayerScores& layer : scores)
    hash.update(layer.scores.data(), layer.scores.size() * sizeof(double));
  return hash.hex();
}

Bytes made_by(const std::string& recipe, const std::string& path) {
  if (path.empty() || !std::filesystem::exists(path)) return {};
  const auto again = [&](const char* why) {
    spdlog::warn("{} {}; it is made again", path, why);
    return Bytes();
  };
  try {
    Bytes file = read_file(path);
    const Provenance made = read_provenance(file, path);
    if (made.recipe != recipe) return again("was made from another network or by other options");
    if (!made.network_sha256.empty() &&
        network_sha256(parse_model(file, path, ModelChoice{})) != made.network_sha256)
      return again("has other weights than it was made with");
    return file;
  } catch (const DataError&) {
    return again("cannot be read");
  }
}

}  // namespace sentinel
