#include "sentinel/campaign/race.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>

#include "sentinel/campaign/campaign.hpp"
#include "sentinel/store/result_file.hpp"

namespace sentinel {
namespace {

/// What other ranks must know of rank 0's race.
struct Look {
  bool ended = false, decided = false;
  std::uint64_t winner = 0;
  TrialRange next;
  std::vector<std::uint64_t> remaining;
};

Look shared_look(const Comm& comm, const Race& race) {
  const Bytes bytes = comm.from_root([&] {
    ByteWriter writer;
    writer.write(race.ended());
    writer.write(race.decided());
    writer.write<std::uint64_t>(race.winner());
    writer.write<std::uint64_t>(race.trials());
    writer.write<std::uint64_t>(race.round_end());
    writer.vector(std::vector<std::uint64_t>(race.remaining().begin(), race.remaining().end()));
    return writer.take();
  });
  ByteReader reader(bytes, "look at a race");
  Look look;
  look.ended = reader.read<bool>();
  look.decided = reader.read<bool>();
  look.winner = reader.read<std::uint64_t>();
  look.next.begin = reader.read<std::uint64_t>();
  look.next.end = reader.read<std::uint64_t>();
  look.remaining = read_vector<std::uint64_t>(reader);
  return look;
}

std::string listed(const std::vector<std::size_t>& which, const std::vector<std::string>& names) {
  std::vector<std::string> words;
  for (const std::size_t i : which) words.push_back(names.at(i));
  return fmt::format("{}", fmt::join(words, ", "));
}

void log_round(const RaceRound& round, const std::vector<std::string>& names) {
  spdlog::info("round {} of the race, {} trials, {} recipes: {}", round.number,
               round.trials.end - round.trials.begin, round.remaining.size(),
               listed(round.remaining, names));
}

void log_look(const Race& race, const std::vector<Leaving>& leaving,
              const std::vector<std::string>& names) {
  for (const Leaving& own : leaving)
    spdlog::info("{} leaves: {:.2f} points [{:.2f}, {:.2f}] against {}, at {:.4g} %",
                 names.at(own.candidate), 100 * own.difference.estimate, 100 * own.difference.lower,
                 100 * own.difference.upper, names.at(own.leader), 100 * own.difference.confidence);
  if (race.ended())
    spdlog::info("the race ends after {} trials with {}; {} is chosen", race.trials(),
                 listed(race.remaining(), names), names.at(race.winner()));
}

/// Takes the trials of a round's result into the race: those that leave by them.
std::vector<Leaving> take_round(const std::string& path, const TrialRange& trials, Race& race,
                                std::vector<Raced>& raced) {
  ResultFile result = read_result(path);
  const std::vector<std::size_t> remaining = race.remaining();
  for (std::size_t i = 0; i < remaining.size(); ++i) {
    const ModelInfo& model = result.info.models.at(i + 1);
    raced[remaining[i]].fault_free =
        static_cast<double>(model.correct) / static_cast<double>(model.images);
  }
  std::sort(result.trials.begin(), result.trials.end(), [](const TrialRow& a, const TrialRow& b) {
    return std::tie(a.id, a.model) < std::tie(b.id, b.model);
  });
  std::vector<double> values;
  for (const TrialRow& row : result.trials) {
    // The original is no candidate; a result may hold other trials too.
    if (row.model == 0 || row.id < trials.begin || row.id >= trials.end) continue;
    values.push_back(static_cast<double>(row.correct) / row.images);
    if (values.size() < remaining.size()) continue;
    race.add(values);
    values.clear();
  }
  return race.end_round();
}

}  // namespace

RaceReport run_race(const Comm& comm, const RaceOptions& options,
                    const std::vector<std::string>& names, const RoundJob& job_of) {
  Race race(options);  // of rank 0
  RaceReport report;
  report.raced.resize(options.costs.size());
  Look look = shared_look(comm, race);
  for (RaceRound round; !look.ended; ++round.number) {
    round.trials = look.next;
    round.remaining.assign(look.remaining.begin(), look.remaining.end());
    Job job;
    comm.agree([&] { job = job_of(round); });
    if (comm.rank() == 0) log_round(round, names);
    report.code = run_campaign(comm, job);
    if (report.code != ExitCode::kDone) return report;
    comm.from_root([&] {
      log_look(race, take_round(job.output, round.trials, race, report.raced), names);
      return Bytes();
    });
    look = shared_look(comm, race);
  }
  report.winner = look.winner;
  report.decided = look.decided;
  for (std::size_t i = 0; i < report.raced.size(); ++i) {
    Raced& raced = report.raced[i];
    raced.accuracy = race.observed(i).mean();
    raced.trials = race.observed(i).n();
    raced.remains =
        std::find(look.remaining.begin(), look.remaining.end(), i) != look.remaining.end();
  }
  return report;
}

}  // namespace sentinel
