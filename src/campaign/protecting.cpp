#include "sentinel/campaign/protecting.hpp"

#include <filesystem>

#include "campaign/ftclip.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/networks/hardening.hpp"

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
  return make_hardened(comm, model, selection, scores, job.hardening, job.calibration_images,
                       device, job.command, reuse, find);
}

}  // namespace sentinel
