#pragma once
#include <string>

#include "sentinel/core/bytes.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {

/// All that reads results and rankings in the program.
class ResultReaders {
 public:
  static constexpr int kCount = 32, kPublishing = 30;
  /// Reads a file by one of them, in a folder of its own. Throws as the program does. Those that
  /// also write a result, and take longest, are kPublishing and above; the others come several
  /// times.
  void read(const Bytes& file, int reader) const;

 private:
  void read_by(int reader) const;
  void merge() const;
  void resume() const;

  TempDir folder_;
  std::string path_ = folder_ / "r.h5";
};

}  // namespace sentinel::test
