#include "cifar.hpp"

#include <algorithm>
#include <filesystem>

#include "numpy_pickle.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kImageBytes = 3072;
constexpr int kTrainingBatches = 5;

/// One way a release is laid out.
struct Release {
  std::string subfolder;
  std::vector<std::string> train, test;
  bool python = false;
  std::size_t label_bytes = 1;  // binary: before each image, the last one is used
  std::string label_key;        // python
};

std::vector<std::string> batch_names(const std::string& suffix) {
  std::vector<std::string> names;
  for (int i = 1; i <= kTrainingBatches; ++i)
    names.push_back("data_batch_" + std::to_string(i) + suffix);
  return names;
}

std::vector<Release> releases(const DatasetInfo& info) {
  if (info.classes == 100)
    return {{"cifar-100-binary", {"train.bin"}, {"test.bin"}, false, 2, ""},
            {"cifar-100-python", {"train"}, {"test"}, true, 0, "fine_labels"}};
  return {{"cifar-10-batches-bin", batch_names(".bin"), {"test_batch.bin"}, false, 1, ""},
          {"cifar-10-batches-py", batch_names(""), {"test_batch"}, true, 0, "labels"}};
}

/// The images and labels read so far.
struct Images {
  const DatasetInfo& info;
  std::vector<std::uint8_t> pixels;
  std::vector<std::int64_t> labels;
};

void check_label(const Images& images, const std::string& path, std::uint64_t offset,
                 std::int64_t label) {
  if (label < 0 || label >= images.info.classes)
    throw DataError(path, offset,
                    "the label " + std::to_string(label) + " is none of the " +
                        std::to_string(images.info.classes) + " classes of " + images.info.name +
                        "; the file is damaged or of another data set, download it again");
}

void read_binary(const std::string& path, const Release& release, Images& images) {
  const Bytes bytes = read_file(path);
  const std::size_t record = release.label_bytes + kImageBytes;
  if (bytes.empty()) throw DataError(path, 0, "the file is empty; download it again");
  if (bytes.size() % record != 0)
    throw DataError(path, bytes.size() - bytes.size() % record,
                    "the last image is cut off: " + std::to_string(bytes.size()) +
                        " bytes are no multiple of " + std::to_string(record) +
                        "; the file is damaged or of another format, download it again");
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  for (std::size_t at = 0; at < bytes.size(); at += record) {
    const std::uint8_t* image = data + at + release.label_bytes;
    check_label(images, path, at + release.label_bytes - 1, image[-1]);
    images.labels.push_back(image[-1]);
    images.pixels.insert(images.pixels.end(), image, image + kImageBytes);
  }
}

const PickleValue& require_key(const Pickle& pickle, const std::string& key) {
  const PickleValue* value = find_key(pickle, pickle.root_value(), key);
  if (value == nullptr)
    pickle.fail(pickle.root_value(), "the entry \"" + key +
                                         "\" is missing; this is no file of the "
                                         "Python release, download it again");
  return *value;
}

void read_python(const std::string& path, const Release& release, Images& images) {
  const Bytes bytes = read_file(path);
  const Pickle pickle = read_pickle(bytes.data(), bytes.size(), path, 0, numpy_globals());
  const PickleValue& data = require_key(pickle, "data");
  const PickleValue& labels = require_key(pickle, release.label_key);
  const ByteMatrix matrix = read_byte_matrix(pickle, data);
  const auto& refs = pickle.sequence(labels);
  if (matrix.columns != kImageBytes || matrix.rows == 0 ||
      static_cast<std::size_t>(matrix.rows) != refs.size())
    pickle.fail(data, std::to_string(refs.size()) + " labels, but an array of " +
                          std::to_string(matrix.rows) + " x " + std::to_string(matrix.columns) +
                          " bytes (3072 a row are wanted); download the file again");
  for (const PickleRef ref : refs) {
    const std::int64_t label = pickle.integer(pickle[ref]);
    check_label(images, path, pickle[ref].offset, label);
    images.labels.push_back(label);
  }
  images.pixels.insert(images.pixels.end(), matrix.values.begin(), matrix.values.end());
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

const std::vector<std::string>& files_of(const Release& release, Split split) {
  return split == Split::kTrain ? release.train : release.test;
}

/// Is the split there, in this folder? Where only some of its files are, the first missing one is
/// an error: training on a part without a word would be worse.
bool found_in(const fs::path& folder, const std::vector<std::string>& files) {
  if (std::none_of(files.begin(), files.end(),
                   [&](const std::string& file) { return is_there(folder / file); }))
    return false;
  for (const std::string& file : files)
    if (!is_there(folder / file))
      throw DataError((folder / file).string(),
                      "missing, though other files of this release are there; download it again");
  return true;
}

Dataset read_release(const DatasetInfo& info, const Release& release, const fs::path& folder,
                     const std::vector<std::string>& files) {
  Images images{info, {}, {}};
  for (const std::string& file : files) {
    const std::string path = (folder / file).string();
    if (release.python)
      read_python(path, release, images);
    else
      read_binary(path, release, images);
  }
  return Dataset(info, std::move(images.pixels), std::move(images.labels));
}

/// Images begin … end-1 as records of CIFAR-10's binary format.
Bytes binary_records(const Dataset& data, std::int64_t begin, std::int64_t end) {
  ByteWriter out;
  for (std::int64_t i = begin; i < end; ++i) {
    out.write(static_cast<std::uint8_t>(data.labels()[static_cast<std::size_t>(i)]));
    out.append(data.pixels().data() + static_cast<std::size_t>(i) * kImageBytes, kImageBytes);
  }
  return out.take();
}

void check_writable(const Dataset& data, std::int64_t least) {
  if (data.info().shape != std::array<std::int64_t, 3>{3, 32, 32} || data.info().classes > 256)
    throw UserError("the data set " + data.info().name + " does not fit CIFAR-10's format");
  if (data.size() < least)
    throw UserError("at least " + std::to_string(least) +
                    " image(s) are needed, one for each file");
}

using NamedBytes = std::vector<std::pair<std::string, Bytes>>;

/// The files of a data set, by name.
NamedBytes batches_of(const Dataset& train, const Dataset& test) {
  NamedBytes batches;
  const std::vector<std::string> names = batch_names(".bin");
  for (std::int64_t i = 0; i < kTrainingBatches; ++i) {
    const std::int64_t begin = train.size() * i / kTrainingBatches;
    const std::int64_t end = train.size() * (i + 1) / kTrainingBatches;
    batches.emplace_back(names[static_cast<std::size_t>(i)], binary_records(train, begin, end));
  }
  batches.emplace_back("test_batch.bin", binary_records(test, 0, test.size()));
  return batches;
}

constexpr char kList[] = "synth.sha256";

/// As sha256sum prints it.
std::string line_of(const std::string& name, const Bytes& bytes) {
  return sha256_hex(bytes.data(), bytes.size()) + "  " + name + "\n";
}

/// The list of an earlier call's files; empty where there is none.
std::string lines_of_list(const std::string& path) {
  require_writable(path);
  std::error_code none;
  if (!fs::exists(path, none)) return "";
  const Bytes bytes = read_file(path, 1 << 20);
  const std::string lines(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (lines.find("  test_batch.bin\n") == std::string::npos)
    throw UserError(path + " is there already and is no list of `synth`; give another folder");
  return lines;
}

/// UserError where a file is there that is not among these lines: CIFAR-10's own are called so too.
void require_own(const fs::path& path, const std::string& lines) {
  require_writable(path.string());
  std::error_code none;
  if (!fs::exists(path, none)) return;
  if (lines.find(line_of(path.filename().string(), read_file(path.string()))) == std::string::npos)
    throw UserError(path.string() + " is there already and is not in its folder's list " + kList +
                    " of files that `synth` wrote, so it is not replaced; give another folder, or "
                    "remove the file");
}

/// Makes the folder where it is absent.
void require_folder(const std::string& folder) {
  std::error_code error;
  if (fs::exists(folder, error) && !fs::is_directory(folder, error))
    throw UserError(folder + " is no folder; give the name of a folder to write into");
  fs::create_directories(link_target(folder), error);
  if (error) throw EnvironmentError("cannot make the folder " + folder + ": " + error.message());
}

}  // namespace

Dataset read_cifar(const DatasetInfo& info, const std::string& folder, Split split) {
  std::string tried;
  for (const Release& release : releases(info)) {
    const std::vector<std::string>& files = files_of(release, split);
    for (const fs::path& place : {fs::path(folder), fs::path(folder) / release.subfolder}) {
      if (found_in(place, files)) return read_release(info, release, place, files);
      tried += (tried.empty() ? "" : ", ") + (place / files[0]).string();
    }
  }
  throw DataError(folder,
                  std::string(is_there(folder) ? "no files of " : "no such folder; no files of ") +
                      info.name + " found (looked for " + tried +
                      "); give the folder of the binary or the Python release");
}

void write_cifar_binary(const std::string& folder, const Dataset& train, const Dataset& test) {
  check_writable(train, kTrainingBatches);
  check_writable(test, 1);
  require_folder(folder);
  const std::string list = (fs::path(folder) / kList).string();
  const NamedBytes batches = batches_of(train, test);
  const std::string before = lines_of_list(list);
  std::string now;
  for (const auto& [name, bytes] : batches) now += line_of(name, bytes);
  for (const auto& [name, bytes] : batches) require_own(fs::path(folder) / name, before + now);
  // With the lines before: a killed call must not disown what it has not replaced.
  write_file_atomic(list, std::string_view(before + now));
  for (const auto& [name, bytes] : batches)
    write_file_atomic((fs::path(folder) / name).string(), bytes);
  write_file_atomic(list, std::string_view(now));
}

}  // namespace sentinel
