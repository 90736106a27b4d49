// Job files, and the jobs that results keep.
#include <CLI/CLI.hpp>

#include "app/command.hpp"
#include "app/stored_job.hpp"
#include "corrupt/target.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/campaign/validation.hpp"

namespace sentinel::test {
namespace {

/// The program's options. Made once, for they take longer than a job file.
class Program {
 public:
  Program() {
    root_.require_subcommand(1);
    for (auto make : {make_evaluate, make_profile, make_rank, make_prune, make_harden, make_inject,
                      make_campaign, make_plan, make_train, make_export, make_synth, make_summarize,
                      make_merge, make_replay, make_inspect, make_bench}) {
      commands_.push_back(make());
      apps_.push_back(commands_.back()->add_to(root_));
    }
  }

  bool read(const std::string& text) {
    root_.clear();
    if (!accepted([&] { apply_job_text("fuzz.toml", text, root_, command_of(text)); }))
      return false;
    const std::string table = text.substr(0, text.find('\n'));
    return (table != "[inject]" && table != "[campaign]") ||
           accepted([&] { validate(stored_job(comm_, "fuzz.h5", text, {})); });
  }

  /// Names of all options and subcommands.
  std::vector<std::string> words() const {
    std::vector<std::string> all;
    for (const CLI::App* app : apps_) {
      all.push_back("[" + app->get_name() + "]\n");
      for (const CLI::Option* option : app->get_options())
        for (const std::string& name : option->get_lnames()) all.push_back("\n" + name + " = ");
    }
    return all;
  }

 private:
  /// The subcommand whose table comes first.
  CLI::App& command_of(const std::string& text) const {
    CLI::App* first = apps_.front();
    std::size_t least = std::string::npos;
    for (CLI::App* app : apps_) {
      const std::size_t at = text.find("[" + app->get_name() + "]");
      if (at < least) {
        least = at;
        first = app;
      }
    }
    return *first;
  }

  CLI::App root_;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<CLI::App*> apps_;
  Comm comm_ = Comm::local();
};

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (const char* text :
       {"[inject]\ncheckpoint = \"a.pth\"\nber = [1e-7, 1e-6]\nrepeat = 100\nseed = 7\n"
        "output = \"r.h5\"\n",
        "[campaign]\nmodel = \"resnet20\"\ndataset = 'cifar10'\nhardening-ratio = 0.2\n"
        "importance = \"l1-norm\"\nsingle-bit = true\npruning-ratios = [\"conv1=0.5\"]\n",
        "[rank]\nimages = -1\nmean = [0.5, 0.5, 0.5]\nstd = \"imagenet\"\n",
        "[train]\nepochs = 3\nlr = 1e-1\naugment = false\n\n[inject]\nhalf-width = 0.003\n"
        "trial-range = \"0:10\"\noutput = '''a\nb'''\n",
        "[merge]\ninputs = [\"a.h5\", \"b.h5\"]\n",
        "[plan]\na.b.c = {d = 1979-05-27, e = [[1]]}\n"})
    all.push_back(to_bytes(text));
  return all;
}

std::vector<std::string> words(const Program& program) {
  std::vector<std::string> all = program.words();
  for (const char* word : {"true",
                           "false",
                           "\"\"",
                           "''",
                           "\"\"\"",
                           "'''",
                           "[",
                           "]",
                           "[[",
                           "{",
                           "}",
                           "{a=",
                           "a.",
                           "inf",
                           "nan",
                           "-1",
                           "18446744073709551615",
                           "1e400",
                           "0x",
                           "\\u0000",
                           "\\U0010ffff",
                           "exact:",
                           "binomial",
                           "stratified",
                           "cifar10",
                           "deepvigor",
                           "channel-fi",
                           "layer=0.5",
                           ",",
                           "\n#"})
    all.push_back(word);
  return all;
}

}  // namespace

Target job_target() {
  const auto program = std::make_shared<Program>();
  return {"job", seeds(), words(*program), [](Bytes&) {},
          [program](const Bytes& bytes) { return program->read(std::string(to_text(bytes))); }};
}

}  // namespace sentinel::test
