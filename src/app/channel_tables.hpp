#pragma once
#include "sentinel/store/result_file.hpp"

namespace sentinel {

/// Whether the points are channels: the trials of channel-FI.
bool holds_channels(const ResultFile& result);
/// One line per layer instead of one per channel: trials, failing images, the worst channels.
void print_channels(const ResultFile& result);

}  // namespace sentinel
