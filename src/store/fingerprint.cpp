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

/// The parts with networks under their numbers alone ("model 0 hardened" -> "model 0"): what a
/// network is called decides no row, and earlier versions called some otherwise.
Parts without_names(const Parts& parts) {
  const std::string model = "model ", recipe = "recipe of ";
  Parts all;
  std::map<std::string, std::string> numbers;
  for (const auto& [name, value] : parts) {
    const std::size_t space = name.find(' ', model.size());
    const bool named = name.rfind(model, 0) == 0 && space != std::string::npos;
    if (named) numbers[name.substr(space + 1)] = name.substr(0, space);
    all[named ? name.substr(0, space) : name] = value;
  }
  for (const auto& [name, number] : numbers) {
    auto entry = all.extract(recipe + name);
    if (entry.empty()) continue;
    entry.key() = recipe + number;
    all.insert(std::move(entry));
  }
  return all;
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

/// The parts of a result of schema 1 as this version says them: it knew only flips of single bits
/// in all weights, stored as fp32.
Parts as_of_now(Parts stored, const Parts& wanted) {
  const Parts of_schema1 = {{"effect", "flip"},
                            {"layouts of model", "fp32"},
                            {"lifetime", "-"},
                            {"list", "none"},
                            {"normalisation of model", "the data set's"},
                            {"selection", "all"},
                            {"shape", "bit"},
                            {"target", "weight"}};
  const auto schema = stored.find("schema");
  const auto now = wanted.find("schema");
  if (schema == stored.end() || schema->second != "1" || now == wanted.end()) return stored;
  schema->second = now->second;
  for (const auto& [name, value] : wanted) {
    const std::size_t number = name.find(" of model ");  // "layouts of model 1"
    const auto meant =
        of_schema1.find(number == std::string::npos ? name : name.substr(0, number + 9));
    if (meant != of_schema1.end()) stored.emplace(name, meant->second);
  }
  return stored;
}

}  // namespace

void check_fingerprint(const std::string& path, const std::string& fingerprint, const Parts& parts,
                       const ResultInfo& wanted, const std::string& remedy) {
  if (fingerprint == wanted.fingerprint) return;
  const Parts stored = as_of_now(parts, wanted.fingerprint_parts);
  if (!parts.empty() && without_names(stored) == without_names(wanted.fingerprint_parts)) return;
  std::string what = differing(stored, wanted.fingerprint_parts);
  if (what.empty()) what = "fingerprint: " + fingerprint + " -> " + wanted.fingerprint;
  if (!parts.empty() && newer_plans(stored, wanted.fingerprint_parts))
    throw UserError(path +
                    " was begun by an earlier version of sentinelnn, which planned its trials or "
                    "estimates another way (" +
                    what +
                    "); it can be summarized. To go on or to replay its trials, use the version "
                    "that began it (attribute creator_version of the file)");
  throw UserError(path + " belongs to another job (" + what + "); " + remedy);
}

}  // namespace sentinel
