#include "sentinel/fault/fault_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/text.hpp"
#include "sentinel/words/fault_list_words.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kMostTrials = 1'000'000'000'000;
constexpr std::uint64_t kLongestFault = 64;  // [bits]
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

enum Column { kTrial, kTensor, kElement, kBit, kImage, kEffect, kLength, kTarget, kColumns };
constexpr std::array<std::string_view, kColumns> kNames = {"trial", "tensor", "element", "bit",
                                                           "image", "effect", "length",  "target"};
constexpr int kNeeded = 4;  // the first of them

using Fields = std::array<std::string_view, kColumns>;

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0, end = 0; end != std::string_view::npos; begin = end + 1) {
    end = line.find(',', begin);
    fields.push_back(trimmed(line.substr(begin, end - begin)));
  }
  return fields;
}

bool is_output_target(std::string_view target) {
  return target == "activation" || target == "post" || target == "output";
}

/// Enough of a text for a message.
std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 60;
  std::string plain(text.substr(0, kShown));
  std::replace_if(
      plain.begin(), plain.end(), [](char c) { return c >= 0 && c < ' '; }, '?');
  return "'" + plain + (text.size() > kShown ? "...'" : "'");
}

}  // namespace

/// Reads line by line, and knows where it is.
class FaultList::Parser {
 public:
  Parser(std::string_view text, const std::string& source, const FaultSpace& space,
         std::int64_t images)
      : rest_(text), source_(source), space_(space), images_(static_cast<std::uint64_t>(images)) {
    for (std::size_t t = 0; t < space.tensors().size(); ++t) numbers_[space.tensors()[t].name] = t;
  }

  void parse(FaultList& list) {
    if (begins_with(rest_, kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
    std::string_view line;
    if (next(line) && begins_with(line, "#")) {
      read_head(line);
      line = {};
      next(line);
    }
    read_columns(line);
    while (next(line)) list.entries_.push_back(entry_of(line));
    sort_and_check(list);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const { refuse_at(line_, what); }
  [[noreturn]] void refuse_at(std::uint32_t line, const std::string& what) const {
    throw DataError(fmt::format("{}:{}", source_, line), what);
  }

  /// The next line that is not empty.
  bool next(std::string_view& line) {
    while (!rest_.empty()) {
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      line = trimmed(rest_.substr(0, end));
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      ++line_;
      if (!line.empty()) return true;
    }
    return false;
  }

  void read_head(std::string_view line) {
    constexpr std::string_view kTrials = " trials=";
    if (!begins_with(line, kFaultListHead) ||
        !begins_with(line.substr(kFaultListHead.size()), kTrials))
      refuse(
          fmt::format("the first line is {}; a list begins with its columns, or before them "
                      "with '{}{}N'",
                      shown(line), kFaultListHead, kTrials));
    declared_ = number("trials", line.substr(kFaultListHead.size() + kTrials.size()));
    if (*declared_ == 0 || *declared_ > kMostTrials)
      refuse(fmt::format("trials={} lies outside 1 to {}", *declared_, kMostTrials));
  }

  void read_columns(std::string_view line) {
    if (line.empty())
      throw DataError(source_,
                      "is empty; a list begins with the line trial,tensor,element,bit and may "
                      "have the columns image, effect, length and target");
    column_of_.fill(-1);
    width_ = 0;
    for (const std::string_view name : split(line)) {
      const auto known = std::find(kNames.begin(), kNames.end(), name);
      if (known == kNames.end())
        refuse(
            fmt::format("the column {} is unknown; a list has trial, tensor, element, bit, and "
                        "may have image, effect, length and target",
                        shown(name)));
      int& column = column_of_[static_cast<std::size_t>(known - kNames.begin())];
      if (column >= 0) refuse(fmt::format("the column {} is there twice", name));
      column = width_++;
    }
    for (std::size_t c = 0; c < kNeeded; ++c)
      if (column_of_[c] < 0)
        refuse(fmt::format("the column {} is missing; a list has trial, tensor, element and bit",
                           kNames[c]));
  }

  std::uint64_t number(std::string_view name, std::string_view text) const {
    std::uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc::result_out_of_range)
      refuse(fmt::format("{} {} is too large", name, shown(text)));
    if (text.empty() || error != std::errc() || stop != end)
      refuse(fmt::format("{} {} is no whole number from 0 on", name, shown(text)));
    return value;
  }

  Entry entry_of(std::string_view line) {
    const std::vector<std::string_view> parts = split(line);
    if (parts.size() != static_cast<std::size_t>(width_))
      refuse(fmt::format("has {} fields, and the header has {}", parts.size(), width_));
    Fields fields;
    for (std::size_t c = 0; c < kColumns; ++c)
      if (column_of_[c] >= 0) fields[c] = parts[static_cast<std::size_t>(column_of_[c])];
    Entry entry;
    entry.line = line_;
    entry.trial = trial_of(fields[kTrial]);
    const FaultTensor& tensor = tensor_of(fields, entry);
    entry.site.element = number("element", fields[kElement]);
    if (entry.site.element >= tensor.elements)
      refuse(fmt::format("element {} lies outside {}, which has the words 0 to {}",
                         entry.site.element, tensor.name, tensor.elements - 1));
    if (!fields[kImage].empty() && fields[kImage] != "-1")
      entry.site.image = image_of(fields[kImage]);
    read_effect(fields, tensor, entry);
    return entry;
  }

  std::int32_t image_of(std::string_view text) const {
    if (!space_.of_outputs())
      refuse(fmt::format("image {}: faults in parameters hit all images; leave it empty, or -1",
                         shown(text)));
    const std::uint64_t image = number("image", text);
    if (image >= images_)
      refuse(fmt::format("image {} is none of the {} images, 0 to {}", image, images_,
                         images_ - 1));
    return static_cast<std::int32_t>(image);
  }

  std::uint64_t trial_of(std::string_view text) const {
    const std::uint64_t trial = number("trial", text);
    if (declared_ && trial >= *declared_)
      refuse(fmt::format("trial {} is none of 0 to {}: the first line says trials={}", trial,
                         *declared_ - 1, *declared_));
    if (trial >= kMostTrials)
      refuse(fmt::format("trial {} is too large; trials are below {}", trial, kMostTrials));
    return trial;
  }

  const FaultTensor& tensor_of(const Fields& fields, Entry& entry) const {
    const std::string_view target = fields[kTarget], name = fields[kTensor];
    const bool outputs = space_.of_outputs();
    if (!target.empty() && outputs != is_output_target(target))
      refuse(fmt::format("target {}: a list names {}, as its first fault does; divide it",
                         shown(target), outputs ? "outputs of nodes alone" : "parameters alone"));
    const auto known = numbers_.find(name);
    if (known == numbers_.end()) refuse_tensor(name);
    entry.site.tensor = static_cast<std::uint32_t>(known->second);
    const FaultTensor& tensor = space_.tensors()[known->second];
    if (!target.empty() && !outputs && target != "parameter" && target != class_name(tensor.kind))
      refuse(fmt::format("target {}: {} is {}, so that its target is parameter or {}",
                         shown(target), name, class_name(tensor.kind), class_name(tensor.kind)));
    return tensor;
  }

  [[noreturn]] void refuse_tensor(std::string_view name) const {
    std::string parts;
    for (const FaultTensor& tensor : space_.tensors())
      if (!name.empty() && begins_with(tensor.name, std::string(name) + "."))
        parts += (parts.empty() ? "" : ", ") + tensor.name;
    if (space_.of_outputs())
      refuse(
          fmt::format("the network has no node {}; a list names outputs of nodes alone, or "
                      "parameters alone, as its first fault does",
                      shown(name)));
    refuse(fmt::format("the network stores no tensor {}; {}", shown(name),
                       parts.empty() ? "`sentinelnn inspect` lists those of its checkpoint "
                                       "(counters of batches cannot be hit)"
                                     : "of this layer it stores " + parts));
  }

  void read_effect(const Fields& fields, const FaultTensor& tensor, Entry& entry) const {
    FaultSite& site = entry.site;
    const std::string_view effect = fields[kEffect];
    FaultModel model;
    if (begins_with(effect, kGivenWord)) {
      model.effect = Effect::kRandomWord;
      site.operand = word_of(effect, tensor);
    } else if (!effect.empty()) {
      model = model_of(effect);
      entry.drawn = model.effect == Effect::kRandomWord;
      if (model.effect == Effect::kValue) site.operand = operand_of(model);
    }
    site.effect = model.effect;
    if (model.of_words()) return require_whole_word(fields);
    const std::uint64_t bit = number("bit", fields[kBit]);
    if (bit >= static_cast<std::uint64_t>(tensor.word_bits))
      refuse(fmt::format("bit {} lies outside the words of {}, which have the bits 0 to {}", bit,
                         tensor.name, tensor.word_bits - 1));
    site.bit = static_cast<std::uint8_t>(bit);
    if (fields[kLength].empty()) return;
    const std::uint64_t length = number("length", fields[kLength]);
    if (length == 0 || length > kLongestFault)
      refuse(fmt::format("length {} lies outside 1 to {}", length, kLongestFault));
    site.length = static_cast<std::uint8_t>(length);
  }

  void require_whole_word(const Fields& fields) const {
    const std::string_view bit = fields[kBit], length = fields[kLength];
    if (!bit.empty() && bit != "0")
      refuse(fmt::format("bit {}: effect {} hits a whole word; leave the bit empty, or 0",
                         shown(bit), fields[kEffect]));
    if (!length.empty() && length != "1")
      refuse(fmt::format("length {}: effect {} hits a whole word; leave the length empty, or 1",
                         shown(length), fields[kEffect]));
  }

  FaultModel model_of(std::string_view effect) const {
    FaultModel model;
    try {
      parse_effect(std::string(effect), model);
    } catch (const UserError&) {
      refuse(
          fmt::format("effect {} is unknown; choose flip, stuck-at-0, stuck-at-1, random-word, "
                      "random-word:0xWORD or value:V with a number V",
                      shown(effect)));
    }
    return model;
  }

  Word word_of(std::string_view effect, const FaultTensor& tensor) const {
    const std::string_view digits = effect.substr(kGivenWord.size());
    Word word = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, word, 16);
    if (digits.empty() || error != std::errc() || stop != end ||
        (tensor.word_bits < 64 && word >> tensor.word_bits != 0))
      refuse(fmt::format("effect {}: no word of {}, whose words have {} bits", shown(effect),
                         tensor.name, tensor.word_bits));
    return word;
  }

  /// Sorts; refuses faults that are there twice.
  void sort_and_check(FaultList& list) const {
    std::vector<Entry>& all = list.entries_;
    std::sort(all.begin(), all.end(), [](const Entry& a, const Entry& b) {
      const auto key = [](const Entry& e) {
        return std::tie(e.trial, e.site.image, e.site.tensor, e.site.element, e.site.bit, e.line);
      };
      return key(a) < key(b);
    });
    for (std::size_t i = 1; i < all.size(); ++i) {
      const FaultSite &a = all[i - 1].site, &b = all[i].site;
      if (all[i - 1].trial == all[i].trial && a.image == b.image && a.tensor == b.tensor &&
          a.element == b.element && a.bit == b.bit)
        refuse_at(all[i].line,
                  fmt::format("trial {} has two faults at bit {} of element {} of {}, here and in "
                              "line {}; keep one",
                              all[i].trial, b.bit, b.element, space_.tensors()[b.tensor].name,
                              all[i - 1].line));
    }
    if (all.empty() && !declared_)
      throw DataError(source_,
                      fmt::format("lists no fault; for fault-free trials begin it with '{} "
                                  "trials=N'",
                                  kFaultListHead));
    list.trials_ = declared_ ? *declared_ : all.back().trial + 1;
  }

  std::string_view rest_;
  const std::string& source_;
  const FaultSpace& space_;
  std::uint64_t images_;
  std::unordered_map<std::string_view, std::size_t> numbers_;
  std::array<int, kColumns> column_of_{};
  int width_ = 0;
  std::uint32_t line_ = 0;
  std::optional<std::uint64_t> declared_;
};

bool lists_outputs(std::string_view text, const Graph& graph) {
  if (begins_with(text, kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<std::string_view> columns;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line.front() == '#') continue;
    const std::vector<std::string_view> fields = split(line);
    if (columns.empty()) {
      columns = fields;
      continue;
    }
    const auto field = [&](std::string_view name) {
      const auto column = std::find(columns.begin(), columns.end(), name) - columns.begin();
      const auto at = static_cast<std::size_t>(column);
      return at < std::min(columns.size(), fields.size()) ? fields[at] : std::string_view();
    };
    if (!field("target").empty()) return is_output_target(field("target"));
    const auto is_named = [&](const Node& node) { return node.name == field("tensor"); };
    return std::any_of(graph.nodes().begin(), graph.nodes().end(), is_named);
  }
  return false;
}

FaultList::FaultList(std::string_view text, const std::string& source, const FaultSpace& space,
                     std::int64_t images)
    : sha256_(sha256_hex(text)) {
  Parser(text, source, space, images).parse(*this);
  for (const FaultTensor& tensor : space.tensors()) counts_.emplace_back(tensor.name, 0);
  for (const Entry& entry : entries_) ++counts_[entry.site.tensor].second;
}

Faults FaultList::of_trial(std::uint64_t trial, std::uint64_t seed) const {
  auto entry = std::lower_bound(entries_.begin(), entries_.end(), trial,
                                [](const Entry& e, std::uint64_t id) { return e.trial < id; });
  Rng rng({seed, 0, trial, Purpose::kFaultEffects});
  Faults faults;
  for (; entry != entries_.end() && entry->trial == trial; ++entry) {
    faults.push_back(entry->site);
    if (entry->drawn) faults.back().operand = rng.bits64();
  }
  return faults;
}

std::vector<std::uint64_t> FaultList::trials_with_faults() const {
  std::vector<std::uint64_t> trials;
  for (const Entry& entry : entries_)
    if (trials.empty() || trials.back() != entry.trial) trials.push_back(entry.trial);
  return trials;
}

std::uint64_t FaultList::faults_in(const std::string& tensor) const {
  for (const auto& [name, faults] : counts_)
    if (name == tensor) return faults;
  return 0;
}

}  // namespace sentinel
