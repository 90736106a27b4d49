#pragma once
#include <cstdint>
#include <string>

#include "sentinel/comm/comm.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/selection.hpp"
#include "sentinel/transform/harden.hpp"
#include "sentinel/transform/importance.hpp"

namespace sentinel {

/// Hardens by the scores; every rank gets rank 0's result bit for bit. Reads the calibration
/// images, the first `calibration_images` of the training split (-1: all). Collective.
/// A model that `reuse` holds already, made by the same recipe, is read instead: a resumed campaign
/// must not calibrate again, as other processors give other last bits. Empty: nothing to reuse.
/// `find`: as of harden().
NamedModel make_hardened(const Comm& comm, const NamedModel& model, const ModelSelection& selection,
                         const ChannelScores& scores, const HardeningPlan& plan,
                         std::int64_t calibration_images, at::Device device,
                         const std::string& command, const std::string& reuse,
                         const FindBounds& find = {});

}  // namespace sentinel
