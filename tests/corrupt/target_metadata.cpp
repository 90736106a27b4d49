// Small files of text: the record of a checkpoint, tables beside images, control groups, constants.
// The first letter of an input says which it is.
#include <ATen/ATen.h>

#include <cmath>
#include <filesystem>

#include "core/control_groups.hpp"
#include "corrupt/target.hpp"
#include "io/imagenet.hpp"
#include "sentinel/core/cpus.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/models/model.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

void write_text(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

/// The network of the records below.
StateDict small_weights() {
  StateDict state;
  state.set("conv.weight", at::ones({2, 3, 1, 1}));
  state.set("fc.weight", at::ones({2, 2}));
  state.set("fc.bias", at::ones({2}));
  return state;
}

void read_record_of_checkpoint(const std::string& text) {
  static const StateDict weights = small_weights();
  const Bytes file = serialize_pth(weights, text);
  accepted([&] { parse_model(file, "fuzz.pth", ModelChoice{}); });
  accepted([&] { read_provenance(file, "fuzz.pth"); });
  accepted([&] { recorded_normalisation(file, "fuzz.pth"); });
}

/// A data set of two classes with a table of the fuzzer's beside it.
class ImageFolder {
 public:
  explicit ImageFolder(bool class_folders) {
    std::filesystem::create_directories(folder_ / "val");
    for (const char* name : {"n01", "n02"}) {
      const std::string stem = folder_ / (std::string("val/") + name);
      if (class_folders) std::filesystem::create_directories(stem);
      write_text(stem + (class_folders ? "/a.png" : ".png"), "x");
    }
  }

  void read(const std::string& table, const std::string& text) {
    static const DatasetInfo two{"imagenet", 2, {3, 224, 224}};
    write_text(folder_ / table, text);
    accepted([&] { imagenet_files(two, folder_.path(), Split::kTest); });
    std::filesystem::remove(folder_ / table);
  }

 private:
  TempDir folder_;
};

void read_constants(const std::string& text) {
  NormalisationChoice choice;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(',', begin);
    (choice.mean.size() <= choice.std.size() ? choice.mean : choice.std)
        .push_back(text.substr(begin, end - begin));
  }
  accepted([&] { in_words(chosen(choice, {})); });
}

class Texts {
 public:
  void read(const Bytes& bytes) {
    if (bytes.empty()) return;
    const std::string text(to_text(bytes).substr(1));
    switch (std::to_integer<char>(bytes[0])) {
      case 'i':
        return named_.read("imagenet_class_index.json", text);
      case 's':
        return named_.read("LOC_synset_mapping.txt", text);
      case 'c':
        return flat_.read("LOC_val_solution.csv", text);
      case 'l':
        return flat_.read("ILSVRC2012_val_labels.json", text);
      case 'g':
        control_groups("cpu", text);
        return;
      case 'n':
        return read_constants(text);
      default:
        read_record_of_checkpoint(text);
    }
  }

 private:
  ImageFolder named_{true}, flat_{false};
};

const char* const kRecord =
    R"(r{"schema_version":2,"architecture":"mine","dataset":"cifar10","classes":2,)"
    R"("layers":{"conv":{"out_channels":2},"fc":{"out_channels":2}},"restriction":null,)"
    R"("weight_bounds":null,"origin":{"conv":{"in":[0,1,2],"out":[0,1]}},)"
    R"("normalisation":{"mean":[0.5,0.5,0.5],"std":[0.2,0.2,0.2]},)"
    R"("provenance":{"parents":[],"command":"x","seed":1,"version":"0"},"structure":[)"
    R"({"op":"input","name":"input","inputs":[],"channels":3,"size":[32,32]},)"
    R"({"op":"conv","name":"conv","inputs":[0],"kernel":[1,1],"stride":[1,1],"padding":[0,0],)"
    R"("dilation":[1,1],"groups":1,"bias":false,"out":2},)"
    R"({"op":"relu","name":"relu","inputs":[1]},)"
    R"({"op":"adaptive_avg_pool","name":"pool","inputs":[2],"size":[1,1]},)"
    R"({"op":"flatten","name":"flat","inputs":[3],"pixels":1},)"
    R"({"op":"linear","name":"fc","inputs":[4],"out":2,"bias":true}]})";

const char* const kProtected =
    R"(r{"schema_version":1,"architecture":"resnet20","dataset":"cifar10","classes":10,)"
    R"("layers":{"conv1":{"out_channels":16,"duplicated":2,"correction":"range","layout":"own"}},)"
    R"("restriction":{"kind":"ranger","per":"layer"},"weight_bounds":"channel","origin":{}})";

}  // namespace

Target metadata_target() {
  const auto texts = std::make_shared<Texts>();
  std::vector<Bytes> seeds;
  for (const char* text : {kRecord, kProtected, R"(i{"0":["n01","tench"],"1":["n02","goldfish"]})",
                           "sn01 tench, Tinca tinca\nn02 goldfish\n",
                           "cImageId,PredictionString\nn01,n01 1 2 3 4\nn02,n02 1 2 3 4\n",
                           R"(l{"n01.png":0,"n02.png":1})", "g4:cpu,cpuacct:/a/b\n0::/c\n",
                           "n0.5,0.5,0.5,0.2,0.2,0.2", "nimagenet"})
    seeds.push_back(to_bytes(text));
  return {"metadata",
          seeds,
          {"{",
           "[",
           "null",
           "1e999",
           "-1",
           "18446744073709551615",
           "\"op\":\"max_pool\"",
           "\"op\":\"avg_pool\"",
           "\"op\":\"batch_norm\"",
           "\"op\":\"add\"",
           "\"op\":\"multiply\"",
           "\"op\":\"concat\"",
           "\"op\":\"slice\"",
           "\"op\":\"shuffle\"",
           "\"op\":\"affine\"",
           "\"op\":\"dropout\"",
           "\"ceil\":true",
           "\"eps\":",
           "\"begin\":0",
           "\"end\":1",
           "\"scale\":[",
           "\"shift\":[",
           "\"duplicated\":1",
           "16777216",
           "\"inputs\":[0,0]",
           "nan",
           "inf",
           "cifar10-2023"},
          [](Bytes&) {},
          [texts](const Bytes& bytes) { texts->read(bytes); }};
}

}  // namespace sentinel::test
