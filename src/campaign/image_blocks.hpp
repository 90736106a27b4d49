#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// A fixed random partition of the images into blocks, of which each trial looks at one, drawn with
/// probability in proportion to its size: so the mean over a trial's images
/// estimates that over all without bias. Without blocks a trial looks at all images, in their
/// order.
class ImageBlocks {
 public:
  /// `size`: images per block (the last may be smaller); -1 or all of them: no blocks.
  ImageBlocks(std::int64_t images, std::int64_t size, std::uint64_t seed);

  bool divides() const { return size_ < images_; }
  /// Images per block.
  std::int64_t size() const { return size_; }
  /// Block of a trial, -1 without blocks. A pure function of its arguments.
  std::int32_t block_of_trial(std::uint64_t seed, std::uint32_t point, std::uint64_t trial) const;
  /// The image of the data set that is at a place in blocks.
  std::int64_t image_at(std::int64_t place) const {
    return divides() ? order_.at(static_cast<std::size_t>(place)) : place;
  }
  /// The place of an image of the data set.
  std::int64_t place_of(std::int64_t image) const {
    return divides() ? place_.at(static_cast<std::size_t>(image)) : image;
  }
  /// Places of a block, first to one behind the last; of -1 all.
  std::pair<std::int64_t, std::int64_t> places(std::int32_t block) const;
  /// Block of each image, by its place in the data set; empty without blocks.
  std::vector<std::int32_t> block_of_image() const;

  /// The images block by block.
  Batch in_blocks(const Batch& batch) const;
  /// Rows that belong to images in blocks, in the order of the data set again.
  at::Tensor in_order(const at::Tensor& rows) const;

 private:
  std::int64_t images_, size_;
  std::vector<std::int64_t> order_;  // images in blocks; empty without
  std::vector<std::int64_t> place_;  // the inverse
};

}  // namespace sentinel
