#pragma once
#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/normalisation.hpp"

namespace sentinel {

/// Normalised images and their labels.
struct Batch {
  at::Tensor images;  // [N, C, H, W] f32
  at::Tensor labels;  // [N] i64
};

enum class Split { kTrain, kTest };

/// What is known of a data set before reading it. One row of the table in dataset.cpp.
struct DatasetInfo {
  std::string name;  // "cifar10", "cifar100", "imagenet", "synthetic"
  std::int64_t classes = 10;
  std::array<std::int64_t, 3> shape{3, 32, 32};  // C, H, W
  std::array<double, 3> mean{}, std{};           // of pixels / 255, unless a network says other
  Normalisation normalisation() const { return {mean, std}; }
};

/// UserError listing the known names where there is no such data set.
const DatasetInfo& dataset_info(const std::string& name);
std::vector<std::string> dataset_names();

/// Images as stored: bytes and labels, in file order.
class Dataset {
 public:
  Dataset(DatasetInfo info, std::vector<std::uint8_t> pixels, std::vector<std::int64_t> labels);

  const DatasetInfo& info() const { return info_; }
  std::int64_t size() const { return static_cast<std::int64_t>(labels_.size()); }
  /// Images begin … end-1, normalised by the constants of a network or, where it has none of its
  /// own, the data set's.
  Batch batch(std::int64_t begin, std::int64_t end, const std::optional<Normalisation>& own) const;
  /// The images at these indices, in this order.
  Batch batch(const std::vector<std::int64_t>& indices,
              const std::optional<Normalisation>& own) const;
  /// The first n images (all where n < 0 or larger).
  Dataset first(std::int64_t n) const;
  /// Images begin ... end-1.
  Dataset part(std::int64_t begin, std::int64_t end) const;
  /// SHA-256 over the pixels and labels, for provenance and fingerprint.
  std::string hash() const;
  const std::vector<std::uint8_t>& pixels() const { return pixels_; }
  const std::vector<std::int64_t>& labels() const { return labels_; }

  /// For broadcasting; deserialize is the inverse.
  Bytes serialize() const;
  static Dataset deserialize(const Bytes& bytes);

 private:
  DatasetInfo info_;
  std::vector<std::uint8_t> pixels_;  // [N, C, H, W]
  std::vector<std::int64_t> labels_;  // [N]
};

/// Which images of a split are wanted, and how they are read.
struct ImageRequest {
  std::int64_t images = -1;  // the first n, -1: all
  int threads = 1;           // that decode images
  bool skip_broken = false;  // leave images out that cannot be decoded, with a warning
};

/// Reads one split of a data set from a folder: the images asked for, or as many of them as there
/// are. Throws DataError (file, offset) or UserError.
/// - CIFAR-10/100: the binary or the python-pickle release (the folder itself or the release's
///   subfolder in it, whichever is found). data_batch files of the training split are read in
///   order; a release with fewer images is accepted.
/// - "imagenet": train/ and val/ (the test split), there or in Kaggle's ILSVRC/Data/CLS-LOC/. Each
///   has a folder per class; or val/ has none, then LOC_val_solution.csv or
///   ILSVRC2012_val_labels.json (file name -> class or its number) says what its images are.
///   Names that are all whole numbers are class numbers. Other classes are numbered by
///   imagenet_class_index.json or LOC_synset_mapping.txt, or else as their names are sorted, of
///   which there must be 1000; the log says which. JPEG and PNG, resized to a shorter side of 256,
///   the middle 224 x 224 of it. Test images in the order of their file names, training images in a
///   fixed mixed order. Nothing is decoded but the images asked for; a broken one is a DataError,
///   or with skip_broken its place is taken by the next.
/// - "synthetic": CIFAR-10's binary format, or where `folder` is empty synthetic_dataset with
///   default sizes.
Dataset read_dataset(const std::string& name, const std::string& folder, Split split,
                     const ImageRequest& request = {});

/// The built-in synthetic set: ten classes of textured shapes on clutter with noise, 3x32x32, made
/// from (seed, split, index) alone, hard enough that a small ResNet trained on 5000 images lands
/// between 85 % and 98 %.
inline constexpr std::int64_t kSyntheticTrain = 5000, kSyntheticTest = 1000;
Dataset synthetic_dataset(Split split, std::int64_t count, std::uint64_t seed);

/// Writes data_batch_1…5.bin and test_batch.bin (CIFAR-10's binary format) into a folder, made if
/// absent, and their checksums as synth.sha256. Files that are there are replaced only where an
/// earlier call wrote them; UserError otherwise, or where `folder` is a file.
void write_cifar_binary(const std::string& folder, const Dataset& train, const Dataset& test);

}  // namespace sentinel
