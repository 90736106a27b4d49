#include "file_kind.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <string_view>

#include "sentinel/core/text.hpp"

namespace sentinel {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::size_t offset;
  std::string_view begin, what;
};

constexpr std::array<Kind, 14> kKinds{{
    {0, "version https://git-lfs"sv,
     "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"},
    {0, "\x1f\x8b"sv,
     "compressed with gzip; unpack it with gunzip, or tar xzf where it is a .tar.gz"},
    {0, "BZh"sv, "compressed with bzip2; unpack it with bunzip2"},
    {0, "\xfd\x37zXZ\0"sv, "compressed with xz; unpack it with unxz"},
    {0, "\x28\xb5\x2f\xfd"sv, "compressed with zstd; unpack it with unzstd"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive; unpack it"},
    {0, "Rar!"sv, "a RAR archive; unpack it"},
    {257, "ustar"sv, "a tar archive; unpack it with tar xf and give the checkpoint in it"},
    {0, "\x89HDF\r\n\x1a\n"sv,
     "an HDF5 file: a Keras network, which is not read, or a result or ranking of sentinelnn, "
     "which holds no network; give a PyTorch checkpoint"},
    {0, "\x93NUMPY"sv, "a NumPy array, not a state_dict; save the state_dict with torch.save"},
    {4, "TFL3"sv, "a TensorFlow Lite network, which is not read; give a PyTorch checkpoint"},
    {0, "\x08\x01\x12"sv,
     "a SavedModel of TensorFlow, which is not read; give a PyTorch checkpoint"},
    {0,
     "\x7f"
     "ELF"sv,
     "a program or library, not a checkpoint"},
    {0, "%PDF"sv, "a PDF document, not a checkpoint"},
}};

std::string_view view(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The first letters in lower case, without white space and byte order mark before them.
std::string beginning(std::string_view text) {
  if (text.substr(0, 3) == "\xef\xbb\xbf"sv) text.remove_prefix(3);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  std::string begin(text.substr(0, 16));
  for (char& c : begin) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return begin;
}

/// ModelProto: the field ir_version (3 or later), then one of those that follow it.
bool is_onnx(std::string_view text) {
  constexpr std::string_view kNext = "\x12\x1a\x22\x28\x32\x3a\x42";
  return text.size() > 2 && text[0] == '\x08' && text[1] >= 3 && text[1] < 32 &&
         kNext.find(text[2]) != std::string_view::npos;
}

bool is_plain_text(std::string_view text) {
  text = text.substr(0, 512);
  return std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == 0x7f || (byte < 32 && !std::isspace(byte));
  });
}

std::string first_bytes(std::string_view text) {
  std::string list;
  for (const char c : text.substr(0, 8)) {
    std::array<char, 4> hex{};
    std::snprintf(hex.data(), hex.size(), "%02x ",
                  static_cast<unsigned>(static_cast<unsigned char>(c)));
    list += hex.data();
  }
  if (!list.empty()) list.pop_back();
  return list;
}

std::string kind_of(std::string_view text) {
  for (const Kind& kind : kKinds)
    if (text.size() > kind.offset && text.substr(kind.offset, kind.begin.size()) == kind.begin)
      return std::string(kind.what);
  const std::string begin = beginning(text);
  if (begin.rfind("<!doctype", 0) == 0 || begin.rfind("<html", 0) == 0 ||
      begin.rfind("<head", 0) == 0 || begin.rfind("<?xml", 0) == 0)
    return "a web page or a server's message: the download gave no checkpoint; download it again "
           "from the link of the file itself";
  if (begin.rfind("{", 0) == 0 || begin.rfind("[", 0) == 0)
    return "a JSON text, not a checkpoint; give the file that holds the weights";
  if (is_onnx(text)) return "an ONNX network, which is not read; give the PyTorch checkpoint";
  if (is_plain_text(text)) return "a text, not a checkpoint; give a file that torch.save wrote";
  return "of no known kind (it begins with the bytes " + first_bytes(text) +
         "); give a file that torch.save or safetensors wrote, or download it again";
}

/// Globals that begin so; an empty reason stands for a whole network.
struct Refusal {
  std::string_view global, why;
};
constexpr std::array<Refusal, 12> kRefusals{{
    {"torch._utils._rebuild_qtensor",
     "a quantised tensor of a kind that is not read; save its dequantize()"},
    {"torch.QInt", "a quantised tensor of a kind that is not read; save its dequantize()"},
    {"torch.QUInt", "a quantised tensor of a kind that is not read; save its dequantize()"},
    {"torch._utils._rebuild_sparse", "a sparse tensor, which is not read; save its to_dense()"},
    {"torch.Complex", "a complex tensor, which no layer here has; save real weights"},
    {"torch._utils._rebuild_tensor_v3",
     "a tensor of a type that is not read (8-bit floats, unsigned integers of 16 bits or more); "
     "convert it to float32"},
    {"torch._utils._rebuild_meta_tensor",
     "a tensor of the device meta, which has no values; save the network with its weights"},
    {"torch._tensor._rebuild_from_type",
     "a subclass of torch.Tensor; save plain tensors, such as tensor.as_subclass(torch.Tensor)"},
    {"torch.storage._load_from_bytes",
     "a tensor written by pickle.dump; load the file in Python and save it with torch.save"},
    {"torch.jit.", "a TorchScript module inside a pickle; save it with torch.jit.save"},
    {"torch.nn.modules.", ""},
    {"torch.nn.parallel.", ""},
}};

}  // namespace

std::string what_file(const Bytes& bytes) {
  if (bytes.empty()) return "the file is empty; download or save it again";
  return "not a PyTorch checkpoint: this file is " + kind_of(view(bytes));
}

std::string what_archive(const std::vector<std::string>& records) {
  const auto any = [&](std::string_view end) {
    return std::any_of(records.begin(), records.end(),
                       [&](const std::string& name) { return ends_with(name, end); });
  };
  if (any(".npy")) return ": it is a NumPy archive (npz)";
  if (any("model.weights.h5")) return ": it is a Keras network";
  if (any("saved_model.pb")) return ": it holds a SavedModel of TensorFlow";
  for (const char* end : {".pth", ".pt", ".bin", ".safetensors", ".ckpt"})
    if (any(end)) return std::string(": it holds a ") + end + " file, unpack it";
  return "";
}

std::string why_refused(const std::string& global, bool whole) {
  constexpr const char* kWhole =
      "a whole network as Python objects (torch.save(net)), which would need its code; load it in "
      "Python and save net.state_dict(), or the network traced by torch.jit.trace";
  for (const Refusal& refusal : kRefusals)
    if (global.rfind(refusal.global, 0) == 0)
      return refusal.why.empty() ? kWhole : std::string(refusal.why);
  if (whole)
    return "a Python object, not a dictionary of tensors (a network saved whole by "
           "torch.save(net)?); load it in Python and save net.state_dict(), or the network traced "
           "by torch.jit.trace";
  return "";
}

}  // namespace sentinel
