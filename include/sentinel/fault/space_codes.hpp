#pragma once
#include <optional>
#include <string>

#include "sentinel/fault/fault_space.hpp"

namespace sentinel {

/// The layouts of a space in which every single flip is corrected, "int6:channel+bch:32,6"; empty
/// where some flip may change a value.
std::string correcting_layouts(const FaultSpace& space);

/// P(any word of the space is read wrongly) where each bit flips with probability `ber`. Nothing
/// where only some bits of words or parts of blocks are selected, check words without their words,
/// or where nothing is coded.
std::optional<double> any_misread(const FaultSpace& space, double ber);

}  // namespace sentinel
