#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "app/command.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/profile.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/io/script_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

bool is_hdf5(const std::string& path) {
  static constexpr std::string_view magic = "\x89HDF\r\n\x1a\n";
  std::string begin(magic.size(), '\0');
  std::ifstream(path, std::ios::binary)
      .read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == magic;
}

std::string normalisation_in(const Bytes& bytes, const std::string& path) {
  try {
    const auto recorded = recorded_normalisation(bytes, path);
    if (recorded) return in_words(*recorded);
  } catch (const DataError& damaged) {
    return std::string("not known, ") + damaged.what();
  }
  return "the file does not say; --mean and --std do, or else the data set's usual constants hold";
}

/// Limits may be infinite.
bool is_limit(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  return last == "bound" || last == "bound_low" || last == "range_low" || last == "range_high" ||
         last == "weight_low" || last == "weight_high";
}

/// NaN and Inf, which no trained network has.
void print_not_finite(const StateDict& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.is_floating_point() || is_limit(name)) continue;
    const auto count = at::isfinite(tensor).logical_not().sum().item<std::int64_t>();
    if (count > 0) say("{}: {} of {} values are NaN or Inf\n", name, count, tensor.numel());
  }
}

std::string fitting(const StateDict& tensors) {
  const std::vector<std::string> names = matching_models(tensors);
  return names.empty() ? "no architecture known here" : fmt::format("{}", fmt::join(names, ", "));
}

void print_tensors(const TensorDict& dict) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "type", "shape"}};
  for (const auto& [name, tensor] : dict.tensors)
    rows.push_back({name, type_name(tensor.scalar_type()),
                    fmt::format("[{}]", fmt::join(tensor.sizes(), ", "))});
  print_table(rows);
  print_not_finite(dict.tensors);
  if (!dict.others.empty())
    say("entries that are no tensors: {}\n", fmt::format("{}", fmt::join(dict.others, ", ")));
}

/// Which types the floats have, and in which the program computes.
void print_types(const TensorDict& dict) {
  std::map<std::string, std::size_t> floats;
  for (const auto& entry : dict.tensors)
    if (entry.second.is_floating_point() || entry.second.is_quantized())
      ++floats[type_name(entry.second.scalar_type())];
  std::string text;
  for (const auto& [type, count] : floats)
    text += fmt::format("{}{} ({} tensors)", text.empty() ? "" : ", ", type, count);
  say("\nfloats stored as: {}\n", text.empty() ? "none" : text);
  if (floats.count("fp64") > 0)
    say("computed with: fp32; fp64 is converted, and faults flip bits of the converted 32-bit "
        "words\n");
}

/// Where there are several, one row each and the tensors of the first.
void print_dictionaries(const std::vector<TensorDict>& dicts) {
  print_tensors(dicts.front());
  print_types(dicts.front());
  if (dicts.size() == 1 && dicts.front().key.empty()) return;
  std::vector<std::vector<std::string>> rows = {{"--weights-key", "tensors", "fits"}};
  for (const TensorDict& dict : dicts)
    rows.push_back({dict.key.empty() ? "(the outermost)" : dict.key,
                    std::to_string(dict.tensors.size()), fitting(dict.tensors)});
  say("\nThe file has {} of tensors; above are those of {}.\n",
      dicts.size() == 1 ? "one dictionary" : fmt::format("{} dictionaries", dicts.size()),
      rows[1][0]);
  print_table(rows);
}

/// A text of several lines under its name.
void print_part(const std::string& name, const std::string& lines) {
  say("\n{}\n", name);
  say_lines(lines + "\n");
}

void print_memory(const Graph& graph) {
  std::vector<std::vector<std::string>> rows = {
      {"class", "stored as", "tensors", "stored words", "bits"}};
  std::int64_t tensors = 0, words = 0, bits = 0;
  for (const StoredPart& part : stored_parts(graph)) {
    rows.push_back({class_name(part.kind), layout_name(part.layout), with_spaces(part.tensors),
                    with_spaces(part.words), with_spaces(part.bits)});
    tensors += part.tensors;
    words += part.words;
    bits += part.bits;
  }
  rows.push_back({"all", "", with_spaces(tensors), with_spaces(words), with_spaces(bits)});
  print_table(rows);
  say("bits per weight, check bits included: {:.2f}\n", model_cost(graph).bits_per_weight);
}

/// The memory of the network that the record describes.
void print_memory(const Bytes& bytes, const std::string& path) {
  say("\nstored in memory:\n");
  try {
    print_memory(parse_model(bytes, path, {}));
  } catch (const DataError& damaged) {
    say("not known, {}\n", damaged.what());
  } catch (const UserError& unknown) {
    say("not known, {}\n", unknown.what());
  }
}

void print_checkpoint(const Bytes& bytes, const std::string& path) {
  const bool script = is_script_archive(bytes);
  const ScriptContents network = script ? read_script(bytes, path) : ScriptContents();
  const WeightsFile file =
      script ? WeightsFile{{{"", network.tensors, {}}}, {}} : parse_weights(bytes, path);
  print_dictionaries(file.dicts);
  if (file.metadata) print_part("sentinelnn.json", *file.metadata);
  if (!file.remarks.empty()) print_part("__metadata__", file.remarks);
  if (script && network.refused.empty()) say("\nTorchScript: give it as --model\n");
  if (!network.refused.empty())
    say("\nTorchScript that cannot be given as --model: its code is refused: {}\n",
        network.refused);
  say("\nimages normalised by: {}\n", normalisation_in(bytes, path));
  if (file.metadata) print_memory(bytes, path);
  if (file.metadata)
    say("\nfits: the network that sentinelnn.json describes; no --model is needed\n");
  else if (!script)
    say("\nfits: {}\n", fitting(file.dicts.front().tensors));
}

class Inspect : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "inspect", "What is in a .pth, .safetensors, TorchScript or .h5 file");
    app->add_option("file", path_, "Network, ranking or result");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (path_.empty()) throw UserError("which file? sentinelnn inspect model.pth");
      if (!std::filesystem::is_regular_file(path_) || !is_hdf5(path_))
        print_checkpoint(read_file(path_), path_);
      else
        for (const std::string& line : describe_hdf5(path_)) say("{}\n", line);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  std::string path_;
};

}  // namespace

std::unique_ptr<Command> make_inspect() {
  return std::make_unique<Inspect>();
}

}  // namespace sentinel
