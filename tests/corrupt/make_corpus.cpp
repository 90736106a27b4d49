// Writes the hostile checkpoints and their good relatives into a folder: seeds for the fuzzer.
#include <ATen/ATen.h>

#include <cstdio>
#include <filesystem>

#include "corrupt/hostile_pth.hpp"
#include "sentinel/core/file.hpp"

int main(int argc, char** argv) {
  using namespace sentinel;
  if (argc != 2) {
    std::fprintf(stderr, "usage: corrupt_corpus FOLDER\n");
    return 64;
  }
  const std::filesystem::path folder(argv[1]);
  std::filesystem::create_directories(folder);
  for (const test::HostileFile& file : test::hostile_checkpoints())
    if (file.bytes.size() < 100000) write_file_atomic((folder / file.name).string(), file.bytes);
  write_file_atomic((folder / "good_zip").string(), test::good_zip_checkpoint());
  write_file_atomic((folder / "good_legacy").string(), test::good_legacy_checkpoint());
  return 0;
}
