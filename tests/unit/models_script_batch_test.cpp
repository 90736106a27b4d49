// TorchScript networks that hide the number of images in something, and twins of them that hide the
// number of channels there: the first are refused, the twins give PyTorch's logits.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/script.hpp"
#include "unit/io_support.hpp"
#include "unit/models_support.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using testing::HasSubstr;
using testing::TestWithParam;

constexpr std::int64_t kManyImages = 70;  // more than those that the import tries

/// A convolution and a linear layer behind lines that change x.
class Hiding {
 public:
  explicit Hiding(const std::string& lines) : module_("Net") {
    torch::jit::Module conv("Conv"), fc("Linear");
    conv.register_parameter("weight", test::values({4, 3, 3, 3}), false);
    fc.register_parameter("weight", test::values({10, 4}), false);
    module_.register_module("conv", conv);
    module_.register_module("fc", fc);
    module_.define(
        "def forward(self, x):\n" + lines +
        "  x = torch.relu(torch.conv2d(x, self.conv.weight, None, [8, 8], [0, 0], [1, 1], 1))\n"
        "  return torch.linear(torch.mean(x, [2, 3]), self.fc.weight)\n");
    module_.save(folder_ / "net.ts");
  }

  Graph import() const {
    return import_script(read_file(folder_ / "net.ts"), "net.ts", dataset_info("synthetic"));
  }

  void expect_same_logits() {
    const at::NoGradGuard no_grad;
    // LibTorch 1.13's optimiser loses changes of tensors in lists from the second call on.
    const torch::jit::GraphOptimizerEnabledGuard unoptimised(false);
    const Graph graph = import();
    for (const std::int64_t count : {std::int64_t{1}, kManyImages}) {
      const at::Tensor images = test::values({count, 3, 32, 32});
      const at::Tensor theirs = module_.forward({images}).toTensor();
      EXPECT_TRUE(at::allclose(logits(graph, images), theirs, test::kFloats, test::kFewFloats))
          << count << " images";
    }
  }

 private:
  test::TemporaryFolder folder_;
  torch::jit::Module module_;
};

std::string replaced(std::string text, char sign, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(sign, at)) != std::string::npos; at += by.size())
    text.replace(at, 1, by);
  return text;
}

/// `#` is the number of images, in twins that of channels, 3. `@` is what it is compared with.
struct Place {
  const char* name;
  const char* lines;
};

class HiddenNumber : public TestWithParam<Place> {};

TEST_P(HiddenNumber, IsFound) {
  const std::string lines =
      replaced(replaced(GetParam().lines, '#', "x.size(0)"), '@', std::to_string(kManyImages - 1));
  EXPECT_THAT(test::error_of<DataError>([&] { Hiding(lines).import(); }),
              HasSubstr("depends on the number of images"));
}

TEST_P(HiddenNumber, OfChannelsIsFollowed) {
  Hiding(replaced(replaced(GetParam().lines, '#', "x.size(1)"), '@', "2")).expect_same_logits();
}

const Place kPlaces[] = {
    {"Plain", "  if # > @:\n    x = torch.relu(x)\n"},
    {"Argument", "  x = x * (1.0 + float(# // @))\n"},
    {"ListInList", "  l = [[1]]\n  l[0][0] = #\n  if l[0][0] > @:\n    x = torch.relu(x)\n"},
    {"ListInListAsArgument", "  l = [[1]]\n  l[0][0] = # // @\n  x = x * (1.0 + l[0][0])\n"},
    {"SecondName", "  a = [1]\n  b = a\n  b.append(#)\n  if a[1] > @:\n    x = torch.relu(x)\n"},
    {"Extend", "  a = [1]\n  b = a\n  b.extend([#])\n  if a[1] > @:\n    x = torch.relu(x)\n"},
    {"Insert", "  a = [1]\n  b = a\n  b.insert(0, #)\n  if a[0] > @:\n    x = torch.relu(x)\n"},
    {"Plus", "  a = [1]\n  b = a\n  b += [#]\n  if a[1] > @:\n    x = torch.relu(x)\n"},
    {"Pop", "  a = [1, #]\n  if a.pop() > @:\n    x = torch.relu(x)\n"},
    {"Repeated", "  a = [1] * #\n  if len(a) > @:\n    x = torch.relu(x)\n"},
    {"SliceOfList",
     "  inner = [1]\n  outer = [inner, [2]]\n  part = outer[:1]\n  part[0].append(#)\n"
     "  if inner[1] > @:\n    x = torch.relu(x)\n"},
    {"Swapped",
     "  a = [[1], [2]]\n  b = a[0]\n  a[1] = b\n  a[1].append(#)\n"
     "  if b[1] > @:\n    x = torch.relu(x)\n"},
    {"TupleOfLists",
     "  t = ([1], [2])\n  t[0].append(#)\n  if t[0][1] > @:\n    x = torch.relu(x)\n"},
    {"Dict", "  d = {\"n\": #}\n  if d[\"n\"] > @:\n    x = torch.relu(x)\n"},
    {"DictByItem",
     "  d = {\"n\": 1}\n  d[\"n\"] = #\n  for v in d.values():\n"
     "    if v > @:\n      x = torch.relu(x)\n"},
    {"DictOfLists",
     "  d = {\"n\": [1]}\n  d[\"n\"].append(#)\n  if d[\"n\"][1] > @:\n    x = torch.relu(x)\n"},
    {"KeyOfDict", "  d = {1: 1}\n  d[#] = 1\n  if @ + 1 in d:\n    x = torch.relu(x)\n"},
    {"DictInTuple",
     "  t = ({\"a\": [[1]]}, 2)\n  t[0][\"a\"][0].append(#)\n  u = t[0][\"a\"]\n"
     "  if u[0][1] > @:\n    x = torch.relu(x)\n"},
    {"Tensor", "  if bool((torch.tensor([#]) > @).any()):\n    x = torch.relu(x)\n"},
    {"View",
     "  t = torch.zeros([2])\n  t[0:1].fill_(#)\n"
     "  if bool(t.sum() > @):\n    x = torch.relu(x)\n"},
    {"ViewAsArgument",
     "  t = torch.zeros([1, 1, 1, 1])\n  t.view([1]).fill_(float(# // @))\n  x = x + t\n"},
    {"CopyToView",
     "  t = torch.zeros([2])\n  t[0].copy_(torch.tensor(#))\n"
     "  if bool(t[0] > @):\n    x = torch.relu(x)\n"},
    {"Item",
     "  t = torch.zeros([3])\n  t[1] = #\n  if bool(t.sum() > @):\n    x = torch.relu(x)\n"},
    {"MaskedView",
     "  t = torch.zeros([3])\n  t[1:].masked_fill_(torch.tensor([True, False]), float(#))\n"
     "  if bool(t.sum() > @):\n    x = torch.relu(x)\n"},
    {"IndexCopy",
     "  t = torch.zeros([2])\n"
     "  t.view([2]).index_copy_(0, torch.tensor([0]), torch.tensor([float(#)]))\n"
     "  if bool(t[0] > @):\n    x = torch.relu(x)\n"},
    {"TensorInList",
     "  l = [torch.zeros([1])]\n  l.append(torch.zeros([1]))\n  l[1].add_(#)\n"
     "  if bool(torch.cat(l).sum() > @):\n    x = torch.relu(x)\n"},
    {"TensorInDict",
     "  d = {\"t\": torch.zeros([1])}\n  d[\"t\"].fill_(#)\n"
     "  if bool(d[\"t\"].sum() > @):\n    x = torch.relu(x)\n"},
    {"ChoiceOfTensors",
     "  l = [torch.zeros([1]), torch.ones([1])]\n  t = l.pop(# // (@ + 1) - 1)\n"
     "  if bool(t.sum() < 0.5):\n    x = torch.relu(x)\n"},
    {"ChoiceOfActivations", "  l = [x, torch.relu(x)]\n  x = l[# // (@ + 1) % 2]\n"},
    {"SizeOfTensor", "  if torch.zeros([#]).size(0) > @:\n    x = torch.relu(x)\n"},
    {"NumberOfParts", "  if len(torch.zeros([#]).split(@)) > 1:\n    x = torch.relu(x)\n"},
    {"Range", "  n = 0\n  for i in range(#):\n    n += 1\n  if n > @:\n    x = torch.relu(x)\n"},
    {"While", "  n = 0\n  while n < #:\n    n += 1\n  if n > @:\n    x = torch.relu(x)\n"},
    {"Text", "  if \"{}\".format(#) == \"{}\".format(@ + 1):\n    x = torch.relu(x)\n"},
    {"Condition", "  x = x * (2.0 if x.dim() == 4 and # > @ else 1.0)\n"},
    {"Window", "  x = torch.max_pool2d(x, [1 + # // @, 1], [1, 1])\n"},
};

INSTANTIATE_TEST_SUITE_P(Script, HiddenNumber, testing::ValuesIn(kPlaces),
                         [](const auto& place) { return std::string(place.param.name); });

/// A network that is refused with this reason, and one that looks like it.
struct Pair {
  const char* name;
  const char* refused;
  const char* reason;
  const char* taken;
};

class RefusedPair : public TestWithParam<Pair> {};

TEST_P(RefusedPair, IsRefusedWithItsReason) {
  EXPECT_THAT(test::error_of<DataError>([&] { Hiding(GetParam().refused).import(); }),
              HasSubstr(GetParam().reason));
}

TEST_P(RefusedPair, HasATwinThatIsTaken) {
  Hiding(GetParam().taken).expect_same_logits();
}

constexpr const char* kPath = "depends on the number of images";
constexpr const char* kImages = "only x[:] is supported";
constexpr const char* kName = "changed in place by another name";
constexpr const char* kMemory = "memory that nothing has written";

const Pair kPairs[] = {
    {"FirstSize", "  y = x.reshape(2, -1)\n  if y.size(1) == 107520:\n    x = torch.relu(x)\n",
     "makes a tensor whose first size is not the number of images",
     "  y = x.reshape(x.size(0), -1)\n  if y.size(1) == 3072:\n    x = torch.relu(x)\n"},
    {"Sparse",
     "  s = torch.zeros([1], layout=1)\n"
     "  s.copy_(torch.zeros([x.size(0)], layout=1))\n"
     "  if s.size(0) > 60:\n    x = torch.relu(x)\n",
     "makes a tensor that is not dense",
     "  s = torch.zeros([1])\n  if s.size(0) > 60:\n    x = torch.relu(x)\n"},
    {"CopiedSizes", "  s = list(x.shape)\n  if s[0] > 64:\n    x = torch.relu(x)\n", kPath,
     "  s = list(x.shape)\n  x = torch.relu(x.view(s[0], 3, 32, 32))\n"},
    {"MissingKey",
     "  d = {\"a\": x.size(0)}\n  n = d.get(\"a\")\n  if n is not None:\n    if n > 64:\n"
     "      x = torch.relu(x)\n",
     kPath, "  d = {\"a\": x}\n  y = d.get(\"b\")\n  if y is not None:\n    x = torch.relu(y)\n"},
    {"Length", "  if len(x) > 64:\n    x = torch.relu(x)\n", kPath,
     "  if len(x.shape) > 3:\n    x = torch.relu(x)\n"},
    {"Elements", "  x = x * float(1 + x.numel() // 199680)\n", kPath,
     "  x = x * float(1 + x.size(2) // 30)\n"},
    {"Sizes", "  if x.shape == [65, 3, 32, 32]:\n    x = torch.relu(x)\n", kPath,
     "  if x.shape[1:] == [3, 32, 32]:\n    x = torch.relu(x)\n"},
    {"Comprehension", "  l = [s for s in x.shape]\n  if l[0] > 64:\n    x = torch.relu(x)\n", kPath,
     "  l = [s for s in x.shape]\n  if l[1] > 2:\n    x = torch.relu(x)\n"},
    {"FirstImages", "  x = x[:64]\n", kImages, "  x = x[:][:, :64]\n"},
    {"LastImages", "  x = x[-64:]\n", kImages, "  x = x[:, -64:]\n"},
    {"RangeOfImages", "  x = torch.relu(x)[0:1000000]\n", kImages, "  x = torch.relu(x)[0:]\n"},
    {"NumberOfImages", "  x = x[:min(x.size(0), 64)]\n", kPath,
     "  x = x[:, :min(x.size(1), 64)]\n"},
    {"Narrow", "  x = x.narrow(0, 0, min(x.size(0), 64))\n", kPath,
     "  x = x.narrow(1, 0, min(x.size(1), 64))\n"},
    {"Rows", "  n = 0\n  for row in x:\n    n += 1\n  x = x * float(n)\n", kPath,
     "  n = 0\n  for part in x.chunk(3, 1):\n    n += 1\n  x = x * float(n)\n"},
    {"Empty", "  if bool(torch.empty([1]).sum() > 1e-30):\n    x = torch.relu(x)\n", kMemory,
     "  if bool(torch.ones([1]).sum() > 1e-30):\n    x = torch.relu(x)\n"},
    {"EmptyLike", "  x = x + torch.empty_like(torch.zeros([1]))\n", kMemory,
     "  x = x + torch.full_like(torch.zeros([1]), 0.5)\n"},
    {"NewEmpty", "  x = x + torch.zeros([1]).new_empty([1])\n", kMemory,
     "  x = x + torch.zeros([1]).new_full([1], 0.5)\n"},
    // Channels of one image alone are contiguous.
    {"Contiguous", "  if x[:, :2].is_contiguous():\n    x = torch.clamp(x, 0.0, 6.0)\n", kPath,
     "  if not x[:, :2].is_floating_point():\n    x = torch.clamp(x, 0.0, 6.0)\n"},
    {"SameTensor",
     "  part = x[:, :2]\n  if part.contiguous() is part:\n    x = torch.clamp(x, 0.0, 6.0)\n",
     kPath,
     "  part = x[:, :2]\n  if part.contiguous() is None:\n    x = torch.clamp(x, 0.0, 6.0)\n"},
    {"CopyOfManyOnly",
     "  y = torch.relu(x)\n  part = y[:, :2].contiguous()\n  part.clamp_(0.0, 6.0)\n  x = y\n",
     kName,
     "  y = torch.relu(x)\n  part = y[:, :3].clone()\n  part.clamp_(0.0, 6.0)\n  x = part\n"},
    {"Statistics",
     "  mean = torch.zeros([2])\n"
     "  y = torch.instance_norm(torch.ones([1, 2, 4]), None, None, mean, torch.ones([2]), True, "
     "0.1, "
     "1e-5, False)\n  x = x + y.sum()\n",
     "normalises by the batch",
     "  y = torch.instance_norm(torch.ones([1, 2, 4]), None, None, None, None, True, 0.1, 1e-5, "
     "False)\n  x = x + y.sum()\n"},
    {"TensorAsText", "  s = str(torch.zeros([3]))\n  if len(s) == 77:\n    x = torch.relu(x)\n",
     "writes a tensor as text", "  s = str(77)\n  if len(s) == 2:\n    x = torch.relu(x)\n"},
};

INSTANTIATE_TEST_SUITE_P(Script, RefusedPair, testing::ValuesIn(kPairs),
                         [](const auto& pair) { return std::string(pair.param.name); });

/// A backbone gives its stages by their names; messages tell sizes.
TEST(Script, DictionariesAndMessagesAreFollowed) {
  Hiding(
      "  out = {\"image\": x}\n"
      "  out[\"relu\"] = torch.relu(x)\n"
      "  for name in out.keys():\n"
      "    if name == \"relu\" and \"image\" in out:\n"
      "      x = out[name]\n"
      "  message = \"{} images of {}\".format(x.size(0), x.shape)\n"
      "  other = \"%d channels\" % x.size(1)\n"
      "  assert len(out) == 2, message\n"
      "  if len(other) > 80:\n"
      "    x = -x\n")
      .expect_same_logits();
}

TEST(Script, TheNumberOfImagesMayBeTheFirstSizeOfAView) {
  Hiding(
      "  n, c, h, w = x.shape\n"
      "  sizes = [n]\n"
      "  sizes.append(c)\n"
      "  sizes.append(h)\n"
      "  sizes.append(w)\n"
      "  pair = (torch.relu(x.view(sizes)), n)\n"
      "  x = pair[0].reshape([pair[1], 3, 32, 32])\n"
      "  assert n < 1000, \"too many\"\n"
      "  assert len(x.shape) == 4\n")
      .expect_same_logits();
}

}  // namespace
}  // namespace sentinel
