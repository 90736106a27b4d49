#include "sentinel/io/dataset.hpp"

#include <algorithm>
#include <cstring>

#include "cifar.hpp"
#include "imagenet.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/core/word_table.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kSyntheticSeed = 1;

/// Every known data set. Constants of CIFAR and ImageNet are the usual ones; the synthetic set's
/// were measured on its training images and rounded.
const std::array<DatasetInfo, 4>& dataset_table() {
  static const std::array<DatasetInfo, 4> table{{
      {"cifar10",
       10,
       {3, 32, 32},
       {0.49139968, 0.48215827, 0.44653124},
       {0.24703233, 0.24348505, 0.26158768}},
      {"cifar100",
       100,
       {3, 32, 32},
       {0.5070751592371323, 0.48654887331495095, 0.4409178433670343},
       {0.2673342858792401, 0.2564384629170883, 0.27615047132568404}},
      {"imagenet", 1000, {3, 224, 224}, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
      {"synthetic", 10, {3, 32, 32}, {0.5, 0.5, 0.5}, {0.186, 0.186, 0.186}},
  }};
  return table;
}

std::int64_t image_bytes(const DatasetInfo& info) {
  return info.shape[0] * info.shape[1] * info.shape[2];
}

/// What each byte becomes in each channel: the same three roundings as PyTorch's float32
/// (x / 255 - mean) / std, done once per value instead of once per pixel.
std::vector<float> normalisation_table(const Normalisation& by) {
  std::vector<float> table;
  for (std::size_t c = 0; c < 3; ++c)
    for (int value = 0; value < 256; ++value)
      table.push_back((static_cast<float>(value) / 255.0f - static_cast<float>(by.mean[c])) /
                      static_cast<float>(by.std[c]));
  return table;
}

}  // namespace

const DatasetInfo& dataset_info(const std::string& name) {
  std::vector<std::string> known;
  for (const DatasetInfo& info : dataset_table()) {
    if (info.name == name) return info;
    known.push_back(info.name);
  }
  throw UserError(unknown_word(spelled(Setting::kDataset), name, known));
}

std::vector<std::string> dataset_names() {
  std::vector<std::string> names;
  for (const DatasetInfo& info : dataset_table()) names.push_back(info.name);
  return names;
}

Dataset::Dataset(DatasetInfo info, std::vector<std::uint8_t> pixels,
                 std::vector<std::int64_t> labels)
    : info_(std::move(info)), pixels_(std::move(pixels)), labels_(std::move(labels)) {
  if (info_.shape[0] != 3) throw Bug("a data set of other than three channels");
  if (pixels_.size() != labels_.size() * static_cast<std::size_t>(image_bytes(info_)))
    throw Bug("a data set has " + std::to_string(labels_.size()) + " labels, but " +
              std::to_string(pixels_.size()) + " bytes of pixels");
}

Batch Dataset::batch(std::int64_t begin, std::int64_t end,
                     const std::optional<Normalisation>& own) const {
  if (begin < 0 || begin > end || end > size()) throw Bug("a batch beyond the data set's images");
  std::vector<std::int64_t> indices;
  for (std::int64_t i = begin; i < end; ++i) indices.push_back(i);
  return batch(indices, own);
}

Batch Dataset::batch(const std::vector<std::int64_t>& indices,
                     const std::optional<Normalisation>& own) const {
  const auto count = static_cast<std::int64_t>(indices.size());
  const std::vector<float> table = normalisation_table(own.value_or(info_.normalisation()));
  const std::int64_t plane = info_.shape[1] * info_.shape[2];
  Batch batch{at::empty({count, info_.shape[0], info_.shape[1], info_.shape[2]}, at::kFloat),
              at::empty({count}, at::kLong)};
  auto* out = batch.images.data_ptr<float>();
  auto* labels = batch.labels.data_ptr<std::int64_t>();
  for (const std::int64_t index : indices) {
    if (index < 0 || index >= size())
      throw Bug("image " + std::to_string(index) + " of " + std::to_string(size()));
    *labels++ = labels_[static_cast<std::size_t>(index)];
    const std::uint8_t* in = pixels_.data() + index * image_bytes(info_);
    for (std::size_t c = 0; c < 3; ++c)
      for (std::int64_t i = 0; i < plane; ++i) *out++ = table[c * 256 + *in++];
  }
  return batch;
}

Dataset Dataset::first(std::int64_t n) const {
  return part(0, n < 0 ? size() : std::min(n, size()));
}

Dataset Dataset::part(std::int64_t begin, std::int64_t end) const {
  const std::int64_t bytes = image_bytes(info_);
  return Dataset(info_, {pixels_.begin() + begin * bytes, pixels_.begin() + end * bytes},
                 {labels_.begin() + begin, labels_.begin() + end});
}

std::string Dataset::hash() const {
  Sha256 hash;
  hash.update(pixels_.data(), pixels_.size());
  hash.update(labels_.data(), labels_.size() * sizeof(std::int64_t));
  return hash.hex();
}

Bytes Dataset::serialize() const {
  ByteWriter out;
  out.write<std::uint64_t>(info_.name.size());
  out.text(info_.name);
  out.write(info_.classes);
  out.write(info_.shape);
  out.write(info_.mean);
  out.write(info_.std);
  out.vector(pixels_);
  out.vector(labels_);
  return out.take();
}

Dataset Dataset::deserialize(const Bytes& bytes) {
  ByteReader in(bytes, "broadcast data set");
  DatasetInfo info;
  info.name = in.text(in.read<std::uint64_t>());
  info.classes = in.read<std::int64_t>();
  info.shape = in.read<std::array<std::int64_t, 3>>();
  info.mean = in.read<std::array<double, 3>>();
  info.std = in.read<std::array<double, 3>>();
  auto pixels = read_vector<std::uint8_t>(in);
  auto labels = read_vector<std::int64_t>(in);
  return Dataset(std::move(info), std::move(pixels), std::move(labels));
}

Dataset read_dataset(const std::string& name, const std::string& folder, Split split,
                     const ImageRequest& request) {
  const DatasetInfo& info = dataset_info(name);
  if (name == "synthetic" && folder.empty()) {
    const std::int64_t count = split == Split::kTrain ? kSyntheticTrain : kSyntheticTest;
    return synthetic_dataset(split, count, kSyntheticSeed).first(request.images);
  }
  if (folder.empty())
    throw UserError("the data set " + name + " needs its folder; give " + spelled(Setting::kData));
  if (name == "imagenet") return load_images(info, imagenet_files(info, folder, split), request);
  return read_cifar(info, folder, split).first(request.images);
}

}  // namespace sentinel
