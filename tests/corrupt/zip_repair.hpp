#pragma once
#include "sentinel/core/bytes.hpp"

namespace sentinel::test {

/// Right checksums in every entry of a zip's directory that says where its record is.
void repair_zip(Bytes& file);

}  // namespace sentinel::test
