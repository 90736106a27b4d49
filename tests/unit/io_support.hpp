#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "io/zip.hpp"
#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"

namespace sentinel::test {

/// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sentinel-io-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw_errno("cannot make a folder like", pattern);
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& file) const { return path_ + "/" + file; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A file of the shared test data; empty where the folder is absent.
inline std::string test_data(const std::string& file) {
  const char* folder = std::getenv("SENTINELNN_TEST_DATA");
  const std::string path = std::string(folder ? folder : SENTINEL_TEST_DATA_DEFAULT) + "/" + file;
  return std::filesystem::exists(path) ? path : std::string();
}

/// The message of the DataError that a call ends with.
template <class Call>
std::string data_error(Call&& call) {
  try {
    call();
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

/// Has this machine a Python with PyTorch?
inline bool have_pytorch() {
  static const bool have = std::system("/usr/bin/python3 -c 'import torch' >/dev/null 2>&1") == 0;
  return have;
}

/// Runs a Python program; what it prints, or "exit N: …" where it fails.
inline std::string run_python(const TemporaryFolder& folder, const std::string& program) {
  const std::string script = folder / "script.py", output = folder / "script.out";
  write_file_atomic(script, std::string_view(program));
  const std::string command = "cd '" + folder.path() + "' && OMP_NUM_THREADS=1 /usr/bin/python3 '" +
                              script + "' >'" + output + "' 2>&1";
  const int status = std::system(command.c_str());
  const Bytes bytes = read_file(output);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return status == 0 ? text : "exit " + std::to_string(status) + ": " + text;
}

}  // namespace sentinel::test
