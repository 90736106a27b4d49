#include <ATen/ATen.h>

#include "io_support.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {
namespace {

using test::data_error;
using test::TemporaryFolder;
using test::test_data;
using testing::ElementsAre;
using testing::HasSubstr;

/// One record of CIFAR's binary formats: label bytes, then an image of one value.
std::string record(const std::string& labels, char value) {
  return labels + std::string(3072, value);
}

void write(const std::string& path, const std::string& content) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_file_atomic(path, std::string_view(content));
}

TEST(Dataset, KnownNames) {
  EXPECT_EQ(dataset_info("cifar100").classes, 100);
  EXPECT_EQ(dataset_info("cifar10").mean[1], 0.48215827);
  try {
    dataset_info("mnist");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(
        error.what(),
        HasSubstr("dataset mnist is unknown; choose cifar10, cifar100, imagenet or synthetic"));
  }
}

TEST(Dataset, SerializationIsInvertible) {
  const Dataset data = synthetic_dataset(Split::kTest, 7, 3);
  const Dataset copy = Dataset::deserialize(data.serialize());
  EXPECT_EQ(copy.pixels(), data.pixels());
  EXPECT_EQ(copy.labels(), data.labels());
  EXPECT_EQ(copy.info().name, "synthetic");
  EXPECT_EQ(copy.info().std, data.info().std);
  EXPECT_EQ(copy.hash(), data.hash());
  Bytes cut = data.serialize();
  cut.resize(cut.size() - 9);
  EXPECT_THROW(Dataset::deserialize(cut), DataError);
}

TEST(Dataset, BatchesDoNotDependOnHowTheyAreCut) {
  const Dataset data = synthetic_dataset(Split::kTrain, 12, 3);
  const Batch all = data.batch(0, 12, {});
  EXPECT_THAT(all.images.sizes().vec(), ElementsAre(12, 3, 32, 32));
  EXPECT_TRUE(
      at::equal(at::cat({data.batch(0, 5, {}).images, data.batch(5, 12, {}).images}), all.images));
  const Batch picked = data.batch({11, 0, 11}, {});
  EXPECT_TRUE(at::equal(picked.images, all.images.index_select(0, at::tensor({11, 0, 11}))));
  EXPECT_TRUE(at::equal(picked.labels, all.labels.index_select(0, at::tensor({11, 0, 11}))));
  EXPECT_EQ(data.batch(4, 4, {}).images.size(0), 0);
  EXPECT_THROW(data.batch(0, 13, {}), Bug);
  EXPECT_THROW(data.batch({-1}, {}), Bug);
}

TEST(Dataset, NormalisesInSinglePrecision) {
  std::vector<std::uint8_t> pixels(3072);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i % 256);
  const Dataset data(dataset_info("cifar10"), pixels, {3});
  const at::Tensor x = at::tensor(at::ArrayRef<std::uint8_t>(pixels)).view({1, 3, 32, 32});
  const at::Tensor mean = at::tensor({0.49139968f, 0.48215827f, 0.44653124f}).view({1, 3, 1, 1});
  const at::Tensor std = at::tensor({0.24703233f, 0.24348505f, 0.26158768f}).view({1, 3, 1, 1});
  const at::Tensor expected = (x.to(at::kFloat) / at::full({1}, 255.f) - mean) / std;
  EXPECT_TRUE(at::equal(data.batch(0, 1, {}).images, expected));
}

TEST(Dataset, FirstAndHash) {
  const Dataset data = synthetic_dataset(Split::kTrain, 12, 3);
  EXPECT_EQ(data.first(5).hash(), synthetic_dataset(Split::kTrain, 5, 3).hash());
  EXPECT_EQ(data.first(-1).size(), 12);
  EXPECT_EQ(data.first(100).size(), 12);
  std::vector<std::int64_t> labels = data.labels();
  labels[3] ^= 1;
  EXPECT_NE(Dataset(data.info(), data.pixels(), labels).hash(), data.hash());
  EXPECT_THROW(Dataset(data.info(), data.pixels(), {1}), Bug);
}

// ---- CIFAR
// -------------------------------------------------------------------------------------------

TEST(Cifar, WriteAndReadAreInverse) {
  const TemporaryFolder folder;
  const Dataset train = synthetic_dataset(Split::kTrain, 23, 9);
  const Dataset test = synthetic_dataset(Split::kTest, 4, 9);
  write_cifar_binary(folder / "new/cifar", train, test);
  for (const std::string name : {"synthetic", "cifar10"}) {
    const Dataset read = read_dataset(name, folder / "new/cifar", Split::kTrain);
    EXPECT_EQ(read.pixels(), train.pixels());
    EXPECT_EQ(read.labels(), train.labels());
    EXPECT_EQ(read.info().name, name);
    EXPECT_EQ(read_dataset(name, folder / "new/cifar", Split::kTest).hash(), test.hash());
  }
  EXPECT_THROW(write_cifar_binary(folder / "x", train.first(4), test), UserError);
  EXPECT_THROW(write_cifar_binary(folder / "new/cifar/test_batch.bin/y", train, test),
               EnvironmentError);
}

TEST(Cifar, HundredClassesUseTheFineLabel) {
  const TemporaryFolder folder;
  write(folder / "cifar-100-binary/train.bin", record("\x07\x63", 'a') + record("\x07\x08", 'b'));
  const Dataset data = read_dataset("cifar100", folder.path(), Split::kTrain);
  EXPECT_THAT(data.labels(), ElementsAre(99, 8));
  EXPECT_EQ(data.pixels()[3071], 'a');
  EXPECT_EQ(data.pixels()[3072], 'b');
  EXPECT_EQ(read_dataset("cifar100", folder / "cifar-100-binary", Split::kTrain).size(), 2);
}

TEST(Cifar, DamageIsNamedWithFileAndOffset) {
  const TemporaryFolder folder;
  const std::string path = folder / "test_batch.bin";
  const auto error = [&](const std::string& content) {
    write(path, content);
    return data_error([&] { read_dataset("cifar10", folder.path(), Split::kTest); });
  };
  EXPECT_THAT(error(""), HasSubstr(path + ": at byte 0: the file is empty"));
  EXPECT_THAT(error(record("\x01", 'a') + "cut"), HasSubstr(path + ": at byte 3073:"));
  EXPECT_THAT(error(record("\x01", 'a') + record("\x0a", 'a')),
              HasSubstr(path + ": at byte 3073: the label 10"));
}

TEST(Cifar, MissingFilesAreListed) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& name, const std::string& place) {
    return data_error([&] { read_dataset(name, place, Split::kTrain); });
  };
  EXPECT_THAT(error("cifar10", folder / "none"), HasSubstr("no such folder"));
  for (const std::string place : {"/data_batch_1.bin", "/cifar-10-batches-bin/data_batch_1.bin",
                                  "/data_batch_1,", "/cifar-10-batches-py/data_batch_1"})
    EXPECT_THAT(error("cifar10", folder.path()), HasSubstr(folder.path() + place));
  EXPECT_THAT(error("cifar100", folder.path()), HasSubstr("/cifar-100-python/train"));
  write(folder / "data_batch_2.bin", record("\x01", 'a'));
  EXPECT_THAT(error("cifar10", folder.path()), HasSubstr("data_batch_1.bin: missing"));
  EXPECT_THROW(read_dataset("cifar10", "", Split::kTrain), UserError);
}

TEST(Cifar, BrokenPythonReleasesAreRefused) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& pickle) {
    write(folder / "test_batch", pickle);
    return data_error([&] { read_dataset("cifar10", folder.path(), Split::kTest); });
  };
  EXPECT_THAT(error(""), HasSubstr("test_batch"));
  EXPECT_THAT(error("\x80\x02"
                    "cos\nsystem\n."),
              HasSubstr("os.system"));
  EXPECT_THAT(error("\x80\x02]."), HasSubstr("a dictionary is wanted"));
  EXPECT_THAT(error("\x80\x02}."), HasSubstr("\"data\" is missing"));
  EXPECT_THAT(error("\x80\x02}(U\x04"
                    "dataK\x01U\x06labels]u."),
              HasSubstr("a NumPy array"));
}

TEST(Cifar, RealImagesAreRead) {
  const std::string folder = test_data("cifar10");
  if (folder.empty()) GTEST_SKIP() << "no shared test data";
  const Dataset test = read_dataset("cifar10", folder, Split::kTest);
  EXPECT_EQ(test.size(), 1017);
  EXPECT_THAT(test.first(5).labels(), ElementsAre(3, 8, 8, 0, 6));
  EXPECT_EQ(read_dataset("cifar10", folder, Split::kTrain).size(), 5 * 1017);
}

// ---- synthetic
// ---------------------------------------------------------------------------------------

TEST(Synthetic, ImagesDependOnSeedSplitAndIndexOnly) {
  const Dataset ten = synthetic_dataset(Split::kTrain, 10, 1);
  EXPECT_EQ(ten.hash(), synthetic_dataset(Split::kTrain, 30, 1).first(10).hash());
  EXPECT_NE(ten.hash(), synthetic_dataset(Split::kTest, 10, 1).hash());
  EXPECT_NE(ten.hash(), synthetic_dataset(Split::kTrain, 10, 2).hash());
  EXPECT_THROW(synthetic_dataset(Split::kTrain, 0, 1), UserError);
}

TEST(Synthetic, ClassesAreBalancedAndTheConstantsFit) {
  const Dataset data = synthetic_dataset(Split::kTrain, 500, 1);
  for (std::int64_t label = 0; label < 10; ++label)
    EXPECT_EQ(std::count(data.labels().begin(), data.labels().end(), label), 50);
  const at::Tensor images = data.batch(0, 500, {}).images;
  for (std::int64_t c = 0; c < 3; ++c) {  // 500 images know the mean to about 0.02
    EXPECT_NEAR(images.select(1, c).mean().item<float>(), 0, 0.08);
    EXPECT_NEAR(images.select(1, c).std().item<float>(), 1, 0.08);
  }
}

TEST(Synthetic, IsTheSameEverywhere) {
  // Pins the set: it is part of every result computed on it.
  EXPECT_EQ(synthetic_dataset(Split::kTest, 20, 1).hash(),
            "70177c032b1d35568506cf60122e083a786d0275d813e467e2d7d37c2a7a6b7f");
}

TEST(Synthetic, DefaultSizes) {
  EXPECT_EQ(read_dataset("synthetic", "", Split::kTest).size(), kSyntheticTest);
}

}  // namespace
}  // namespace sentinel
