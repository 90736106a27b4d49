#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// Padding by 4 black pixels, a random crop of the image's size and a horizontal flip with
/// probability 1/2, for each image. `images` [N, C, H, W] f32 on the CPU, normalised by the
/// constants; returns new ones.
at::Tensor augment(const at::Tensor& images, const Normalisation& by, Rng& rng);

}  // namespace sentinel
