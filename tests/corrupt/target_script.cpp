// TorchScript archives, read by our own readers alone: nothing is given to LibTorch. An input is a
// zip, or its records as text, which may then grow and shrink: "\n@@code/__torch__/net.py\n...".
#include <algorithm>

#include "corrupt/small_network.hpp"
#include "corrupt/target.hpp"
#include "corrupt/zip_repair.hpp"
#include "io/zip.hpp"
#include "sentinel/io/script_file.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/models/script.hpp"
#include "unit/store_fixture.hpp"

namespace sentinel::test {
namespace {

constexpr std::string_view kRecord = "\n@@";

/// The archive of records in a text.
Bytes zipped(std::string_view text) {
  ZipWriter zip;
  for (std::size_t begin = text.find(kRecord); begin != std::string_view::npos;) {
    begin += kRecord.size();
    const std::size_t next = text.find(kRecord, begin);
    const std::string_view record = text.substr(begin, next - begin);
    const std::size_t line = std::min(record.find('\n'), record.size());
    const std::string_view content = record.substr(std::min(line + 1, record.size()));
    zip.add("net/" + std::string(record.substr(0, line)), content.data(), content.size());
    begin = next;
  }
  return zip.finish();
}

/// The records of an archive as text, without the places of code in Python's source.
std::string unzipped(const Bytes& file) {
  std::string text;
  ZipArchive archive(file, "seed");
  std::vector<std::string> names = archive.names();
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name.find(".debug_pkl") != std::string::npos) continue;
    const ZipArchive::Record record = archive.read(name);
    text += std::string(kRecord) + name.substr(name.find('/') + 1) + "\n";
    text.append(reinterpret_cast<const char*>(record.data), record.size);
  }
  return text;
}

bool same_tensors(const StateDict& a, const StateDict& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.dtype() == y.second.dtype() &&
           x.second.sizes() == y.second.sizes() &&
           (x.second.numel() == 0 ||
            std::memcmp(x.second.data_ptr(), y.second.data_ptr(), x.second.nbytes()) == 0);
  });
}

/// What LibTorch would be given is read again as the same network.
void compare(const Bytes& file, const Bytes& clean) {
  if (clean.size() > 4096 + 40 * file.size())
    throw std::runtime_error("a checked archive is far larger than it was");
  if (checked_script(clean, "clean") != clean)
    throw std::runtime_error("a checked archive is checked to another one");
  ScriptContents before, after;
  if (!accepted([&] { before = read_script(file, "fuzz"); })) return;
  if (!accepted([&] { after = read_script(clean, "clean"); })) return;  // too small for its tensors
  if (!same_tensors(before.tensors, after.tensors) || !after.refused.empty())
    throw std::runtime_error("a checked archive holds another network");
}

bool read_archive(const Bytes& input) {
  Bytes file = input, clean;
  const bool whole = to_text(input).substr(0, 2) == "PK";
  if (!whole && !accepted([&] { file = zipped(to_text(input)); })) return false;
  accepted([&] { read_script_numbers(file, "fuzz"); });
  accepted([&] { read_script(file, "fuzz"); });
  if (!accepted([&] { clean = checked_script(file, "fuzz"); })) return false;
  compare(file, clean);
  return true;
}

Bytes exported(Small kind) {
  const TempDir folder;
  const Bytes checkpoint = serialize_pth(small_weights(kind), small_record(kind));
  export_script(parse_model(checkpoint, "seed", ModelChoice{}), folder / "net.ts");
  return read_file(folder / "net.ts");
}

// ---- a network as PyTorch writes it, with what our own do not have
// -------------------------------

std::string text(const std::string& value) {
  return std::string("X") + static_cast<char>(value.size()) + std::string(3, '\0') + value;
}

/// Of one number, in a storage.
std::string tensor(const std::string& key) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" +
         text(key) + text("cpu") + "K\x01tQK" + std::string(1, '\0') + "(K\x01t(K\x01t\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

std::string list(const std::string& kind, const std::string& values) {
  return "ctorch.jit._pickle\nbuild_" + kind + "list\n(](" + values + "etR";
}

std::string object(const std::string& name, const std::string& attributes) {
  return "c__torch__.net\n" + name + "\n)\x81}(" + attributes + "ub";
}

std::string attribute(const std::string& name, const std::string& value) {
  return text(name) + value;
}

std::string pickled_network() {
  const std::string weight = tensor("0") + "q\x01", again = "h\x01";
  return "\x80\x02" +
         object("Net",
                attribute("training", "\x89") + attribute("steps", "K\x02") +
                    attribute("b", weight) + attribute("sizes", list("int", "K\x01K\x02")) +
                    attribute("sentinelnn_mean", list("double", "G?\xe0" + std::string(6, '\0'))) +
                    attribute("flags", list("bool", "\x88\x89")) +
                    attribute("0", list("tensor", tensor("1"))) +
                    attribute("pair", "(K\x01N" + text("a") + "t") +
                    attribute("names", "ctorch.jit._pickle\nrestore_type_tag\n}(" + text("a") +
                                           "K\x01u" + text("Dict[str, int]") + "\x86R") +
                    attribute("where", "ctorch\ndevice\n" + text("cpu") + "\x85R") +
                    attribute("part", object("Part", attribute("weight", again)))) +
         ".";
}

const char* const kCode = R"(class Net(Module):
  __parameters__ = []
  __buffers__ = ["b", ]
  __annotations__ = []
  __annotations__["0"] = List[Tensor]
  part : __torch__.net.Part
  training : bool
  b : Tensor
  sizes : List[int]
  names : Dict[str, int]
  pair : Tuple[int, Optional[int], str]
  steps : int
  def forward(self: __torch__.net.Net,
    x: Tensor) -> Tensor:
    part = self.part
    y, n, = (part).forward(x, ), torch.size(x, 1)
    if torch.__isnot__(y, None):
      y0 = torch.conv2d(y, CONSTANTS.c0, None, [1, 1], [0, 0])
    else:
      ops.prim.RaiseException("none")
      y0 = y
    for i in range(self.steps):
      y0 = torch.add_(y0, torch.mul(n, -1.5e-3), alpha=1)
    _0 = annotate(List[int], [torch.floordiv(n, 2), ])
    y1 = torch.cat(getattr(self, "0"), 0)
    _1 = __torch__.net.twice(y0, )
    return torch.flatten(unchecked_cast(Tensor, _1), 1, -1)
class Part(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  weight : Tensor
  def forward(self: __torch__.net.Part,
    x: Tensor) -> Tensor:
    return torch.mul(x, self.weight)
def twice(x: Tensor) -> Tensor:
  return torch.add(x, x)
)";

std::string network_of_pytorch() {
  return "\n@@code/__torch__/net.py\n" + std::string(kCode) + "\n@@constants.pkl\n\x80\x02" +
         tensor("0") + "\x85.\n@@constants/0\n\1\2\3\4\n@@data.pkl\n" + pickled_network() +
         "\n@@data/0\n\1\2\3\4\n@@data/1\n\1\2\3\4\n@@version\n3\n";
}

std::vector<Bytes> seeds() {
  const Bytes plain = exported(Small::kPlain);
  std::vector<Bytes> all{to_bytes(network_of_pytorch()), zipped(network_of_pytorch()), plain,
                         to_bytes(unzipped(plain)), to_bytes(unzipped(exported(Small::kHardened)))};
  for (const char* code :
       {"import torch\nop_version_set = 1\n", "class A(Module):\n  def __setstate__(self):\n",
        "class A(NamedTuple):\n  a : int\n  b : Tensor\n",
        "def f(x):\n  while True:\n    y = \"a\\n\"\n  return 1.e-05\n"})
    all.push_back(to_bytes("\n@@code/a.py\n" + std::string(code) +
                           "\n@@constants.pkl\n\x80\x02).\n@@data.pkl\n\x80\x02" +
                           object("Net", "") + "."));
  return all;
}

std::vector<std::string> script_words() {
  std::vector<std::string> all = words(
      R"(torch.add( torch.save( torch.floordiv( torch.remainder( ops.prim. ops.aten. CONSTANTS.c1
         __torch__.net.Net __torch__.net.f( .forward( __parameters__ __buffers__ __annotations__
         __setstate__ __init__ annotate( unchecked_cast( uninitialized( getattr( isinstance(
         List[ Dict[str, Optional[ Tuple[()] Union[ Final[int] NoneType torch.classes inf -inf
         1.e400 0x1 1j -> ' """ \\ [[ (( {{ )) == data.pkl code/ .py constants.pkl version byteorder
         .data/version model.json)");
  for (const char* word : {"\n@@",
                           "\n@@data/0\n",
                           "\n@@code/__torch__/a.py\n",
                           "\n  def f(self,\n    x: Tensor):\n",
                           "\n    if ",
                           ":\n      ",
                           "\n    else:\n",
                           "\n    for i in range(",
                           "\n    while ",
                           "\nclass A(Module):\n  ",
                           "\nclass A(NamedTuple):\n  ",
                           "c__torch__.net\nNet\n)\x81}(",
                           "ctorch._utils\n_rebuild_tensor_v2\n((",
                           "ctorch\nFloatStorage\n",
                           "ctorch\nLongStorage\n",
                           "ctorch.jit._pickle\nbuild_intlist\n(](",
                           "ctorch.jit._pickle\nrestore_type_tag\n",
                           "ctorch\ndevice\n",
                           "ccollections\nOrderedDict\n)R",
                           "\x80\x02",
                           "\x81",
                           "\x85",
                           "\x86",
                           "\x87",
                           "\x8a\x08",
                           "q\x05",
                           "h\x05",
                           "}(",
                           "](",
                           "tQ",
                           "etR",
                           "ub",
                           "."})
    all.push_back(word);
  return all;
}

void repair(Bytes& file) {
  if (to_text(file).substr(0, 2) == "PK") repair_zip(file);
}

}  // namespace

Target script_target() {
  return {"script", seeds(), script_words(), repair, read_archive};
}

}  // namespace sentinel::test
