#include "corrupt/result_readers.hpp"

#include <cstdio>
#include <filesystem>

#include "app/result_tables.hpp"
#include "sentinel/store/merge.hpp"
#include "store/journal_set.hpp"
#include "store/result_reader.hpp"

namespace sentinel::test {

void ResultReaders::read(const Bytes& file, int reader) const {
  std::FILE* out = std::fopen(path_.c_str(), "wb");
  std::fwrite(file.data(), 1, file.size(), out);
  std::fclose(out);
  read_by(reader % kCount);
}

void ResultReaders::read_by(int reader) const {
  if (reader == kPublishing) return merge();
  if (reader > kPublishing) return resume();
  switch (reader % 7) {
    case 0:
      return print_result(path_, false);
    case 1:
      return print_result(path_, true);
    case 2:
      store::read_result_head(path_);
      return;
    case 3:
      read_result_outline(path_);
      return;
    case 4:
      read_faults(path_);
      return;
    case 5:
      read_ranking(path_);
      return;
    default:
      describe_hdf5(path_);
  }
}

void ResultReaders::merge() const {
  ResultMerge merged({path_}, folder_ / "merged.h5");
  merged.each_trial([](const std::vector<TrialRow>&) {});
  merged.write({});
  std::filesystem::remove(folder_ / "merged.h5");
}

/// Where it is refused, nothing may be left that the next one would find.
void ResultReaders::resume() const {
  try {
    open_store(path_).finish(false);
  } catch (...) {
    store::JournalSet::remove(path_);
    throw;
  }
  store::JournalSet::remove(path_);
}

}  // namespace sentinel::test
