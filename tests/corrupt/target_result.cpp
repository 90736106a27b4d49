// Result files and rankings of valid HDF5 structure with changed values. An input says which file,
// who reads it, and what is changed: pairs of a field and a value.
#include <algorithm>
#include <limits>

#include "corrupt/result_images.hpp"
#include "corrupt/result_readers.hpp"
#include "corrupt/target.hpp"
#include "store/h5.hpp"

namespace sentinel::test {
namespace {

constexpr std::size_t kEdit = 11;  // bytes: field u16, kind u8, value u64

std::uint64_t bits(double value) {
  std::uint64_t result = 0;
  std::memcpy(&result, &value, sizeof value);
  return result;
}

/// A changed field: one of the values at which readers break, or the given one.
std::uint64_t value_of(std::uint8_t kind, std::uint64_t given) {
  using Limits = std::numeric_limits<double>;
  const std::uint64_t values[] = {0,
                                  1,
                                  2,
                                  5,
                                  255,
                                  ~0ull,
                                  1ull << 31,
                                  1ull << 32,
                                  1ull << 63,
                                  INT32_MAX,
                                  INT64_MAX,
                                  bits(Limits::quiet_NaN()),
                                  bits(Limits::infinity()),
                                  bits(1e300),
                                  bits(-1),
                                  bits(0.5),
                                  bits(2)};
  return kind < std::size(values) ? values[kind] : given;
}

Bytes edited(const ResultImage& image, ByteReader edits) {
  Bytes file = image.file;
  while (edits.remaining() >= kEdit) {
    const auto& field = image.fields[edits.read<std::uint16_t>() % image.fields.size()];
    const auto kind = edits.read<std::uint8_t>();
    const std::uint64_t value = value_of(kind, edits.read<std::uint64_t>());
    std::memcpy(file.data() + field.offset, &value, std::min(field.size, sizeof value));
  }
  return file;
}

class Results {
 public:
  /// HDF5 takes and gives back a megabyte for every file; kept, twice as many are read.
  Results() { H5set_free_list_limits(-1, -1, -1, -1, -1, -1); }

  bool read(const Bytes& input) const {
    if (input.size() < 2) return false;
    const ResultImage& image = images_[std::to_integer<std::size_t>(input[0]) % images_.size()];
    const Bytes file = edited(image, ByteReader(input.data() + 2, input.size() - 2, "fuzz"));
    return accepted([&] { readers_.read(file, reader_of(input)); });
  }

  /// Every file as it is to every reader, then two fields of it set to 0.
  std::vector<Bytes> seeds() const {
    std::vector<Bytes> all;
    for (std::size_t image = 0; image < images_.size(); ++image)
      for (int reader : {0, 1, 2, 3, 4, 5, 6, 30, 31}) {
        Bytes seed{static_cast<std::byte>(image), static_cast<std::byte>(reader)};
        all.push_back(seed);
        seed.resize(2 + 2 * kEdit);
        seed[2] = static_cast<std::byte>(7 * image);
        seed[2 + kEdit] = static_cast<std::byte>(31 * reader);
        all.push_back(seed);
      }
    return all;
  }

 private:
  /// A fuzzer likes what runs most code, and would hardly do anything but publish.
  static int reader_of(const Bytes& input) {
    const int reader = std::to_integer<int>(input[1]) % ResultReaders::kCount;
    const bool seldom = std::hash<std::string_view>()(to_text(input)) % 16 != 0;
    return seldom && reader >= ResultReaders::kPublishing ? reader - ResultReaders::kPublishing
                                                          : reader;
  }

  std::vector<ResultImage> images_ = result_images();
  ResultReaders readers_;
};

}  // namespace

Target result_target() {
  const auto results = std::make_shared<Results>();
  return {"result",
          results->seeds(),
          {},
          [](Bytes&) {},
          [results](const Bytes& bytes) { return results->read(bytes); }};
}

}  // namespace sentinel::test
