// libFuzzer target of the checkpoint and data set readers. Build: cmake -DSENTINEL_FUZZ=ON with
// clang++; seeds: corrupt_corpus FOLDER; run: fuzz_pth FOLDER.
#include <ATen/ATen.h>

#include "corrupt/hostile_pth.hpp"
#include "io/numpy_pickle.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace {

using namespace sentinel;

void read_arrays(const Bytes& bytes) {
  const Pickle pickle = read_pickle(bytes.data(), bytes.size(), "fuzz", 0, numpy_globals());
  if (const PickleValue* data = find_key(pickle, pickle.root_value(), "data"))
    read_byte_matrix(pickle, *data);
}

/// Damaged pickles would not get past the zip's checksums, so they get good ones here.
void read_wrapped(const Bytes& bytes) {
  const std::string_view pickle(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  parse_pth(test::wrap_pickle(pickle, Bytes(64)), "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  const Bytes bytes(begin, begin + size);
  for (void (*read)(const Bytes&) :
       {+[](const Bytes& all) { parse_pth(all, "fuzz"); }, &read_wrapped, &read_arrays})
    try {
      read(bytes);
    } catch (const DataError&) {  // the only way a reader may refuse
    }
  return 0;
}
