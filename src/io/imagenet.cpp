#include "imagenet.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/log.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClassIndex = "imagenet_class_index.json";
constexpr const char* kSynsets = "LOC_synset_mapping.txt";
constexpr const char* kSolution = "LOC_val_solution.csv";
constexpr const char* kValLabels = "ILSVRC2012_val_labels.json";
constexpr std::uint64_t kTableBytes = std::uint64_t{64} << 20;  // theirs are below 10 MiB

/// Class numbers by the names of class folders (WordNet ids such as n01440764).
using Classes = std::map<std::string, std::int64_t>;

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// ---- what is in folders
// ----------------------------------------------------------------------------

struct Content {
  std::vector<fs::path> folders, images;  // sorted
};

bool is_image(const fs::path& path) {
  std::string ending = path.extension().string();
  for (char& letter : ending)
    letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return ending == ".jpeg" || ending == ".jpg" || ending == ".png";
}

Content content_of(const fs::path& folder) {
  Content content;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      if (entry.path().filename().string()[0] == '.') continue;
      if (entry.is_directory())
        content.folders.push_back(entry.path());
      else if (is_image(entry.path()))
        content.images.push_back(entry.path());
    }
  } catch (const fs::filesystem_error& error) {
    throw DataError(folder.string(), "cannot be listed: " + error.code().message());
  }
  std::sort(content.folders.begin(), content.folders.end());
  std::sort(content.images.begin(), content.images.end());
  return content;
}

/// train/ or val/, in the folder itself or where Kaggle's archive has them.
fs::path folder_of(const std::string& folder, Split split) {
  const char* name = split == Split::kTrain ? "train" : "val";
  const fs::path own = fs::path(folder) / name;
  const fs::path kaggle = fs::path(folder) / "ILSVRC/Data/CLS-LOC" / name;
  if (is_there(own)) return own;
  if (is_there(kaggle)) return kaggle;
  throw DataError(folder, std::string(is_there(folder) ? "" : "no such folder; ") +
                              "no images of imagenet found (looked for " + own.string() + ", " +
                              kaggle.string() +
                              "); give the folder that holds train/ and val/, or Kaggle's ILSVRC/");
}

// ---- tables beside the images ------------------------------------------------------------------

nlohmann::json read_json(const fs::path& path) {
  const Bytes bytes = read_file(path.string(), kTableBytes);
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  check_json(path.string(), {text, bytes.size()});
  try {
    nlohmann::json json = nlohmann::json::parse(text, text + bytes.size());
    if (json.is_object()) return json;
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError(path.string(), error.byte - 1, "is no JSON; download it again");
  } catch (const nlohmann::json::exception&) {  // a number beyond every double
    throw DataError(path.string(), "is no JSON that can be read; download it again");
  }
  throw DataError(path.string(), "a JSON object is wanted; download it again");
}

/// The lines of a text file, without their ends.
std::vector<std::string> read_lines(const fs::path& path) {
  const Bytes bytes = read_file(path.string(), kTableBytes);
  std::vector<std::string> lines(1);
  for (const std::byte byte : bytes) {
    const char letter = static_cast<char>(byte);
    if (letter == '\n')
      lines.emplace_back();
    else if (letter != '\r')
      lines.back() += letter;
  }
  if (lines.back().empty()) lines.pop_back();
  return lines;
}

bool is_number(const std::string& name) {
  return !name.empty() && name.size() < 10 &&
         name.find_first_not_of("0123456789") == std::string::npos;
}

/// {"0": ["n01440764", "tench"], ...}
Classes classes_of_index(const fs::path& path) {
  Classes classes;
  const nlohmann::json index = read_json(path);
  for (const auto& [number, names] : index.items()) {
    if (!is_number(number) || !names.is_array() || names.empty() || !names[0].is_string())
      throw DataError(path.string(),
                      "the entry \"" + number + "\" is not like \"0\": [\"n01440764\", \"tench\"]");
    classes[names[0].get<std::string>()] = std::stoll(number);
  }
  return classes;
}

/// "n01440764 tench, Tinca tinca", in the order of the classes.
Classes classes_of_synsets(const fs::path& path) {
  Classes classes;
  for (const std::string& line : read_lines(path))
    classes.emplace(line.substr(0, line.find(' ')), static_cast<std::int64_t>(classes.size()));
  return classes;
}

void say_numbered(const fs::path& source, const std::string& how) {
  spdlog::info("{}: classes are numbered {}", source.string(), how);
}

const Classes& checked(const Classes& classes, const fs::path& path, std::int64_t wanted) {
  std::set<std::int64_t> numbers;  // none is negative
  for (const auto& [name, number] : classes) numbers.insert(number);
  const auto count = static_cast<std::int64_t>(classes.size());
  if (count != wanted || numbers.size() != classes.size() || *numbers.rbegin() != wanted - 1)
    throw DataError(path.string(), "names " + std::to_string(count) + " classes, not " +
                                       std::to_string(wanted) + " numbered from 0 on");
  return classes;
}

/// "0", "1" ... "999" or a part of them, as ImageNetV2 names its folders.
Classes classes_of_numbers(const DatasetInfo& info, const fs::path& source,
                           const std::set<std::string>& names) {
  Classes classes;
  std::map<std::int64_t, std::string> taken;
  for (const std::string& name : names) {
    const std::int64_t number = classes[name] = std::stoll(name);
    const auto [other, fresh] = taken.emplace(number, name);
    if (!fresh)
      throw DataError(source.string(), "\"" + other->second + "\" and \"" + name +
                                           "\" are the same class number; rename one");
  }
  const std::int64_t first = taken.begin()->first, last = taken.rbegin()->first;
  if (last >= info.classes)
    throw DataError(source.string(),
                    fmt::format("its classes are named {} to {}, but class numbers are 0 to {}{}",
                                taken.begin()->second, taken.rbegin()->second, info.classes - 1,
                                first == 1 && last == info.classes
                                    ? "; rename each to one less, or, where they are ILSVRC's own "
                                      "ids (another order), to the WordNet ids"
                                    : "; rename them"));
  spdlog::info("{}: {} classes are named by whole numbers, {} to {}, taken as class numbers",
               source.string(), classes.size(), first, last);
  return classes;
}

/// From a table in `folder`, or else the places of `names` in their order. `source` holds `names`.
Classes classes_of(const DatasetInfo& info, const fs::path& folder, const fs::path& source,
                   const std::set<std::string>& names) {
  if (std::all_of(names.begin(), names.end(), is_number))
    return classes_of_numbers(info, source, names);
  const fs::path index = folder / kClassIndex, synsets = folder / kSynsets;
  if (is_there(index)) {
    say_numbered(source, "by " + index.string());
    return checked(classes_of_index(index), index, info.classes);
  }
  if (is_there(synsets)) {
    say_numbered(source, "by " + synsets.string());
    return checked(classes_of_synsets(synsets), synsets, info.classes);
  }
  if (static_cast<std::int64_t>(names.size()) != info.classes)
    throw DataError(source.string(), "names " + std::to_string(names.size()) + " classes, but " +
                                         info.name + " has " + std::to_string(info.classes) +
                                         ", and their order numbers them; put " + kClassIndex +
                                         " or " + kSynsets + " into " + folder.string() +
                                         ", which number these");
  say_numbered(source, "in the order of their names");
  Classes classes;
  for (const std::string& name : names)
    classes.emplace(name, static_cast<std::int64_t>(classes.size()));
  return classes;
}

std::int64_t number_of(const Classes& classes, const std::string& name, const fs::path& source) {
  const auto found = classes.find(name);
  if (found == classes.end())
    throw DataError(source.string(), "\"" + name + "\" is none of the classes");
  return found->second;
}

// ---- labels of images without class folders
// --------------------------------------------------------

/// An image as a table knows it: the name of its class, or else its number.
struct Label {
  std::string name;
  std::int64_t number = -1;
};
using Labels = std::map<std::string, Label>;  // by the image's file name without its ending

/// "ILSVRC2012_val_00048981,n03995372 85 1 499 272", below a line of titles.
Labels labels_of_solution(const fs::path& path) {
  Labels labels;
  for (const std::string& line : read_lines(path)) {
    const std::size_t comma = line.find(',');
    if (comma == std::string::npos)
      throw DataError(path.string(), "the line \"" + line.substr(0, 80) + "\" has no comma");
    if (line.rfind("ImageId,", 0) == 0) continue;
    const std::string boxes = line.substr(comma + 1);
    labels[line.substr(0, comma)] = {boxes.substr(0, boxes.find(' '))};
  }
  return labels;
}

/// {"ILSVRC2012_val_00000001.JPEG": "n01751748", ...}, or numbers of classes.
Labels labels_of_json(const DatasetInfo& info, const fs::path& path) {
  Labels labels;
  const nlohmann::json files = read_json(path);
  for (const auto& [file, value] : files.items()) {
    Label& label = labels[fs::path(file).stem().string()];
    if (value.is_string()) label.name = value.get<std::string>();
    if (value.is_number_integer()) label.number = value.get<std::int64_t>();
    if (label.name.empty() && (label.number < 0 || label.number >= info.classes))
      throw DataError(path.string(), "the label of " + file + " is none of the " +
                                         std::to_string(info.classes) + " classes");
  }
  return labels;
}

// ---- a split
// ---------------------------------------------------------------------------------------

/// Finds a split's images, each with what its place in the order goes by.
class Finder {
 public:
  Finder(const DatasetInfo& info, const std::string& folder, Split split)
      : info_(info), folder_(folder), split_(split), place_(folder_of(folder, split)) {}

  ImageFiles find() {
    const Content content = content_of(place_);
    if (!content.folders.empty() && !content.images.empty())
      throw DataError(place_.string(),
                      "holds class folders and images beside them; move all images into class "
                      "folders, or none");
    if (content.folders.empty())
      find_flat(content.images);
    else
      find_in(content.folders);
    if (found_.empty()) throw DataError(place_.string(), "holds no .JPEG, .jpg or .png images");
    std::sort(found_.begin(), found_.end());
    ImageFiles files;
    for (auto& [key, path, label] : found_) {
      files.paths.push_back(std::move(path));
      files.labels.push_back(label);
    }
    return files;
  }

 private:
  /// Test images are in the order of their names. Training images are named after their classes, so
  /// that the first of them would all be of one; the hash of the name shuffles them, the same way
  /// everywhere.
  void add(const fs::path& image, std::int64_t label) {
    const std::string name = image.filename().string();
    found_.emplace_back(split_ == Split::kTrain ? sha256_hex(name) : name, image.string(), label);
  }

  void find_in(const std::vector<fs::path>& folders) {
    std::set<std::string> names;
    for (const fs::path& one : folders) names.insert(one.filename().string());
    const Classes classes = classes_of(info_, folder_, place_, names);
    for (const fs::path& one : folders) {
      const std::int64_t label = number_of(classes, one.filename().string(), one);
      for (const fs::path& image : content_of(one).images) add(image, label);
    }
  }

  void find_flat(const std::vector<fs::path>& images) {
    const bool csv = is_there(folder_ / kSolution);
    const fs::path table = folder_ / (csv ? kSolution : kValLabels);
    if (!is_there(table))
      throw DataError(place_.string(), std::string("has no class folders, and there is neither ") +
                                           kSolution + " nor " + kValLabels + " in " +
                                           folder_.string() + " to say what the images are");
    const Labels labels = csv ? labels_of_solution(table) : labels_of_json(info_, table);
    std::set<std::string> names;
    for (const auto& [file, label] : labels)
      if (!label.name.empty()) names.insert(label.name);
    if (names.empty()) say_numbered(table, "there");
    // Numbers need no names of classes beside them.
    const Classes classes = names.empty() ? Classes() : classes_of(info_, folder_, table, names);
    for (const fs::path& image : images) {
      const auto label = labels.find(image.stem().string());
      if (label == labels.end())
        throw DataError(image.string(), "has no label in " + table.string());
      const auto& [name, number] = label->second;
      add(image, name.empty() ? number : number_of(classes, name, table));
    }
  }

  const DatasetInfo& info_;
  fs::path folder_;
  Split split_;
  fs::path place_;
  std::vector<std::tuple<std::string, std::string, std::int64_t>> found_;  // key, path, label
};

}  // namespace

ImageFiles imagenet_files(const DatasetInfo& info, const std::string& folder, Split split) {
  return Finder(info, folder, split).find();
}

}  // namespace sentinel
