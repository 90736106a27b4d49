#include "sentinel/results/listed_faults.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/words/effect.hpp"
#include "sentinel/words/fault_list_words.hpp"

namespace sentinel {
namespace {

/// "value:0.25", the same word again: as the campaign was told, or of a list the word itself.
std::string value_text(const FaultRow& fault, const TensorInfo& tensor, const PointInfo& point) {
  if (begins_with(point.effect, "value:")) return point.effect;
  if (tensor.layout != "fp32") return given_word(fault.after);
  FaultModel model;
  model.effect = Effect::kValue;
  const auto bits = static_cast<std::uint32_t>(fault.after);
  std::memcpy(&model.value, &bits, sizeof bits);
  return effect_name(model);
}

std::string effect_text(const FaultRow& fault, const TensorInfo& tensor, const PointInfo& point) {
  const auto effect = static_cast<Effect>(fault.effect);
  if (effect == Effect::kRandomWord) return given_word(fault.after);
  if (effect == Effect::kValue) return value_text(fault, tensor, point);
  FaultModel model;
  model.effect = effect;
  return effect_name(model);
}

}  // namespace

ListedOf listed_of(const std::string& path, const ResultInfo& info, const ListChoice& choice) {
  ListedOf of;
  if (!choice.point && info.points.size() > 1)
    throw UserError(fmt::format("{} has {} points, and a list is of one; give {} 0 to {}", path,
                                info.points.size(), spelled(Setting::kPoint),
                                info.points.size() - 1));
  of.point = choice.point.value_or(0);
  if (of.point >= info.points.size())
    throw UserError(fmt::format("{} {}: {} has the points 0 to {}", spelled(Setting::kPoint),
                                of.point, path, info.points.size() - 1));
  if (choice.network.empty()) return of;
  std::string names;
  for (const ModelInfo& model : info.models) {
    if (model.name == choice.network) return of;
    names += (names.empty() ? "" : ", ") + model.name;
    ++of.model;
  }
  throw UserError(fmt::format("{} {}: {} has the networks {}", spelled(Setting::kNetwork),
                              choice.network, path, names));
}

std::string fault_list_text(const std::string& path, const ResultInfo& info, const ListedOf& of,
                            const std::vector<TrialRecord>& records) {
  const PointInfo& point = info.points.at(of.point);
  const std::vector<TensorInfo>& tensors = info.models.at(of.model).tensors;
  std::uint64_t trials = 1;
  for (const TrialRecord& record : records) trials = std::max(trials, record.row.id + 1);
  std::string text = fmt::format("{} trials={}\ntrial,tensor,element,bit,image,effect,length\n",
                                 kFaultListHead, trials);
  for (const TrialRecord& record : records) {
    if (record.row.faults_stored == 0)
      throw UserError(
          fmt::format("{} has no faults of trial {}; `sentinelnn replay {} {} FIRST-LAST {} "
                      "OUT.csv` draws them again, and {} yes would have kept them",
                      path, record.row.id, path, spelled(Setting::kTrials),
                      spelled(Setting::kFaults), spelled(Setting::kFaultsStored)));
    for (const FaultRow& fault : record.faults) {
      const TensorInfo& tensor = tensors.at(fault.tensor);
      const bool word = fault.effect >= static_cast<std::uint8_t>(Effect::kRandomWord);
      fmt::format_to(std::back_inserter(text), "{},{},{},{},{},{},{}\n", record.row.id, tensor.name,
                     fault.element, fault.bit, fault.image, effect_text(fault, tensor, point),
                     word ? 1 : fault.length);
    }
  }
  return text;
}

std::string stored_fault_list(const std::string& path, const ListChoice& choice) {
  const ResultInfo info = read_result_outline(path).info;
  const ListedOf of = listed_of(path, info, choice);
  const auto records = read_records(
      path, [&](const TrialRow& row) { return row.point == of.point && row.model == of.model; });
  if (records.empty())
    throw UserError(fmt::format("{}: {} holds no trial of point {}", spelled(Setting::kFaults),
                                path, of.point));
  return fault_list_text(path, info, of, records);
}

}  // namespace sentinel
