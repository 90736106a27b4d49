#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "app/command.hpp"
#include "app/output.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
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
  return last == "bound" || last == "range_low" || last == "range_high" || last == "weight_low" ||
         last == "weight_high";
}

/// NaN and Inf, which no trained network has.
void print_not_finite(const StateDict& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.is_floating_point() || is_limit(name)) continue;
    const auto count = at::isfinite(tensor).logical_not().sum().item<std::int64_t>();
    if (count > 0) fmt::print("{}: {} of {} values are NaN or Inf\n", name, count, tensor.numel());
  }
}

void print_checkpoint(const Bytes& bytes, const std::string& path) {
  const bool script = is_script_archive(bytes);
  const CheckpointFile file =
      script ? CheckpointFile{script_tensors(bytes, path), {}} : parse_pth(bytes, path);
  std::vector<std::vector<std::string>> rows = {{"tensor", "type", "shape"}};
  for (const auto& [name, tensor] : file.tensors)
    rows.push_back({name, at::toString(tensor.scalar_type()),
                    fmt::format("[{}]", fmt::join(tensor.sizes(), ", "))});
  print_table(rows);
  print_not_finite(file.tensors);
  if (file.metadata) fmt::print("\nsentinelnn.json\n{}\n", *file.metadata);
  if (script) fmt::print("\nTorchScript: give it as --model\n");
  fmt::print("\nimages normalised by: {}\n", normalisation_in(bytes, path));
  const std::vector<std::string> names = matching_models(file.tensors);
  fmt::print("\nfits: {}\n", names.empty() ? "no architecture known here"
                                           : fmt::format("{}", fmt::join(names, ", ")));
}

class Inspect : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand("inspect", "What is in a .pth, TorchScript or .h5 file");
    app->add_option("file", path_, "Network, ranking or result");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (path_.empty()) throw UserError("which file? sentinelnn inspect model.pth");
      if (!std::filesystem::is_regular_file(path_) || !is_hdf5(path_))
        print_checkpoint(read_file(path_), path_);
      else
        for (const std::string& line : describe_hdf5(path_)) fmt::print("{}\n", line);
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
