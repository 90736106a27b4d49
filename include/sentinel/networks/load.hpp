#pragma once
#include <string>

#include "sentinel/comm/comm.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"

namespace sentinel {

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

/// The first `images` training images, or where that is -1 as many of `usual` as there are.
/// Collective; throws SharedError.
Dataset training_images(const Comm& comm, const ModelSelection& selection,
                        const std::string& fallback, std::int64_t images, std::int64_t usual);

}  // namespace sentinel
