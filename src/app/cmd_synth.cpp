#include <fmt/format.h>

#include "app/command.hpp"
#include "app/options.hpp"
#include "app/print.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {
namespace {

class Synth : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "synth", "Write the built-in synthetic images in CIFAR-10's binary format");
    app->add_option("--output", folder_, "Folder, made if absent");
    app->add_option("--train", train_, "Training images")->capture_default_str();
    app->add_option("--test", test_, "Test images")->capture_default_str();
    add_whole(*app, "--seed", seed_, "Seed of the images");
    return app;
  }

  ExitCode run(const Context& context) override {
    context.comm.from_root([&] {
      if (folder_.empty()) throw UserError("--output FOLDER is missing");
      if (train_ < 1 || test_ < 1) throw UserError("--train and --test must be at least 1");
      write_cifar_binary(folder_, synthetic_dataset(Split::kTrain, train_, seed_),
                         synthetic_dataset(Split::kTest, test_, seed_));
      say("{} training and {} test images in {}\n", train_, test_, folder_);
      return Bytes();
    });
    return ExitCode::kDone;
  }

 private:
  std::string folder_;
  std::int64_t train_ = kSyntheticTrain, test_ = kSyntheticTest;
  std::uint64_t seed_ = 1;
};

}  // namespace

std::unique_ptr<Command> make_synth() {
  return std::make_unique<Synth>();
}

}  // namespace sentinel
