// The libFuzzer program of the target that SENTINEL_TARGET names: fuzz_<target> FOLDER. The seeds
// are put into the folder first. See README.md.
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <filesystem>

#include "corrupt/target.hpp"
#include "sentinel/core/file.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using namespace sentinel;

const test::Target& target() {
  static const test::Target one = test::SENTINEL_TARGET();
  return one;
}

void put_seeds(const std::filesystem::path& folder) {
  for (std::size_t i = 0; i < target().seeds.size(); ++i)
    write_file_atomic((folder / ("seed_" + std::to_string(i))).string(), target().seeds[i]);
}

Bytes copied(const std::uint8_t* data, std::size_t size) {
  const auto* begin = reinterpret_cast<const std::byte*>(data);
  return Bytes(begin, begin + size);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  spdlog::set_default_logger(spdlog::null_logger_mt("fuzz"));  // messages are made all the same
  if (!std::freopen("/dev/null", "w", stdout)) return 1;
  for (int i = 1; i < *argc; ++i)
    if ((*argv)[i][0] != '-' && std::filesystem::is_directory((*argv)[i])) {
      put_seeds((*argv)[i]);
      break;
    }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::mt19937_64 random(seed);
  Bytes file;
  if (random() % 4 == 0) {
    file = test::changed(target(), copied(data, size), random);
  } else {
    file = copied(data, LLVMFuzzerMutate(data, size, max_size));
    if (random() % 8 != 0) target().repair(file);
  }
  size = std::min(file.size(), max_size);
  std::memcpy(data, file.data(), size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  target().read(copied(data, size));
  return 0;
}
