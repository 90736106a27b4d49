#include <csignal>

#include "io_support.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/io/dataset.hpp"
#include "unit/image_support.hpp"

namespace sentinel {
namespace {

using test::data_error;
using test::make_jpeg;
using test::make_png;
using test::rows_of;
using test::TemporaryFolder;
using test::waves;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::size_t kImageBytes = 3 * 224 * 224;

/// n00000007 of class 7.
std::string wnid(int number) {
  const std::string digits = std::to_string(number);
  return "n" + std::string(8 - digits.size(), '0') + digits;
}

/// A folder to put a data set into.
class Imagenet : public testing::Test {
 protected:
  void write(const std::string& file, const Bytes& content) const {
    const std::string path = folder_ / file;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file_atomic(path, content);
  }
  void write(const std::string& file, std::string_view text) const {
    const auto* begin = reinterpret_cast<const std::byte*>(text.data());
    write(file, Bytes(begin, begin + text.size()));
  }
  /// An image of one gray, by which it is known again.
  void image(const std::string& file, int gray) const {
    const std::vector<std::uint8_t> pixels(12 * 10 * 3, static_cast<std::uint8_t>(gray));
    write(file, make_png(rows_of(pixels, 10), 12));
  }
  void class_folders(const std::string& split, int count) const {
    for (int i = 0; i < count; ++i)
      std::filesystem::create_directories(folder_ / (split + "/" + wnid(i)));
  }
  void synsets(int count = 1000) const {
    std::string text;
    for (int i = 0; i < count; ++i) text += wnid(i) + " some thing, other name\r\n";
    write("LOC_synset_mapping.txt", text);
  }
  /// "n00000000" is class 999 and so on, unlike the order of the names.
  void class_index() const {
    std::string text = "{";
    for (int i = 0; i < 1000; ++i)
      text +=
          (i ? ", \"" : "\"") + std::to_string(999 - i) + "\": [\"" + wnid(i) + "\", \"thing\"]";
    write("imagenet_class_index.json", text + "}");
  }
  Dataset read(Split split = Split::kTest, const ImageRequest& request = {}) const {
    return read_dataset("imagenet", folder_.path(), split, request);
  }
  std::string error(Split split = Split::kTest, const ImageRequest& request = {}) const {
    return data_error([&] { read(split, request); });
  }

  TemporaryFolder folder_;
};

/// The gray of each image.
std::vector<int> grays(const Dataset& data) {
  std::vector<int> values;
  for (std::size_t i = 0; i < data.pixels().size(); i += kImageBytes)
    values.push_back(data.pixels()[i]);
  return values;
}

TEST_F(Imagenet, ClassFoldersAreNumberedAsSorted) {
  class_folders("val", 1000);
  image("val/" + wnid(999) + "/b.JPEG", 10);  // the content tells what it is, not the ending
  image("val/" + wnid(0) + "/c.png", 20);
  image("val/" + wnid(17) + "/a.jpg", 30);
  write("val/" + wnid(17) + "/notes.txt", "no image");
  write("val/" + wnid(17) + "/.hidden.jpg", "no image");
  const Dataset data = read();
  EXPECT_THAT(data.labels(), ElementsAre(17, 999, 0));  // by file name
  EXPECT_THAT(grays(data), ElementsAre(30, 10, 20));
  EXPECT_EQ(data.info().classes, 1000);
  EXPECT_EQ(data.pixels().size(), 3 * kImageBytes);
}

TEST_F(Imagenet, FoldersNamedByNumbersAreClassNumbers) {
  for (int i = 0; i < 1000; ++i)
    std::filesystem::create_directories(folder_ / ("val/" + std::to_string(i)));
  image("val/10/a.png", 10);
  image("val/2/b.png", 20);
  image("val/999/c.png", 30);
  EXPECT_THAT(read().labels(), ElementsAre(10, 2, 999));
  class_index();  // numbers other names
  EXPECT_THAT(read().labels(), ElementsAre(10, 2, 999));
}

TEST_F(Imagenet, APartOfTheClassesMayBeNumbered) {
  image("val/007/a.png", 10);
  image("val/123/b.png", 20);
  EXPECT_THAT(read().labels(), ElementsAre(7, 123));
  image("val/7/c.png", 20);
  EXPECT_THAT(error(), HasSubstr("/val: \"007\" and \"7\" are the same class number"));
}

TEST_F(Imagenet, ClassNumbersBeyondTheClassesAreRefused) {
  image("val/1/a.png", 10);
  image("val/1000/b.png", 20);
  EXPECT_THAT(error(), HasSubstr("/val: its classes are named 1 to 1000, but class numbers are 0 "
                                 "to 999; rename each to one less, or, where they are ILSVRC's"));
  image("val/0/c.png", 20);
  EXPECT_THAT(error(), HasSubstr("0 to 1000, but class numbers are 0 to 999; rename them"));
}

TEST_F(Imagenet, AnotherNumberOfClassFoldersNeedsATable) {
  class_folders("val", 3);
  image("val/" + wnid(2) + "/a.jpg", 30);
  EXPECT_THAT(error(), HasSubstr("/val: names 3 classes, but imagenet has 1000"));
  synsets();
  EXPECT_THAT(read().labels(), ElementsAre(2));
  class_index();
  EXPECT_THAT(read().labels(), ElementsAre(997));
  std::filesystem::create_directories(folder_ / "val/cats");
  EXPECT_THAT(error(), HasSubstr("/val/cats: \"cats\" is none of the classes"));
}

TEST_F(Imagenet, KagglesSolutionLabelsImagesWithoutFolders) {
  synsets();
  image("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG", 2);
  image("ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG", 1);
  const std::string head = "ImageId,PredictionString\r\n";
  const std::string first = "ILSVRC2012_val_00000001,n00000321 85 1 499 272 n00000321 1 2 3 4\r\n";
  write("LOC_val_solution.csv", head + "ILSVRC2012_val_00000002,n00000005 1 2 3 4 \r\n" + first);
  const Dataset data = read();
  EXPECT_THAT(data.labels(), ElementsAre(321, 5));
  EXPECT_THAT(grays(data), ElementsAre(1, 2));
  write("LOC_val_solution.csv", head + first);
  EXPECT_THAT(error(), HasSubstr("/val/ILSVRC2012_val_00000002.JPEG: has no label in "));
  write("LOC_val_solution.csv", "junk");
  EXPECT_THAT(error(), HasSubstr("LOC_val_solution.csv: the line \"junk\" has no comma"));
}

TEST_F(Imagenet, JsonLabelsAreNamesOrNumbers) {
  image("val/a.JPEG", 1);
  image("val/b.JPEG", 2);
  write("ILSVRC2012_val_labels.json", R"({"a.JPEG": 7, "b.JPEG": 999})");
  EXPECT_THAT(read().labels(), ElementsAre(7, 999));
  write("ILSVRC2012_val_labels.json", R"({"a.JPEG": "7", "b.JPEG": "123"})");
  EXPECT_THAT(read().labels(), ElementsAre(7, 123));
  write("ILSVRC2012_val_labels.json", R"({"a.JPEG": "n00000001", "b.JPEG": 3})");
  EXPECT_THAT(error(), HasSubstr("ILSVRC2012_val_labels.json: names 1 classes"));
  class_index();
  EXPECT_THAT(read().labels(), ElementsAre(998, 3));
}

TEST_F(Imagenet, BrokenTablesAreNamed) {
  image("val/a.JPEG", 1);
  EXPECT_THAT(error(), HasSubstr("/val: has no class folders, and there is neither"));
  const auto labels = [&](const std::string& json) {
    write("ILSVRC2012_val_labels.json", json);
    return error();
  };
  EXPECT_THAT(labels("{\"a.JPEG\": 7"), HasSubstr("labels.json: at byte 12: is no JSON"));
  EXPECT_THAT(labels("[]"), HasSubstr("labels.json: a JSON object is wanted"));
  for (const std::string value : {"1000", "-1", "1.5", "null", "\"\"", "18446744073709551615"})
    EXPECT_THAT(labels("{\"a.JPEG\": " + value + "}"), HasSubstr("the label of a.JPEG is none"));
  EXPECT_THAT(labels("{\"b.JPEG\": 1}"), HasSubstr("/val/a.JPEG: has no label in "));
  write("ILSVRC2012_val_labels.json", R"({"a.JPEG": "n00000001"})");
  const auto index = [&](const std::string& json) {
    write("imagenet_class_index.json", json);
    return error();
  };
  EXPECT_THAT(index("{\"0\": [\"n00000001\"]}"),
              HasSubstr("index.json: names 1 classes, not 1000"));
  for (const std::string entry : {"\"x\": [\"n1\"]", "\"\": [\"n1\"]", "\"1\": []", "\"1\": [2]",
                                  "\"1\": \"n1\"", "\"99999999999\": [\"n1\"]"})
    EXPECT_THAT(index("{" + entry + "}"), HasSubstr("is not like")) << entry;
  std::filesystem::remove(folder_ / "imagenet_class_index.json");
  synsets(999);
  EXPECT_THAT(error(), HasSubstr("mapping.txt: names 999 classes"));
}

TEST_F(Imagenet, MissingFoldersAreNamed) {
  EXPECT_THAT(error(), HasSubstr("looked for " + folder_ / "val, " + folder_ / "ILSVRC/Data"));
  EXPECT_THAT(data_error([&] { read_dataset("imagenet", folder_ / "no", Split::kTrain); }),
              HasSubstr("no such folder"));
  EXPECT_THROW(read_dataset("imagenet", "", Split::kTest), UserError);
  write("val", "a file");
  EXPECT_THAT(error(), HasSubstr("/val: cannot be listed: Not a directory"));
  std::filesystem::remove(folder_ / "val");
  write("ILSVRC2012_val_labels.json", "{}");
  std::filesystem::create_directories(folder_ / "val");
  EXPECT_THAT(error(), HasSubstr("/val: holds no .JPEG"));
  class_folders("val", 1);
  image("val/loose.jpg", 1);
  EXPECT_THAT(error(), HasSubstr("/val: holds class folders and images beside them"));
}

TEST_F(Imagenet, TrainingImagesAreMixed) {
  synsets();
  for (int label = 0; label < 8; ++label)
    for (int i = 0; i < 8; ++i)
      image("train/" + wnid(label) + "/" + wnid(label) + "_" + std::to_string(i) + ".JPEG",
            8 * label + i);
  const Dataset all = read(Split::kTrain);
  EXPECT_EQ(all.size(), 64);
  const Dataset some = read(Split::kTrain, {16});
  EXPECT_EQ(some.hash(), all.first(16).hash());
  const std::set<std::int64_t> labels(some.labels().begin(), some.labels().end());
  EXPECT_GE(labels.size(), 6);  // of 8; sorted names would show 2
  for (std::size_t i = 0; i < 64; ++i) EXPECT_EQ(grays(all)[i] / 8, all.labels()[i]);
}

/// 40 images of their own sizes, of which a few may be spoilt.
class FortyImages : public Imagenet {
 protected:
  void SetUp() override {
    std::string labels;
    for (int i = 0; i < 40; ++i) {
      write(file(i), make_jpeg(waves(20 + i, 61 - i, 3), 20 + i, 61 - i));
      labels += (i ? ",\"" : "{\"") + std::to_string(100 + i) + "\":" + std::to_string(i);
    }
    write("ILSVRC2012_val_labels.json", labels + "}");
  }
  static std::string file(int i) { return "val/" + std::to_string(100 + i) + ".JPEG"; }
  void spoil(int i) const { write(file(i), "spoilt"); }
};

TEST_F(FortyImages, AreTheSameOnAnyNumberOfThreads) {
  const Dataset one = read();
  EXPECT_EQ(one.size(), 40);
  for (const int threads : {2, 3, 8, 64})
    EXPECT_EQ(read(Split::kTest, {-1, threads}).hash(), one.hash()) << threads;
  EXPECT_EQ(read(Split::kTest, {7, 3}).hash(), one.first(7).hash());
  EXPECT_EQ(read(Split::kTest, {1000, 3}).size(), 40);
}

TEST_F(FortyImages, OnlyThoseAskedForAreRead) {
  spoil(7);
  EXPECT_EQ(read(Split::kTest, {7, 4}).size(), 7);
  EXPECT_THAT(error(Split::kTest, {8, 4}), HasSubstr("/107.JPEG: is neither"));
}

TEST_F(FortyImages, TheFirstBrokenOneIsNamedWhateverTheThreads) {
  for (const int i : {11, 12, 13, 14, 39}) spoil(i);
  for (int round = 0; round < 20; ++round)
    EXPECT_THAT(error(Split::kTest, {-1, 1 + round % 6}), HasSubstr("/111.JPEG: is neither"));
}

TEST_F(FortyImages, BrokenOnesAreSkippedWhereThatIsAskedFor) {
  const Dataset good = read();
  for (const int i : {0, 3, 9}) spoil(i);
  const Dataset some = read(Split::kTest, {8, 3, true});
  EXPECT_THAT(some.labels(), ElementsAre(1, 2, 4, 5, 6, 7, 8, 10));
  EXPECT_THAT(read(Split::kTest, {-1, 2, true}).labels(), testing::SizeIs(37));
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_TRUE(
        std::equal(some.pixels().begin() + static_cast<std::ptrdiff_t>(i * kImageBytes),
                   some.pixels().begin() + static_cast<std::ptrdiff_t>((i + 1) * kImageBytes),
                   good.pixels().begin() + some.labels()[i] * std::ptrdiff_t{kImageBytes}))
        << i;
  for (int i = 0; i < 40; ++i) spoil(i);
  EXPECT_THAT(error(Split::kTest, {8, 3, true}), HasSubstr("/100.JPEG: cannot be read, and"));
}

TEST_F(FortyImages, AStopEndsTheReading) {
  request_stop(SIGTERM);
  try {
    read();
    ADD_FAILURE() << "read on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kStopped);
  }
  request_stop(0);
}

}  // namespace
}  // namespace sentinel
