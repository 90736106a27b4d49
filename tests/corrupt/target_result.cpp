// Result files and rankings of valid HDF5 structure with changed values. An input says which file,
// who reads it, and what is changed: pairs of a field and a value.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "app/result_tables.hpp"
#include "corrupt/result_images.hpp"
#include "corrupt/target.hpp"
#include "sentinel/store/merge.hpp"
#include "store/journal_set.hpp"
#include "store/result_reader.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

constexpr std::size_t kEdit = 11;  // bytes: field u16, kind u8, value u64

template <class T>
std::uint64_t bits(T value) {
  std::uint64_t result = 0;
  std::memcpy(&result, &value, sizeof value);
  return result;
}

/// What a field becomes: the given value, or one at which readers break.
std::uint64_t value_of(std::uint8_t kind, std::uint64_t given) {
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  const double kInfinity = std::numeric_limits<double>::infinity();
  const std::uint64_t values[] = {0,
                                  1,
                                  2,
                                  5,
                                  255,
                                  ~0ull,
                                  1ull << 31,
                                  1ull << 63,
                                  1ull << 32,
                                  INT64_MAX,
                                  INT32_MAX,
                                  bits(kNan),
                                  bits(kInfinity),
                                  bits(1e300),
                                  bits(-1.0),
                                  bits(0.5),
                                  bits(2.0),
                                  bits(std::numeric_limits<float>::quiet_NaN())};
  return kind < std::size(values) ? values[kind] : given;
}

class Results {
 public:
  void read(const Bytes& input) {
    if (input.size() < 2) return;
    const std::size_t which = std::to_integer<std::size_t>(input[0]) % images_.size();
    write_changed(images_[which], input);
    read_by(std::to_integer<int>(input[1]) % 9);
  }

  std::vector<Bytes> seeds() const {
    std::vector<Bytes> all;
    for (std::size_t image = 0; image < images_.size(); ++image)
      for (std::size_t reader = 0; reader < 9; ++reader) {
        Bytes seed(2 + 2 * kEdit, std::byte{0});
        seed[0] = static_cast<std::byte>(image);
        seed[1] = static_cast<std::byte>(reader);
        seed[2] = static_cast<std::byte>(7 * image + reader);
        seed[2 + kEdit] = static_cast<std::byte>(31 * reader);
        all.push_back(seed);
      }
    return all;
  }

 private:
  void write_changed(const ResultImage& image, const Bytes& input) {
    Bytes file = image.file;
    ByteReader edits(input.data() + 2, input.size() - 2, "fuzz");
    while (edits.remaining() >= kEdit) {
      const auto& field = image.fields[edits.read<std::uint16_t>() % image.fields.size()];
      const auto kind = edits.read<std::uint8_t>();
      const std::uint64_t value = value_of(kind, edits.read<std::uint64_t>());
      std::memcpy(file.data() + field.offset, &value, std::min(field.size, sizeof value));
    }
    std::FILE* out = std::fopen(path_.c_str(), "wb");
    std::fwrite(file.data(), 1, file.size(), out);
    std::fclose(out);
  }

  void read_by(int reader) const {
    accepted([&] {
      switch (reader) {
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
        case 6:
          describe_hdf5(path_);
          return;
        case 7:
          return merge();
        default:
          resume();
      }
    });
  }

  void merge() const {
    ResultMerge merged({path_}, folder_ / "merged.h5");
    merged.each_trial([](const std::vector<TrialRow>&) {});
    merged.write({});
    std::filesystem::remove(folder_ / "merged.h5");
  }

  /// Where it is refused, nothing may be left that the next one would find.
  void resume() const {
    const auto left = [&] { store::JournalSet::remove(path_); };
    try {
      open_store(path_).finish(false);
    } catch (...) {
      left();
      throw;
    }
    left();
  }

  std::vector<ResultImage> images_ = result_images();
  TempDir folder_;
  std::string path_ = folder_ / "r.h5";
};

}  // namespace

Target result_target() {
  const auto results = std::make_shared<Results>();
  return {"result",
          results->seeds(),
          {},
          [](Bytes&) {},
          [results](const Bytes& bytes) { results->read(bytes); }};
}

}  // namespace sentinel::test
