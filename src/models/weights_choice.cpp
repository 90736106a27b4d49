#include "models/weights_choice.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>

#include "models/build.hpp"
#include "models/checkpoint_source.hpp"
#include "models/stored_weights.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"

namespace sentinel {
namespace {

constexpr std::int64_t kAnyNumberOfClasses = -1;

std::string listed(const std::vector<std::string>& names) {
  constexpr std::size_t kListed = 8;
  const std::size_t shown = std::min(names.size(), kListed);
  std::string text = fmt::format(
      "{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

/// How many of the wanted names each beginning of names leads to: "", "module.", ...
std::map<std::string, std::size_t> count_prefixes(const StateDict& tensors,
                                                  const std::vector<std::string>& wanted) {
  constexpr std::size_t kLongestName = 512;  // longer ones would cost a hostile file's square
  const std::unordered_set<std::string> known(wanted.begin(), wanted.end());
  std::map<std::string, std::size_t> counts{{"", 0}};
  for (const auto& entry : tensors) {
    const std::string& name = entry.first;
    if (name.size() > kLongestName) continue;
    for (std::size_t at = 0; at != std::string::npos;) {
      if (known.count(name.substr(at)) > 0) ++counts[name.substr(0, at)];
      const std::size_t dot = name.find('.', at);
      at = dot == std::string::npos ? dot : dot + 1;
    }
  }
  return counts;
}

/// One number of another type than the weights have: it counts something.
bool is_counter(const at::Tensor& tensor, const std::set<at::ScalarType>& types_of_weights) {
  return tensor.numel() == 1 && !types_of_weights.empty() &&
         types_of_weights.count(tensor.scalar_type()) == 0;
}

/// The prefixes that are longer than this one and begin with it: those of other networks within.
std::vector<std::string> within(const std::string& prefix,
                                const std::vector<std::string>& prefixes) {
  std::vector<std::string> longer;
  for (const std::string& other : prefixes)
    if (other.size() > prefix.size() && begins_with(other, prefix)) longer.push_back(other);
  return longer;
}

/// The view with one prefix, the rest of `base` being set. `others`: see within().
WeightsView view_behind(WeightsView base, const StateDict& tensors, const std::string& prefix,
                        const std::vector<std::string>& others,
                        const std::unordered_set<std::string>& wanted) {
  WeightsView view = std::move(base);
  view.prefix = prefix;
  const auto is_wanted = [&](const std::string& name) {
    constexpr std::string_view kCounter = ".num_batches_tracked";
    const bool counts = name.size() > kCounter.size() && ends_with(name, kCounter);
    return wanted.count(name) > 0 || counts;
  };
  std::set<at::ScalarType> types;
  for (const auto& [name, tensor] : tensors)
    if (begins_with(name, prefix) && wanted.count(name.substr(prefix.size())) > 0)
      types.insert(tensor.scalar_type());
  for (const auto& [name, tensor] : tensors) {
    const bool elsewhere =
        !begins_with(name, prefix) ||
        std::any_of(others.begin(), others.end(),
                    [&, &text = name](const auto& other) { return begins_with(text, other); });
    const std::string own = elsewhere ? "" : name.substr(prefix.size());
    if (own.empty() || (!is_wanted(own) && is_counter(tensor, types)))
      view.left_out.push_back(name);
    else
      view.tensors.set(own, tensor);
  }
  return view;
}

std::vector<std::string> names_of(const std::vector<WeightsView>& views) {
  std::vector<std::string> names;
  for (const WeightsView& view : views)
    names.push_back(view.name.empty() ? "the outermost" : view.name);
  return names;
}

std::vector<WeightsView> only(const std::vector<WeightsView>& views, const std::string& key,
                              const std::string& source) {
  std::vector<WeightsView> chosen;
  for (const WeightsView& view : views)
    if (view.name == key || view.key == key) chosen.push_back(view);
  if (chosen.empty())
    throw UserError(fmt::format("{} {}: {} has no dictionary of tensors of this name; it has {}",
                                spelled(Setting::kWeightsKey), key, source,
                                listed(names_of(views))));
  return chosen;
}

}  // namespace

bool fits(const WeightsView& view, const Family& family, std::int64_t classes, std::size_t wanted) {
  if (view.found < wanted) return false;
  CheckpointSource layers(view.tensors, nullptr, classes);
  family.build(layers, std::max<std::int64_t>(classes, 1));
  layers.mark_unexpected();
  return layers.fits();
}

std::vector<std::string> wanted_names(const Family& family) {
  const StateDict nothing;
  CheckpointSource layers(nothing, nullptr, kAnyNumberOfClasses);
  family.build(layers, 1);
  return layers.missing();
}

std::vector<WeightsView> views_of(const TensorDict& dict, const std::vector<std::string>& wanted) {
  WholeWeights whole = with_whole_weights(with_new_names(dict.tensors));
  const auto counts = count_prefixes(whole.tensors, wanted);
  WeightsView base;
  for (const auto& entry : counts) base.found = std::max(base.found, entry.second);
  const bool another = 2 * base.found < wanted.size();  // architecture: a prefix would be by chance
  if (another) base.found = counts.at("");
  std::vector<std::string> prefixes;
  for (const auto& [prefix, count] : counts)
    if (another ? prefix.empty() : count == base.found) prefixes.push_back(prefix);
  std::stable_sort(prefixes.begin(), prefixes.end(),
                   [](const std::string& a, const std::string& b) {
                     return std::pair(is_average(a), a.size()) < std::pair(is_average(b), b.size());
                   });
  base.key = base.name = dict.key;
  base.left_out = dict.others;
  base.masked = std::move(whole.masked);
  base.normalised = std::move(whole.normalised);
  const std::unordered_set<std::string> names(wanted.begin(), wanted.end());
  std::vector<WeightsView> views;
  constexpr std::size_t kMostViews = 16;
  for (const std::string& prefix : prefixes) {
    if (views.size() == kMostViews) break;
    views.push_back(view_behind(base, whole.tensors, prefix, within(prefix, prefixes), names));
    if (prefixes.size() > 1 && !prefix.empty())
      views.back().name +=
          (dict.key.empty() ? "" : ".") + prefix.substr(0, prefix.size() - 1);  // no dot at the end
  }
  return views;
}

WeightsChoice choose_weights(const WeightsFile& file, const std::string& source,
                             const Family& family, std::int64_t classes, const std::string& key) {
  const std::vector<std::string> wanted = wanted_names(family);
  std::vector<WeightsView> views, fitting;
  for (const TensorDict& dict : file.dicts)
    for (WeightsView& view : views_of(dict, wanted)) views.push_back(std::move(view));
  if (!key.empty()) views = only(views, key, source);
  for (const WeightsView& view : views)
    if (views.size() > 1 && fits(view, family, classes, wanted.size())) fitting.push_back(view);
  if (!fitting.empty()) return {fitting.front(), names_of(fitting)};
  const auto likeliest = std::max_element(
      views.begin(), views.end(),
      [](const WeightsView& a, const WeightsView& b) { return a.found < b.found; });
  return {*likeliest, names_of({*likeliest})};
}

void log_choice(const WeightsChoice& choice, const std::string& source, const std::string& family) {
  const WeightsView& view = choice.view;
  const auto say = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) spdlog::info("{}: {} ({}): {}", source, what, names.size(), listed(names));
  };
  if (choice.fitting.size() > 1)
    spdlog::warn("{} holds {} sets of weights that fit {}. {} is taken; {} chooses another: {}",
                 source, choice.fitting.size(), family, choice.fitting.front(),
                 spelled(Setting::kWeightsKey),
                 listed({choice.fitting.begin() + 1, choice.fitting.end()}));
  else if (!view.key.empty())
    spdlog::info("{}: the weights are those of {}", source, view.key);
  if (!view.prefix.empty())
    spdlog::info("{}: names are read without \"{}\" before them", source, view.prefix);
  say("left out, as no layer wants them", view.left_out);
  say("computed as weight_orig * weight_mask", view.masked);
  say("computed from their weight normalisation", view.normalised);
}

}  // namespace sentinel
