#include "app/seed_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using Words = std::vector<std::string>;
using Given = std::map<std::string, std::string>;  // option -> its value, "" of a flag

enum class Value { kNone, kText, kName, kShare, kCount };

struct SeedOption {
  std::string name;
  Value value;
  Words partners;  // of a flag: the options it needs; of a value: the flags, one of which it needs
};

const std::vector<SeedOption>& seed_options() {
  static const std::vector<SeedOption> options = {
      {"--model", Value::kName, {}},
      {"--dataset", Value::kName, {}},
      {"--batch-size", Value::kCount, {}},
      {"--data", Value::kText, {}},
      {"--mean", Value::kText, {}},
      {"--std", Value::kText, {}},
      {"--checkpoint", Value::kText, {}},
      {"--is-ranking", Value::kNone, {"--importance"}},
      {"--is-pruning", Value::kNone, {"--pruning-ratio", "--importance"}},
      {"--is-pruned", Value::kNone, {"--pruned-checkpoint"}},
      {"--is-hardening", Value::kNone, {"--hardening-ratio", "--importance", "--clipping"}},
      {"--is-hardened", Value::kNone, {"--hardened-checkpoint"}},
      {"--is-FI", Value::kNone, {"--BER", "--repeat"}},
      {"--is-performance", Value::kNone, {}},
      {"--importance", Value::kName, {"--is-ranking", "--is-pruning", "--is-hardening"}},
      {"--pruning-ratio", Value::kShare, {"--is-pruning", "--is-pruned"}},
      {"--pruned-checkpoint", Value::kText, {"--is-pruned"}},
      {"--hardening-ratio", Value::kShare, {"--is-hardening", "--is-hardened"}},
      {"--hardened-checkpoint", Value::kText, {"--is-hardened"}},
      {"--clipping", Value::kName, {"--is-hardening", "--is-hardened"}},
      {"--BER", Value::kShare, {"--is-FI"}},
      {"--repeat", Value::kCount, {"--is-FI"}},
  };
  return options;
}

struct Contradiction {
  const char *first, *second, *why;
};
constexpr Contradiction kContradictions[] = {
    {"--is-pruning", "--is-pruned", "a pruned network is not pruned again"},
    {"--is-pruning", "--is-hardened", "prune a network before it is hardened"},
    {"--is-pruning", "--is-hardening",
     "prune first, then harden what came of it with --is-pruned --is-hardening"},
    {"--is-hardening", "--is-hardened", "a hardened network is not hardened again"},
    {"--is-ranking", "--is-pruning", "pruning ranks by itself"},
    {"--is-ranking", "--is-hardening", "hardening ranks by itself"},
    {"--is-ranking", "--is-hardened", "rank a network before it is hardened"},
};

bool has(const Given& given, const std::string& option) {
  return given.count(option) > 0;
}

const SeedOption* find_option(const std::string& name) {
  const auto& all = seed_options();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const SeedOption& o) { return o.name == name; });
  return found == all.end() ? nullptr : &*found;
}

/// "--name=value" or "--name" apart.
std::string name_of(const std::string& word) {
  return word.substr(0, word.find('='));
}

bool is_share(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && number >= 0 && number <= 1;
}

bool is_count(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0;
}

/// Names become parts of file names.
bool is_name(const std::string& text) {
  return !text.empty() && text[0] != '.' && text.find('/') == std::string::npos;
}

/// What is wanted of a value that is not there; empty where it is.
std::string wanted(Value kind, const std::string& text) {
  switch (kind) {
    case Value::kNone:
      return text.empty() ? "" : "no value";
    case Value::kText:
      return text.empty() ? "a file or folder" : "";
    case Value::kName:
      return is_name(text) ? "" : "a name";
    case Value::kShare:
      return is_share(text) ? "" : "a number from 0 to 1";
    case Value::kCount:
      return is_count(text) ? "" : "a whole number from 1 on";
  }
  throw Bug("a kind of option value without a rule");
}

Given parse(const Words& words) {
  Given given;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const SeedOption* option = find_option(name_of(words[i]));
    if (!option)
      throw UserError(words[i] +
                      " is no option of the original SentinelNN; a subcommand must come first, "
                      "before its options (sentinelnn --help)");
    const std::size_t equals = words[i].find('=');
    std::string value = equals == std::string::npos ? "" : words[i].substr(equals + 1);
    const bool bare = equals == std::string::npos && option->value != Value::kNone;
    if (bare && i + 1 < words.size() && !find_option(name_of(words[i + 1]))) value = words[++i];
    const std::string lack = wanted(option->value, value);
    if (!lack.empty())
      throw UserError(fmt::format("{} wants {}{}", option->name, lack,
                                  value.empty() ? "" : ", not '" + value + "'"));
    if (!given.emplace(option->name, value).second)
      throw UserError(option->name + " is given twice");
  }
  return given;
}

void check_partners(const Given& given) {
  for (const auto& [name, value] : given) {
    const SeedOption& option = *find_option(name);
    const auto missing = std::find_if(option.partners.begin(), option.partners.end(),
                                      [&](const std::string& p) { return !has(given, p); });
    if (option.value == Value::kNone && missing != option.partners.end())
      throw UserError(name + " needs " + *missing + " too");
    const bool alone = std::none_of(option.partners.begin(), option.partners.end(),
                                    [&](const std::string& p) { return has(given, p); });
    if (option.value != Value::kNone && !option.partners.empty() && alone)
      throw UserError(
          fmt::format("{} is given without {}", name, fmt::join(option.partners, " or ")));
  }
}

void check(const Given& given) {
  if (!has(given, "--dataset")) throw UserError("--dataset is missing");
  for (const auto& [first, second, why] : kContradictions)
    if (has(given, first) && has(given, second))
      throw UserError(fmt::format("{} and {} contradict each other: {}", first, second, why));
  check_partners(given);
  if (!has(given, "--checkpoint") && !has(given, "--is-pruned") && !has(given, "--is-hardened"))
    throw UserError("--checkpoint FILE is missing: the trained network (none is downloaded here)");
}

/// A network on disk and what the seed tool's own files do not say of themselves.
struct Network {
  std::string file;
  Words reading;
  std::string stem() const { return std::filesystem::path(file).stem().string(); }
};

void append(Words& words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
}

/// The options among `names` that are given, as words.
Words passed(const Given& given, const Words& names) {
  Words words;
  for (const std::string& name : names)
    if (has(given, name)) append(words, {name, given.at(name)});
  return words;
}

Network network_of(const Given& given) {
  if (has(given, "--is-hardened"))
    return {given.at("--hardened-checkpoint"),
            passed(given, {"--pruning-ratio", "--hardening-ratio", "--clipping"})};
  if (has(given, "--is-pruned"))
    return {given.at("--pruned-checkpoint"), passed(given, {"--pruning-ratio"})};
  return {given.at("--checkpoint"), {}};
}

/// Writes the steps one after the other; each works on the network that the last one made.
class Translator {
 public:
  explicit Translator(const Given& given) : given_(given), network_(network_of(given)) {
    // A network may say itself what it is: a TorchScript file, a checkpoint with a record.
    const std::string model = has(given, "--model") ? given.at("--model") : name_of_network();
    result_.folder = model + "-" + given.at("--dataset");
    result_.log = fmt::format("{}/log-{}-{}.txt", result_.folder, mode(), result_.folder);
  }

  SeedCommand translate() {
    notes();
    if (has(given_, "--is-ranking")) rank();
    if (has(given_, "--is-pruning")) prune();
    if (has(given_, "--is-hardening")) harden();
    if (has(given_, "--is-FI")) inject();
    if (has(given_, "--is-performance")) measure("profile", batch_size());
    if (result_.steps.empty()) measure("evaluate", batch_size());
    return std::move(result_);
  }

 private:
  /// Of the network that everything here is made of, where no --model says it.
  std::string name_of_network() const {
    const Network first{has(given_, "--checkpoint") ? given_.at("--checkpoint") : network_.file,
                        {}};
    if (!is_name(first.stem()) || first.stem()[0] == '-')
      throw UserError(first.file + " has no name for a folder; give --model");
    return first.stem();
  }

  /// As the seed tool names its logs.
  std::string mode() const {
    std::string mode = "test";
    for (const auto& [flag, part] : {std::pair{"--is-ranking", "_channel_ranking"},
                                     {"--is-pruning", "_pruning"},
                                     {"--is-hardening", "_hardening"},
                                     {"--is-FI", "_FI"},
                                     {"--is-performance", "_performance"}})
      if (has(given_, flag)) mode += part;
    return mode;
  }

  void notes() {
    const auto importance = given_.find("--importance");
    if (importance != given_.end() && importance->second == "l1-norm")
      result_.notes.push_back(
          "the original's l1-norm is the L2 norm, so this is l2-norm (for the L1 norm, run the "
          "line below with l1-norm)");
    const bool made_of_pruned = has(given_, "--is-ranking") || has(given_, "--is-hardening");
    if (has(given_, "--is-pruned") && has(given_, "--pruning-ratio") && made_of_pruned)
      result_.notes.push_back("--pruning-ratio is not needed: widths are read from the file");
    if (has(given_, "--is-pruned") && has(given_, "--is-hardened"))
      result_.notes.push_back(
          "--pruned-checkpoint is not read: the hardened file holds everything");
    if (has(given_, "--is-FI"))
      result_.notes.push_back(
          "all test images are evaluated, not the first batch, and what is not finite counts as "
          "DUE");
  }

  Words batch_size(const std::string& option = "--batch-size") const {
    if (!has(given_, "--batch-size")) return {};
    return {option, given_.at("--batch-size")};
  }

  std::string importance() const {
    const std::string& name = given_.at("--importance");
    return name == "l1-norm" ? "l2-norm" : name;
  }

  Words ranking() const {
    Words words = {"--importance", importance()};
    // The seed tool keeps the factors in its folder and reuses them.
    if (importance() == "deepvigor") append(words, {"--workspace", result_.folder});
    return words;
  }

  /// A file in the folder, named after what it holds.
  std::string output(const std::string& what, const std::string& extension) const {
    const std::string of = has(given_, "--is-pruned") ? "_of_" + network_.stem() : "";
    return result_.folder + "/" + what + of + extension;
  }

  /// A step on the network as it now is.
  void step(const std::string& subcommand, const Words& options) {
    Words words = {subcommand};
    append(words, passed(given_, {"--model", "--dataset", "--data", "--mean", "--std"}));
    append(words, {"--checkpoint", network_.file});
    append(words, options);
    result_.steps.push_back(std::move(words));
  }

  /// A step that looks at the network; such subcommands check what is said of it.
  void measure(const std::string& subcommand, const Words& options) {
    Words words = network_.reading;
    append(words, options);
    step(subcommand, words);
  }

  /// A step that makes a network, which is then evaluated.
  void make(const std::string& subcommand, Words options, const std::string& file) {
    append(options, {"--output", file});
    step(subcommand, options);
    network_ = {file, {}};
    measure("evaluate", batch_size());
  }

  void rank() {
    Words options = ranking();
    append(options, {"--output", output("ranking_" + importance(), ".h5")});
    step("rank", options);
  }

  void prune() {
    Words options = ranking();
    const std::string& ratio = given_.at("--pruning-ratio");
    append(options, {"--pruning-ratio", ratio, "--group-score", "first", "--select", "test"});
    append(options, batch_size("--finetune-batch-size"));
    make("prune", options, output(named("pruned", ratio), ".pth"));
  }

  void harden() {
    Words options = ranking();
    const std::string& ratio = given_.at("--hardening-ratio");
    append(options, {"--hardening-ratio", ratio, "--clipping", given_.at("--clipping")});
    append(options, {"--selection", "group", "--correction", "min", "--group-score", "first"});
    make("harden", options, output(named("hardened", ratio), ".pth"));
  }

  void inject() {
    const std::string& ber = given_.at("--BER");
    const std::string& repeat = given_.at("--repeat");
    Words options = {"--ber", ber, "--repeat", repeat, "--fault-count", "per-layer-floor"};
    append(options, batch_size());
    append(options, {"--output", fmt::format("{}/FI_{}_BER{}_repeat{}.h5", result_.folder,
                                             network_.stem(), plain(ber), repeat)});
    measure("inject", options);
  }

  /// One spelling of a number, so that 5e-6 and 0.000005 name the same file.
  static std::string plain(const std::string& share) {
    return fmt::format("{:g}", std::strtod(share.c_str(), nullptr));
  }

  std::string named(const std::string& what, const std::string& ratio) const {
    return fmt::format("{}_{}_{}", what, importance(), plain(ratio));
  }

  const Given& given_;
  Network network_;
  SeedCommand result_;
};

}  // namespace

bool is_seed_command(const Words& words) {
  const auto asks_for_help = [](const std::string& word) {
    return word == "--help" || word == "-h";
  };
  return !words.empty() && find_option(name_of(words.front())) &&
         std::none_of(words.begin(), words.end(), asks_for_help);
}

SeedCommand translate_seed_command(const Words& words) {
  const Given given = parse(words);
  check(given);
  return Translator(given).translate();
}

}  // namespace sentinel
