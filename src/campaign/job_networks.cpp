#include "campaign/job_networks.hpp"

#include <filesystem>
#include <set>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/networks/network.hpp"

namespace sentinel {
namespace {

constexpr std::size_t kLongestName = 40;

/// Letters, digits and _ . + -, a letter or digit first.
bool is_plain(const std::string& name) {
  constexpr auto kFirst = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  const std::string rest = std::string(kFirst) + "_.+-";
  return !name.empty() && name.size() <= kLongestName &&
         std::string(kFirst).find(name[0]) != std::string::npos &&
         name.find_first_not_of(rest) == std::string::npos;
}

bool is_taken(const std::string& name) {
  if (name == "unprotected" || name == "pruned") return true;
  for (const std::string step :
       {"hardened", "bounded", "stored", "hardened+stored", "bounded+stored"})
    if (name == step || name == "pruned+" + step) return true;
  return false;
}

GivenNetwork given_network(const std::string& text) {
  std::error_code none;
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || std::filesystem::exists(text, none))
    return {name_of_file(text), text};
  const std::string name = text.substr(0, equals), path = text.substr(equals + 1);
  const std::string wrong = no_network_name(name);
  if (!is_plain(name) || path.empty())
    throw UserError(spelled(Setting::kAlso) + " " + text +
                    ": there is no such file, and it is no NAME=FILE; " + no_network_name(""));
  if (!wrong.empty()) throw UserError(spelled(Setting::kAlso) + " " + text + ": " + wrong);
  return {name, path};
}

std::string path_of(const Job& job, const std::string& steps) {
  const std::string path = job.output + "." + steps + ".pth";
  // Earlier versions called every protected network hardened; their campaigns go on with it.
  const std::string former = job.output + ".hardened.pth";
  const bool old = !job.fresh && !job.all_combinations && !std::filesystem::exists(path) &&
                   std::filesystem::exists(former) && std::filesystem::exists(job.output);
  return old ? former : path;
}

}  // namespace

std::string no_network_name(const std::string& name) {
  if (!is_plain(name))
    return "a name has at most " + std::to_string(kLongestName) +
           " letters, digits and _ . + -, a letter or digit first";
  if (is_taken(name))
    return "networks that the campaign makes are called '" + name + "'; choose another name";
  return "";
}

std::vector<MadeNetwork> made_networks(const Job& job) {
  std::vector<MadeNetwork> made;
  if (job.pruning) made.push_back({"pruned", job.output + ".pruned.pth"});
  const HardeningPlan& plan = job.protection.hardening;
  if (!job.protect || !protects(plan)) return made;
  const bool hardens = duplicates(plan.duplication) || plan.restricted;
  const std::string step = joined_steps(hardens              ? "hardened"
                                        : plan.weight_bounds ? "bounded"
                                                             : "",
                                        plan.store.empty() ? "" : "stored");
  const auto add = [&](const std::string& steps, bool of_pruned) {
    const bool named = !job.hardened_output.empty();
    made.push_back({steps, named ? job.hardened_output : path_of(job, steps), of_pruned});
  };
  if (!job.pruning || job.all_combinations) add(step, false);
  if (job.pruning) add(joined_steps("pruned", step), true);
  return made;
}

std::vector<GivenNetwork> given_networks(const Job& job) {
  std::vector<GivenNetwork> given;
  std::set<std::string> names;
  for (const std::string& text : job.also) {
    given.push_back(given_network(text));
    if (!names.insert(given.back().name).second)
      throw UserError(spelled(Setting::kAlso) + " " + text + ": there is a model named '" +
                      given.back().name + "' already; give another name by " +
                      spelled(Setting::kAlso) + " NAME=FILE");
  }
  return given;
}

}  // namespace sentinel
