#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

using Parts = std::map<std::string, std::string>;

constexpr std::size_t kShownValue = 80;

std::string shown(const Parts& parts, const std::string& name) {
  const auto found = parts.find(name);
  if (found == parts.end()) return "(none)";
  return found->second.size() <= kShownValue ? found->second
                                             : found->second.substr(0, kShownValue) + "...";
}

std::string differing(const Parts& stored, const Parts& wanted) {
  Parts all = stored;
  all.insert(wanted.begin(), wanted.end());
  std::string text;
  for (const auto& [name, value] : all) {
    const auto a = stored.find(name), b = wanted.find(name);
    if (a != stored.end() && b != wanted.end() && a->second == b->second) continue;
    text += (text.empty() ? "" : ", ") + name + ": " + shown(stored, name) + " -> " +
            shown(wanted, name);
  }
  return text;
}

/// Whether all that differs is that plans got a version since: "..." -> "..., version 2 (...)".
bool newer_plans(const Parts& stored, const Parts& wanted) {
  if (stored.size() != wanted.size()) return false;
  return std::all_of(stored.begin(), stored.end(), [&](const auto& part) {
    const auto found = wanted.find(part.first);
    return found != wanted.end() && (found->second == part.second ||
                                     found->second.rfind(part.second + ", version ", 0) == 0);
  });
}

}  // namespace

void check_fingerprint(const std::string& path, const std::string& fingerprint, const Parts& parts,
                       const ResultInfo& wanted, const std::string& remedy) {
  if (fingerprint == wanted.fingerprint) return;
  std::string what = differing(parts, wanted.fingerprint_parts);
  if (what.empty()) what = "fingerprint: " + fingerprint + " -> " + wanted.fingerprint;
  if (!parts.empty() && newer_plans(parts, wanted.fingerprint_parts))
    throw UserError(path +
                    " was begun by an earlier version of sentinelnn, which planned its trials or "
                    "estimates another way; it can be summarized, not continued (" +
                    what + "); " + remedy);
  throw UserError(path + " belongs to another job (" + what + "); " + remedy);
}

}  // namespace sentinel
