// Small files of text: the record of a checkpoint, tables beside images, control groups, constants.
// The first letter of an input says which it is.
#include <filesystem>

#include "core/control_groups.hpp"
#include "corrupt/small_network.hpp"
#include "corrupt/target.hpp"
#include "io/imagenet.hpp"
#include "sentinel/core/cpus.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/io/normalisation.hpp"
#include "sentinel/models/model.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

void write_text(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  std::fwrite(text.data(), 1, text.size(), file);
  std::fclose(file);
}

bool read_record_of_checkpoint(const std::string& text) {
  static const StateDict plain = small_weights(Small::kPlain),
                         hardened = small_weights(Small::kHardened),
                         stored = small_weights(Small::kStored);
  const bool duplicates = text.find("\"duplicated\"") != std::string::npos;
  const bool stores = text.find("\"storage\"") != std::string::npos;
  const Bytes file = serialize_pth(duplicates ? hardened : stores ? stored : plain, text);
  const bool good = accepted([&] { parse_model(file, "fuzz.pth", ModelChoice{}); });
  accepted([&] { read_provenance(file, "fuzz.pth"); });
  accepted([&] { recorded_normalisation(file, "fuzz.pth"); });
  return good;
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

  bool read(const std::string& table, const std::string& text) {
    static const DatasetInfo two{"imagenet", 2, {3, 224, 224}};
    write_text(folder_ / table, text);
    const bool good = accepted([&] { imagenet_files(two, folder_.path(), Split::kTest); });
    std::filesystem::remove(folder_ / table);
    return good;
  }

 private:
  TempDir folder_;
};

bool read_constants(const std::string& text) {
  NormalisationChoice choice;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(',', begin);
    (choice.mean.size() <= choice.std.size() ? choice.mean : choice.std)
        .push_back(text.substr(begin, end - begin));
  }
  return accepted([&] { in_words(chosen(choice, {})); });
}

class Texts {
 public:
  bool read(const Bytes& bytes) {
    if (bytes.empty()) return false;
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
        return granted_cpus(text) > 0;
      case 'n':
        return read_constants(text);
      default:
        return read_record_of_checkpoint(text);
    }
  }

 private:
  ImageFolder named_{true}, flat_{false};
};

}  // namespace

Target metadata_target() {
  const auto texts = std::make_shared<Texts>();
  std::vector<Bytes> seeds{to_bytes("r" + small_record(Small::kPlain)),
                           to_bytes("r" + small_record(Small::kHardened)),
                           to_bytes("r" + small_record(Small::kStored))};
  for (const char* text : {R"(i{"0":["n01","tench"],"1":["n02","goldfish"]})",
                           "sn01 tench, Tinca tinca\nn02 goldfish\n",
                           "cImageId,PredictionString\nn01,n01 1 2 3 4\nn02,n02 1 2 3 4\n",
                           R"(l{"n01.png":0,"n02.png":1})", "g4:cpu,cpuacct:/a/b\n0::/c\n",
                           "g100000 100000", "n0.5,0.5,0.5,0.2,0.2,0.2", "nimagenet"})
    seeds.push_back(to_bytes(text));
  return {"metadata", seeds,
          words(R"({ [ null 1e999 -1 18446744073709551615 16777216 nan inf cifar10-2023
                "op":"max_pool" "op":"avg_pool" "op":"batch_norm" "op":"add" "op":"multiply"
                "op":"concat" "op":"slice" "op":"shuffle" "op":"affine" "op":"dropout" "ceil":true
                "eps":1 "begin":0 "end":1 "scale":[ "shift":[ "duplicated":1 "inputs":[0,0]
                "storage":{ conv.weight fc.weight conv.weight_scale fc.bias int4:channel+bch:8,4
                fp8:e4m3 int2:tensor fixed:0.1,trunc +repeat:31 +secded:128,zero +spw +zero-space
                +cep:d3 +tmr:31,30 +parity bf16)"),
          [](Bytes&) {}, [texts](const Bytes& bytes) { return texts->read(bytes); }};
}

}  // namespace sentinel::test
