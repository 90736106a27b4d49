#pragma once
#include <functional>
#include <string>
#include <vector>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/graph.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel {

/// A network of a campaign.
struct NamedModel {
  std::string name;  // "unprotected", "pruned", "hardened", "bounded", "pruned+hardened", a
                     // name of --also, or the stem of a file where nothing better is known
  Graph graph;
  std::string sha256;       // of the network alone: structure and tensors, not who made it or how
  std::string file_sha256;  // of the checkpoint file, as sha256sum prints
  std::string recipe = {};  // of a pruned or hardened model made here, in words
  Bytes made = {};          // bytes of its checkpoint file; empty where it was read
  std::string file = {};    // that it was read from; empty where it was made here
  FileNotes notes = {};     // of the file that it was read from
};

/// For messages: its file, or "network 'hardened'".
std::string source_of(const NamedModel& model);
/// For headings: "resnet20", "resnet20 (pruned)"; a network of no architecture of ours by its file.
std::string title_of(const NamedModel& model);

/// Where a training keeps its state until the output is there.
inline std::string state_beside(const std::string& output) {
  return output + ".training";
}
/// Throws what ends a program that was stopped during training: stop_code(), saying how to go on.
[[noreturn]] void throw_stopped(const std::string& state_file);
/// Runs `body` on rank 0; its exit code on every rank. Collective.
ExitCode code_of_root(const Comm& comm, const std::function<ExitCode()>& body);

/// Before long work: DataError where the network fails without any fault on random images, or on
/// the first of `images` (`what`: "test images"). Trials look at all theirs. Collective.
void require_fault_free(const Comm& comm, const NamedModel& model);
void require_fault_free(const Comm& comm, const NamedModel& model, const Dataset& images,
                        const std::string& what);

/// Reads the checkpoint once on rank 0 and builds the same graph on every rank; of a checkpoint of
/// the seed tool also the bounds, from all training images, where the selection says which.
/// Collective; throws SharedError.
NamedModel load_model(const Comm& comm, const ModelSelection& selection);

/// Reads one split once on rank 0; the first `images` of it (-1: all) on every rank. `fallback`:
/// the data set where the selection names none (the checkpoint's). Collective; throws SharedError.
Dataset load_dataset(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     Split split, std::int64_t images);

/// The training images that a ranking looks at: those it names, or as many of `usual` as there are.
/// Collective; throws SharedError.
Dataset ranking_images(const Comm& comm, const ModelSelection& selection,
                       const std::string& fallback, const RankingJob& job, std::int64_t usual);

/// The method of the job's ranking file, or else its importance method. Collective.
std::string method_of(const Comm& comm, const RankingJob& job);

/// The scores that the job's ranking file or importance method gives; reads the training images
/// where the method wants some. Collective.
ChannelScores channel_scores(const Comm& comm, const NamedModel& model,
                             const ModelSelection& selection, const RankingJob& job,
                             at::Device device);

/// Hardens by the scores; every rank gets rank 0's result bit for bit. Reads the calibration
/// images. Collective.
/// A model that `reuse` holds already, made by the same recipe, is read instead: a resumed campaign
/// must not calibrate again, as other processors give other last bits. Empty: nothing to reuse.
NamedModel make_hardened(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                         const ChannelScores& scores, const ProtectionJob& protection,
                         at::Device device, const std::string& command, const std::string& reuse);

/// Prunes by the scores and fine-tunes on rank 0, the other ranks wait; every rank gets rank 0's
/// result bit for bit. Reads the training images (and, to select by them, the test images) if there
/// is something to fine-tune. `reuse` as of make_hardened. Fine-tuning keeps `state_file` (empty:
/// none) after each epoch; where a stop was asked for, every rank throws a SharedError with
/// stop_code(), and the same call later goes on after the last whole epoch. `report` hears of each
/// epoch on rank 0; without it, the log does. Collective.
NamedModel make_pruned(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                       const ChannelScores& scores, const PruningJob& job, at::Device device,
                       const std::string& command, const std::string& state_file,
                       const std::string& reuse, const OnEpoch& report = {});

/// The device of this rank: one GPU per local rank where there are GPUs and they are wanted.
/// EnvironmentError where
/// --device cuda cannot be had or ranks outnumber GPUs (unless shared). Also sets the CPU threads
/// of the caller.
at::Device choose_device(const Comm& comm, const Compute& compute);

}  // namespace sentinel
