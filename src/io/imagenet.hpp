#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Image files and the class of each.
struct ImageFiles {
  std::vector<std::string> paths;
  std::vector<std::int64_t> labels;
};

/// The files of a split of ImageNet (ILSVRC 2012), as read_dataset says. Reads no image.
ImageFiles imagenet_files(const DatasetInfo& info, const std::string& folder, Split split);

/// The first images that `request` asks for, each as evaluation_view gives it, decoded on its
/// threads; the result does not depend on their number. Beside the result, memory holds one file
/// and one decoded image per thread. Throws UserError where the result does not fit into memory.
Dataset load_images(const DatasetInfo& info, const ImageFiles& files, const ImageRequest& request);

}  // namespace sentinel
