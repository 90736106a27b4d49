#pragma once
#include <string>

#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// "the test images", "the last tenth of the training images" ...
std::string in_words(ImagesOf images);

/// The first `images` of these (-1: all) on every rank. `fallback`: the data set where the
/// selection names none. UserError where there are fewer. Collective; SharedErrors.
Dataset trial_images(const Comm& comm, const ModelSelection& selection, const std::string& fallback,
                     ImagesOf of, std::int64_t images);

}  // namespace sentinel
