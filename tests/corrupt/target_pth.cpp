// Checkpoints: .pth of both formats, safetensors, the arrays of CIFAR's Python release.
#include <ATen/ATen.h>

#include "corrupt/hostile_pth.hpp"
#include "corrupt/small_network.hpp"
#include "corrupt/target.hpp"
#include "corrupt/zip_repair.hpp"
#include "io/numpy_pickle.hpp"
#include "models/families.hpp"
#include "models/weights_choice.hpp"
#include "sentinel/models/model.hpp"

namespace sentinel::test {
namespace {

void read_arrays(const Bytes& bytes) {
  const Pickle pickle = read_pickle(bytes.data(), bytes.size(), "fuzz", 0, numpy_globals());
  if (const PickleValue* data = find_key(pickle, pickle.root_value(), "data"))
    read_byte_matrix(pickle, *data);
}

void read_weights(const Bytes& bytes) {
  static const Family& family = family_of("resnet20");
  const WeightsFile file = parse_weights(bytes, "fuzz");
  choose_weights(file, "fuzz", family, 10, "");
  if (file.metadata) parse_model(bytes, "fuzz", ModelChoice{});
}

/// A pickle, which as a whole file is of the old format, also within a zip.
bool read_file_of_weights(const Bytes& bytes) {
  const bool good = accepted([&] { read_weights(bytes); });
  if (bytes.empty() || bytes[0] != std::byte{0x80}) return good;
  accepted([&] { read_weights(wrap_pickle(to_text(bytes), Bytes(64))); });
  accepted([&] { read_arrays(bytes); });
  return good;
}

Bytes safetensors(const std::string& header, std::size_t data) {
  ByteWriter out;
  out.write<std::uint64_t>(header.size());
  out.text(header);
  out.text(std::string(data, '\1'));
  return out.take();
}

/// The pickles of zips, which may grow and shrink.
Bytes pickle_in(const Bytes& zip) {
  const std::string_view text = to_text(zip);
  const std::size_t begin = text.find("\x80\x02"), end = text.find("PK\x03\x04", begin);
  return begin == std::string_view::npos ? Bytes() : to_bytes(text.substr(begin, end - begin));
}

std::vector<Bytes> seeds() {
  std::vector<Bytes> all{
      serialize_pth(small_weights(Small::kHardened), small_record(Small::kHardened)),
      serialize_pth(small_weights(Small::kPlain), small_record(Small::kPlain)),
      good_zip_checkpoint(), good_legacy_checkpoint(), pickle_in(good_zip_checkpoint())};
  for (const HostileFile& file : hostile_checkpoints())
    if (file.bytes.size() < 4000) all.push_back(file.bytes);
  all.push_back(safetensors(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BOOL","shape":[],"data_offsets":[24,25]}})",
      25));
  all.push_back(
      to_bytes("\x80\x02}(U\x04"
               "dataq\x01"
               "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
               "K\x00\x85U\x01"
               "btR(K\x01K\x02K\x03\x86"
               "cnumpy\ndtype\n(U\x02u1K\x00K\x01tR\x89"
               "U\x06"
               "abcdeftbU\x06labels](K\x01K\x02"
               "eu."));
  return all;
}

}  // namespace

Target pth_target() {
  return {"pth",
          seeds(),
          {"ctorch._utils\n_rebuild_tensor_v2\n",
           "ctorch._utils\n_rebuild_parameter\n",
           "ccollections\nOrderedDict\n",
           "ctorch\nFloatStorage\n",
           "ctorch\nBoolStorage\n",
           "cnumpy.core.multiarray\n_reconstruct\n",
           "cnumpy\ndtype\n",
           "c_codecs\nencode\n",
           "\x80\x02",
           "\x85",
           "\x86",
           "\x87",
           "\x8a\x08",
           "\x8c\x04",
           "\x93",
           "\x94",
           "}(",
           "](",
           ")R",
           "tQ",
           "u.",
           "PK\x01\x02",
           "PK\x03\x04",
           "PK\x05\x06",
           "PK\x06\x06",
           "PK\x06\x07",
           "\"dtype\":\"F16\"",
           "\"shape\":[",
           "\"data_offsets\":[",
           "archive/data/0",
           "archive/sentinelnn.json",
           "archive/byteorder",
           "archive/constants.pkl"},
          repair_zip,
          read_file_of_weights};
}

}  // namespace sentinel::test
