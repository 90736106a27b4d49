#include "sentinel/campaign/protecting.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "campaign/ftclip.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/networks/hardening.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/transform/train_bounds.hpp"

namespace sentinel {
namespace {

constexpr char kTrialsFolder[] = ", the folder for the trials of ftclip, ";

/// Before calibration, which may be long. Nothing is made: the network may be there already.
void check_folder(const Comm& comm, const std::string& folder) {
  comm.from_root([&] {
    std::error_code error;
    const std::filesystem::file_status there = std::filesystem::status(folder, error);
    if (there.type() == std::filesystem::file_type::not_found) return Bytes();
    if (there.type() == std::filesystem::file_type::none)
      throw EnvironmentError(folder + kTrialsFolder + "cannot be looked at: " + error.message());
    if (there.type() != std::filesystem::file_type::directory)
      throw UserError(folder + kTrialsFolder +
                      "is no folder; remove what is there, or give another output");
    if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0)
      throw EnvironmentError(folder + kTrialsFolder + "cannot be used: " + std::strerror(errno) +
                             "; give another output");
    return Bytes();
  });
}

void make_folder(const Comm& comm, const std::string& folder) {
  comm.from_root([&] {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error)
      throw EnvironmentError(folder + kTrialsFolder + "cannot be made: " + error.message());
    return Bytes();
  });
}

void log_epoch(const std::string& method, const BoundEpoch& epoch) {
  spdlog::info("{}, {}epoch {}: loss {:.4f}, {:.2f} % of the held-out images right{}", method,
               epoch.site.empty() ? "" : epoch.site + ", ", epoch.epoch, epoch.loss,
               100 * epoch.accuracy, epoch.kept ? "" : ", rolled back");
}

void train(Graph& graph, const Dataset& calibration, const ProtectionJob& job,
           const std::string& state_file, at::Device device) {
  const BoundSearch& search = job.hardening.search;
  const std::string method = bound_search_name(search);
  const TrainedBounds trained =
      train_bounds(graph, calibration, {search, device, state_file, job.fresh},
                   [&](const BoundEpoch& epoch) { log_epoch(method, epoch); });
  if (!trained.ended) throw_stopped(state_file);
  if (const auto& none = trained.none_kept)
    spdlog::warn(
        "{} kept no epoch: every bound is as max found it; of the held-out images {:.2f} % are "
        "right with these bounds, {:.2f} % without bounds",
        method, 100 * none->with_bounds, 100 * none->without_bounds);
}

}  // namespace

NamedModel make_protected(const Comm& comm, const NamedModel& model,
                          const ModelSelection& selection, const ChannelScores& scores,
                          const ProtectionJob& job, at::Device device, const std::string& path,
                          const std::string& reuse) {
  FindBounds find;
  const std::string folder = path + ".bounds";
  if (job.hardening.search.method == BoundMethod::kFtclip) {
    check_folder(comm, folder);
    find = [&](Graph& graph, const Dataset& calibration) {
      make_folder(comm, folder);
      search_by_trials(comm, graph, model, job, calibration, folder, device);
    };
  }
  if (trains_bounds(job.hardening.search))
    find = [&](Graph& graph, const Dataset& calibration) {
      comm.from_root([&] {
        train(graph, calibration, job, state_beside(path), device);
        return Bytes();
      });
    };
  return make_hardened(comm, model, selection, scores, job.hardening, job.calibration_images,
                       device, job.command, reuse, find);
}

}  // namespace sentinel
