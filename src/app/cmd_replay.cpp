#include <fmt/format.h>

#include "app/channel_tables.hpp"
#include "app/command.hpp"
#include "app/options.hpp"
#include "app/output.hpp"
#include "app/print.hpp"
#include "app/stored_job.hpp"
#include "sentinel/campaign/fault_lists.hpp"
#include "sentinel/campaign/replay.hpp"
#include "sentinel/networks/outputs.hpp"
#include "sentinel/results/listed_faults.hpp"

namespace sentinel {
namespace {

class Replay : public Command {
 public:
  CLI::App* add_to(CLI::App& parent) override {
    CLI::App* app = parent.add_subcommand(
        "replay", "Run trials of a result again and compare with what is stored");
    app->add_option("result", result_, "Result file (HDF5) of inject or campaign");
    app->add_option("--trials", trials_, "Ids and ranges of them, such as 3,17-20, or random:20");
    app->add_option("--point", point_, "Only of this point (all otherwise)");
    app->add_option("--faults", faults_,
                    "Also write the trials' faults, drawn again, as a list for `inject --faults` "
                    "(CSV, docs/fault_lists.md)");
    app->add_option("--network", network_,
                    "The list is of this network, by its name (otherwise of the first)");
    add_whole(*app, "--seed", seed_, "Seed of the choice of --trials random:N");
    app->add_option("--checkpoint", checkpoint_, "The network, where it is not where it was");
    app->add_option("--data", data_, "The data set's folder, where it is not where it was");
    add_word(
        *app, "--engine",
        [this](const std::string& word) { engine_ = parse_engine(Setting::kEngine, word); }, "",
        "fast or reference, other than the trials were run with");
    add_word(
        *app, "--device", [this](const std::string& word) { device_ = parse_device(word); }, "",
        "auto, cpu or cuda, other than the campaign's");
    app->add_option("--threads", threads_, "CPU threads per rank, other than the campaign's");
    return app;
  }

  ExitCode run(const Context& context) override {
    const Comm& comm = context.comm;
    ReplayJob replay;
    comm.agree([&] {
      replay.trials = choice();
      replay.engine = engine_;
      replay.keeps_records = !faults_.empty();
    });
    const Bytes table = comm.from_root([&] {
      check_outputs({{faults_, FileKind::kFaultList}}, {result_});
      return read_job_table();
    });
    comm.agree([&] {
      replay.result = result_;
      replay.job =
          stored_job(comm, result_, ByteReader(table, result_).text(table.size()), flags());
    });
    const ReplayReport report = run_replay(comm, replay);
    return code_of_root(comm, [&] {
      print(report);
      if (!faults_.empty()) write_list(report);
      return report.identical == report.trials ? ExitCode::kDone : ExitCode::kMismatch;
    });
  }

 private:
  TrialChoice choice() const {
    if (result_.empty())
      throw UserError("which result? sentinelnn replay result.h5 --trials random:20");
    if (trials_.empty())
      throw UserError("--trials is missing: the trials to run again, such as 3,17-20 or random:20");
    if (!network_.empty() && faults_.empty())
      throw UserError("--network chooses what --faults OUT.csv writes; give it too");
    if (threads_) check_threads(*threads_);
    TrialChoice choice = parse_trials(trials_);
    choice.seed = seed_;
    choice.point = point_;
    return choice;
  }

  Bytes read_job_table() const {
    const ResultFile outline = read_result_outline(result_);
    if (!faults_.empty()) listed_of(result_, outline.info, {point_, network_});
    if (holds_channels(outline))
      throw UserError(result_ +
                      " holds trials of channel-FI, which replay does not run; rank again with "
                      "another --channel-trials and compare the files");
    ByteWriter writer;
    writer.text(outline.info.job);
    return writer.take();
  }

  /// Options that win over those of the job.
  std::vector<std::string> flags() const {
    std::vector<std::string> flags;
    const auto add = [&](const char* name, const std::string& value) {
      if (!value.empty()) flags.push_back(std::string(name) + "=" + value);
    };
    add("--checkpoint", checkpoint_);
    add("--data", data_);
    add("--device", device_ ? device_name(*device_) : "");
    add("--threads", threads_ ? std::to_string(*threads_) : "");
    return flags;
  }

  void write_list(const ReplayReport& report) const {
    const ListedOf of = listed_of(result_, report.info, {point_, network_});
    std::vector<TrialRecord> records;
    for (const TrialRecord& record : report.records)
      if (record.row.point == of.point && record.row.model == of.model) records.push_back(record);
    write_fault_list(faults_, fault_list_text(result_, report.info, of, records));
  }

  static std::string outcome(const TrialRow& row) {
    return fmt::format("{}/{}/{}/{}/{}", row.correct, row.masked, row.sdc_noncritical,
                       row.sdc_critical, row.due);
  }

  void print(const ReplayReport& report) const {
    std::vector<std::vector<std::string>> rows = {
        {"point", "trial", "model", "faults", "stored", "replayed", "same?"}};
    for (const ReplayedRow& row : report.rows)
      rows.push_back({std::to_string(row.stored.point), std::to_string(row.stored.id),
                      report.models.at(row.stored.model), std::to_string(row.stored.n_faults),
                      outcome(row.stored), outcome(row.replayed),
                      row.differences.empty() ? "yes" : "NO"});
    print_table(rows);
    say("(images right/masked/SDC-non-critical/SDC-critical/DUE)\n");
    for (const ReplayedRow& row : report.rows)
      if (!row.differences.empty())
        say("point {}, trial {}, {}: {}\n", row.stored.point, row.stored.id,
            report.models.at(row.stored.model),
            fmt::format("{}", fmt::join(row.differences, ", ")));
    if (!report.note.empty()) say("{}\n", report.note);
    say("{} of {} trials identical\n", report.identical, report.trials);
  }

  std::string result_, trials_, checkpoint_, data_, faults_, network_;
  std::optional<EnginePath> engine_;
  std::optional<DeviceChoice> device_;
  std::optional<std::uint32_t> point_;
  std::optional<int> threads_;
  std::uint64_t seed_ = 1;
};

}  // namespace

std::unique_ptr<Command> make_replay() {
  return std::make_unique<Replay>();
}

}  // namespace sentinel
