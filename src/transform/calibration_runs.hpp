#pragma once
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "sentinel/comm/comm.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {

/// `visit(trace)` for every block of kImagesAtOnce images that is this rank's, run fault-free. The
/// blocks are the same on any number of ranks. The graph is on the device, channels_last.
template <class Visit>
void for_own_blocks(const Graph& graph, const Dataset& images, const Comm& comm, at::Device device,
                    Visit visit) {
  const at::NoGradGuard no_grad;
  const std::int64_t stride = comm.size() * kImagesAtOnce;
  for (std::int64_t begin = comm.rank() * kImagesAtOnce; begin < images.size(); begin += stride) {
    const Batch batch =
        images.batch(begin, std::min(begin + kImagesAtOnce, images.size()), graph.normalisation);
    Trace trace{batch.images.to(device).contiguous(at::MemoryFormat::ChannelsLast)};
    run(graph, trace);
    visit(trace);
  }
}

}  // namespace sentinel
