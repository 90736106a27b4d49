#include "campaign/image_blocks.hpp"

#include <algorithm>

namespace sentinel {

ImageBlocks::ImageBlocks(std::int64_t images, std::int64_t size, std::uint64_t seed)
    : images_(images), size_(size > 0 && size < images ? size : images) {
  if (!divides()) return;
  order_ = Rng({seed, 0, 0, Purpose::kImageOrder}).permutation(images_);
  place_.resize(order_.size());
  for (std::size_t place = 0; place < order_.size(); ++place)
    place_[static_cast<std::size_t>(order_[place])] = static_cast<std::int64_t>(place);
}

std::int32_t ImageBlocks::block_of_trial(std::uint64_t seed, std::uint32_t point,
                                         std::uint64_t trial) const {
  if (!divides()) return -1;
  Rng rng({seed, point, trial, Purpose::kImageBlock});
  // The block that a uniform image lies in.
  const auto place = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(images_)));
  return static_cast<std::int32_t>(place / size_);
}

std::pair<std::int64_t, std::int64_t> ImageBlocks::places(std::int32_t block) const {
  if (block < 0) return {0, images_};
  return {block * size_, std::min(images_, (block + 1) * size_)};
}

std::vector<std::int32_t> ImageBlocks::block_of_image() const {
  std::vector<std::int32_t> blocks(order_.size());
  for (std::size_t place = 0; place < order_.size(); ++place)
    blocks[static_cast<std::size_t>(order_[place])] =
        static_cast<std::int32_t>(static_cast<std::int64_t>(place) / size_);
  return blocks;
}

Batch ImageBlocks::in_blocks(const Batch& batch) const {
  if (!divides()) return batch;
  const at::Tensor order = at::tensor(order_, at::kLong);
  Batch blocks = batch;
  blocks.images = batch.images.index_select(0, order);
  blocks.labels = batch.labels.index_select(0, order);
  return blocks;
}

at::Tensor ImageBlocks::in_order(const at::Tensor& rows) const {
  if (!divides()) return rows;
  return at::empty_like(rows).index_copy_(0, at::tensor(order_, at::kLong), rows);
}

}  // namespace sentinel
