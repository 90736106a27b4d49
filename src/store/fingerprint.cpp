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

}  // namespace

void check_fingerprint(const std::string& path, const std::string& fingerprint, const Parts& parts,
                       const ResultInfo& wanted, const std::string& remedy) {
  if (fingerprint == wanted.fingerprint) return;
  std::string what = differing(parts, wanted.fingerprint_parts);
  if (what.empty()) what = "fingerprint: " + fingerprint + " -> " + wanted.fingerprint;
  throw UserError(path + " belongs to another job (" + what + "); " + remedy);
}

}  // namespace sentinel
