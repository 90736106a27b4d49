#pragma once
#include <string>
#include <vector>

#include "sentinel/io/dataset.hpp"
#include "sentinel/transform/train_options.hpp"

namespace sentinel {

/// A tensor that training changes.
struct LiveTensor {
  std::string name;
  at::Tensor* tensor;
};
using LiveTensors = std::vector<LiveTensor>;

/// Where a training stands between two epochs, beside its tensors.
struct TrainProgress {
  std::int64_t best_correct = -1;    // right answers of the best epoch so far
  std::vector<EpochReport> reports;  // of the epochs done
};

/// SHA-256 of everything that decides what a training gives: options, images, the network as it is.
std::string training_fingerprint(const Graph& graph, const Layouts& layouts, const Dataset& images,
                                 const Dataset& held_out, const TrainOptions& options);

/// The file from which a stopped training goes on: a .pth of its tensors with the progress as
/// metadata. Nothing happens where the path is empty.
class TrainStateFile {
 public:
  TrainStateFile(std::string path, std::string fingerprint)
      : path_(std::move(path)), fingerprint_(std::move(fingerprint)) {}

  /// Copies what the file holds into the tensors; where there is no file, leaves them and gives no
  /// progress. UserError for the state of another training, DataError for a damaged file.
  TrainProgress load(const LiveTensors& tensors) const;
  /// Replaces the file as a whole. EnvironmentError where it cannot be written.
  void save(const LiveTensors& tensors, const TrainProgress& progress) const;
  void remove() const;

 private:
  TrainProgress read(const LiveTensors& tensors) const;

  std::string path_, fingerprint_;
};

}  // namespace sentinel
