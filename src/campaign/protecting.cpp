#include "sentinel/campaign/protecting.hpp"

#include <spdlog/spdlog.h>

#include <filesystem>

#include "campaign/ftclip.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/networks/hardening.hpp"
#include "sentinel/networks/training_state.hpp"
#include "sentinel/transform/train_bounds.hpp"

namespace sentinel {
namespace {

/// Before calibration, which may be long.
void make_folder(const Comm& comm, const std::string& folder) {
  comm.from_root([&] {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (!std::filesystem::is_directory(folder, error))
      throw UserError(folder + ", the folder for the trials of ftclip, cannot be made" +
                      (error ? ": " + error.message() : ""));
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
  if (!train_bounds(graph, calibration, {search, device, state_file, job.fresh},
                    [&](const BoundEpoch& epoch) { log_epoch(method, epoch); }))
    throw_stopped(state_file);
}

}  // namespace

NamedModel make_protected(const Comm& comm, const NamedModel& model,
                          const ModelSelection& selection, const ChannelScores& scores,
                          const ProtectionJob& job, at::Device device, const std::string& path,
                          const std::string& reuse) {
  FindBounds find;
  const std::string folder = path + ".bounds";
  if (job.hardening.search.method == BoundMethod::kFtclip) {
    make_folder(comm, folder);
    find = [&](Graph& graph, const Dataset& calibration) {
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
