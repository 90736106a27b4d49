// Files exchanged with the PyTorch of this machine, in both directions.
#include <ATen/ATen.h>

#include "io_support.hpp"
#include "sentinel/io/checkpoint_file.hpp"
#include "sentinel/io/dataset.hpp"

namespace sentinel {
namespace {

using test::have_pytorch;
using test::run_python;
using test::TemporaryFolder;
using testing::HasSubstr;

class PyTorch : public testing::Test {
 protected:
  void SetUp() override {
    if (!have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  }
  TemporaryFolder folder_;
};

TEST_F(PyTorch, LoadsWhatWeWrite) {
  StateDict state;
  std::string expected;
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                          at::kShort, at::kChar, at::kByte, at::kBool})
    state.set(at::toString(type), at::arange(6, at::kLong).reshape({2, 3}).to(type));
  state.set("scalar", at::scalar_tensor(3, at::kLong));
  state.set("empty", at::empty({0, 2}));
  write_pth(folder_ / "ours.pth", state, "{\"a\": 1}");
  EXPECT_EQ(run_python(folder_, R"(
import torch, zipfile
from collections import OrderedDict
d = torch.load("ours.pth", weights_only=True)
assert type(d) is OrderedDict and type(torch.load("ours.pth")) is OrderedDict
assert list(d) == ["Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte",
                   "Bool", "scalar", "empty"], list(d)
types = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
         torch.int16, torch.int8, torch.uint8, torch.bool]
for t, (k, v) in zip(types, d.items()):
    assert v.dtype == t and torch.equal(v, torch.arange(6).reshape(2, 3).to(t)), k
    assert v.is_contiguous() and v.storage_offset() == 0 and not v.requires_grad, k
assert d["scalar"].shape == () and d["scalar"] == 3 and d["empty"].shape == (0, 2)
z = zipfile.ZipFile("ours.pth")
assert z.testzip() is None and z.read("archive/sentinelnn.json") == b'{"a": 1}'
assert torch._C.PyTorchFileReader("ours.pth").get_record("sentinelnn.json") == b'{"a": 1}'
print("good"))"),
            "good\n");
}

// Every flavour of the same four tensors; the last line makes the files.
constexpr const char* kFlavours = R"(
import torch
from collections import OrderedDict
torch.manual_seed(3)
base = torch.randn(6, 5, 4)
tensors = OrderedDict([("conv.weight", base[1:4, :, ::2]), ("conv.bias", base.permute(2, 0, 1)[1]),
                       ("bn.num_batches_tracked", torch.tensor(9)), ("half", base.half()[2])])
net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
opt = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
net(torch.randn(2, 1, 5, 5)).sum().backward(); opt.step()
def both(value, name, **options):
    torch.save(value, name + ".pth", **options)
    torch.save(value, name + ".old.pth", _use_new_zipfile_serialization=False, **options)
both(tensors, "plain")
both(dict(tensors), "dict")
parameter = lambda v: torch.nn.Parameter(v) if v.is_floating_point() else v
both({k: parameter(v) for k, v in tensors.items()}, "parameters")
both({"epoch": 3, "best": 0.5, "name": None, "args": [1, (2, "x")], "optimizer": opt.state_dict(),
      "state_dict": OrderedDict(("module." + k, v) for k, v in tensors.items())}, "wrapped")
both({"model": tensors, "lr": 0.1}, "model"); both({"net": tensors, "acc": 1}, "net")
both({"model_state_dict": tensors}, "model_state_dict")
both(tensors, "protocol3", pickle_protocol=3); both(tensors, "protocol4", pickle_protocol=4)
both(net.state_dict(), "module_state"); both({"a": torch.ones(3), "epoch": 4}, "mixed")
both({"epoch": 4, "history": [1.0]}, "none"); both({0: torch.ones(3)}, "numbers")
both(net, "whole"); both(torch.ones(3), "bare")
both({"x": torch.ones(1, 3).expand(50, 3)}, "expanded")
torch.jit.script(net).save("script.pt")
)";

TEST_F(PyTorch, EveryFlavourIsRead) {
  ASSERT_EQ(run_python(folder_, kFlavours), "");
  const StateDict plain = read_pth(folder_ / "plain.pth").tensors;
  ASSERT_EQ(plain.size(), 4u);
  EXPECT_EQ(plain.find("conv.weight")->sizes().vec(), (std::vector<std::int64_t>{3, 5, 2}));
  for (const std::string flavour : {"plain", "dict", "parameters", "wrapped", "model", "net",
                                    "model_state_dict", "protocol3", "protocol4"})
    for (const std::string suffix : {".pth", ".old.pth"}) {
      const StateDict read = read_pth(folder_ / (flavour + suffix)).tensors;
      ASSERT_EQ(read.size(), 4u) << flavour + suffix;
      for (const auto& [name, tensor] : plain) {
        const std::string stored = (flavour == "wrapped" ? "module." : "") + name;
        ASSERT_TRUE(read.contains(stored)) << flavour + suffix + " " + name;
        EXPECT_TRUE(at::equal(*read.find(stored), tensor)) << flavour + suffix + " " + name;
      }
    }
  // with the attribute _metadata that Module.state_dict() sets
  EXPECT_EQ(read_pth(folder_ / "module_state.old.pth").tensors.size(), 7u);
  EXPECT_EQ(read_pth(folder_ / "module_state.pth").tensors.size(), 7u);
}

TEST_F(PyTorch, ViewsHaveTheValuesThatPyTorchSees) {
  ASSERT_EQ(run_python(folder_, std::string(kFlavours) + R"(
with open("values.bin", "wb") as f:
    for v in tensors.values(): f.write(v.contiguous().numpy().tobytes())
)"),
            "");
  Bytes values;
  for (const auto& [name, tensor] : read_pth(folder_ / "plain.old.pth").tensors) {
    const auto* data = static_cast<const std::byte*>(tensor.data_ptr());
    values.insert(values.end(), data, data + tensor.nbytes());
  }
  EXPECT_EQ(values, read_file(folder_ / "values.bin"));
}

TEST_F(PyTorch, WhatIsNoStateDictIsRefusedByName) {
  ASSERT_EQ(run_python(folder_, kFlavours), "");
  const auto error = [&](const std::string& file) {
    return test::data_error([&] { read_pth(folder_ / file); });
  };
  for (const std::string suffix : {".pth", ".old.pth"}) {
    EXPECT_THAT(error("none" + suffix), HasSubstr("\"epoch\" is no tensor"));
    EXPECT_THAT(error("numbers" + suffix), HasSubstr("keys are texts"));
    EXPECT_THAT(error("whole" + suffix), HasSubstr("torch.nn.modules.container.Sequential"));
    EXPECT_THAT(error("whole" + suffix), HasSubstr("save net.state_dict()"));
    EXPECT_THAT(error("bare" + suffix), HasSubstr("no dictionary of tensors"));
    EXPECT_THAT(error("expanded" + suffix), HasSubstr("save expanded tensors"));
  }
  EXPECT_THAT(error("script.pt"), HasSubstr("TorchScript"));
}

TEST_F(PyTorch, EveryDictionaryOfTensorsIsFoundInTheUsualOrder) {
  ASSERT_EQ(run_python(folder_, R"(
import torch
one = lambda: {"w": torch.ones(2)}
deep = one()
for i in range(20): deep = {"d": deep}
shared = one(); circle = {"b": shared}; circle["again"] = circle
value = {"epoch": 1, "ema": one(), "nested": {"model_averaged": one(), "state_dict": one()},
         "zoo": one(), "model": one(), "w": torch.ones(1), "again": shared, "circle": circle,
         "optimizer": {"state": {0: one(), 1: one()}}, "deep": deep}
torch.save(value, "all.pth")
torch.save(value, "all.old.pth", _use_new_zipfile_serialization=False)
)"),
            "");
  for (const std::string file : {"all.pth", "all.old.pth"}) {
    const Bytes bytes = read_file(folder_ / file);
    std::vector<std::string> keys;
    const WeightsFile weights = parse_weights(bytes, file);
    for (const TensorDict& dict : weights.dicts) keys.push_back(dict.key);
    EXPECT_THAT(keys, testing::ElementsAre("", "model", "zoo", "again", "nested.state_dict", "ema",
                                           "nested.model_averaged"));
    EXPECT_THAT(weights.dicts[0].others, testing::ElementsAre("epoch"));
  }
}

TEST_F(PyTorch, QuantisedTensorsAreRead) {
  ASSERT_EQ(run_python(folder_, R"(
import torch
torch.manual_seed(1)
w = torch.randn(4, 3, 2)
scales, zeros = w.abs().amax((1, 2)) / 127, torch.tensor([0, 1, -2, 3])
q = {"rows": torch.quantize_per_channel(w, scales, zeros, 0, torch.qint8),
     "axis": torch.quantize_per_channel(w, torch.tensor([.1, .2]), zeros[:2], 2, torch.quint8),
     "whole": torch.quantize_per_tensor(w, 0.02, 5, torch.quint8),
     "wide": torch.quantize_per_tensor(w, 0.02, 0, torch.qint32),
     "view": torch.quantize_per_tensor(w, 0.02, 0, torch.qint8).permute(2, 0, 1)}
torch.save(q, "q.pth"); torch.save(q, "q.old.pth", _use_new_zipfile_serialization=False)
words = {name: value.int_repr().contiguous() for name, value in q.items()}
torch.save(words, "words.pth")
)"),
            "");
  const StateDict words = read_pth(folder_ / "words.pth").tensors;
  for (const std::string file : {"q.pth", "q.old.pth"}) {
    const StateDict tensors = read_pth(folder_ / file).tensors;
    for (const auto& [name, tensor] : words)
      EXPECT_TRUE(at::equal(tensors.find(name)->int_repr(), tensor)) << name;
    EXPECT_EQ(tensors.find("whole")->q_zero_point(), 5);
    EXPECT_EQ(tensors.find("whole")->scalar_type(), at::kQUInt8);
    EXPECT_EQ(tensors.find("wide")->q_scale(), 0.02);
    EXPECT_EQ(tensors.find("axis")->q_per_channel_axis(), 2);
    EXPECT_TRUE(at::equal(tensors.find("rows")->q_per_channel_zero_points(),
                          at::tensor({0, 1, -2, 3}, at::kLong)));
  }
}

/// Scales and zero points that do not fit, as no torch.save writes them.
TEST_F(PyTorch, QuantisedTensorsOfAbsurdPartsAreRefused) {
  ASSERT_EQ(run_python(folder_, R"(
import torch
from torch._utils import _rebuild_qtensor
class Fake:
    def __init__(self, *how, storage=None):
        self.how, self.storage = how, storage
    def __reduce__(self):
        w = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)
        return _rebuild_qtensor, (self.storage or w.storage(), 0, (2, 2), (2, 1), self.how, False, {})
each = torch.per_channel_affine
long = torch.zeros(2, dtype=torch.long)
for name, fake in {
    "short": Fake(each, torch.ones(1), long, 0), "axis": Fake(each, torch.ones(2), long, 7),
    "kind": Fake(each, long, long, 0), "none": Fake(each, 1.0, long, 0),
    "text": Fake(torch.per_tensor_affine, "1", 0), "scheme": Fake("per_tensor", 0.1, 0),
    "few": Fake(torch.per_tensor_affine), "plain": Fake(torch.per_tensor_affine, 0.1, 0,
        storage=torch.ones(2, 2).storage()),
}.items():
    torch.save({"w": fake}, name + ".pth")
)"),
            "");
  for (const std::string file : {"short", "axis", "kind", "none", "text", "scheme", "few", "plain"})
    EXPECT_NE(test::data_error([&] { read_pth(folder_ / (file + ".pth")); }), "no DataError")
        << file;
}

TEST_F(PyTorch, WhatIsNotReadIsRefusedForItsReason) {
  ASSERT_EQ(run_python(folder_, R"(
import pickle, torch, warnings
warnings.filterwarnings("ignore")
w = torch.ones(2, 2)
save = lambda name, value: torch.save({"w": value}, name)
save("quantised.pth", torch.quantize_per_channel(w, w[0], 0 * w[0], 0, torch.quint4x2))
save("sparse.pth", w.to_sparse()); save("complex.pth", w.to(torch.complex64))
pickle.dump({"w": w}, open("pickled.pth", "wb"))
class Net(torch.nn.Module): pass
torch.save(Net(), "own.pth")
)"),
            "");
  const std::vector<std::pair<std::string, std::string>> reasons{
      {"quantised", "a quantised tensor"}, {"sparse", "save its to_dense()"},
      {"complex", "a complex tensor"},     {"pickled", "pickle.dump"},
      {"own", "save net.state_dict()"},
  };
  for (const auto& [file, reason] : reasons)
    EXPECT_THAT(test::data_error([&] { read_pth(folder_ / (file + ".pth")); }), HasSubstr(reason));
}

TEST_F(PyTorch, NormalisesLikePyTorch) {
  const Dataset data = synthetic_dataset(Split::kTest, 3, 5);
  DatasetInfo cifar = dataset_info("cifar10");
  const Dataset set(cifar, data.pixels(), data.labels());
  write_file_atomic(folder_ / "pixels.bin", data.pixels().data(), data.pixels().size());
  const at::Tensor images = set.batch(0, 3, {}).images;
  write_file_atomic(folder_ / "images.bin", images.data_ptr(), images.nbytes());
  EXPECT_EQ(run_python(folder_, R"(
import numpy as np, torch
x = torch.from_numpy(np.fromfile("pixels.bin", np.uint8)).float().view(3, 3, 32, 32) / 255
mean = torch.tensor((0.49139968, 0.48215827, 0.44653124)).view(1, 3, 1, 1)
std = torch.tensor((0.24703233, 0.24348505, 0.26158768)).view(1, 3, 1, 1)
ours = torch.from_numpy(np.fromfile("images.bin", np.float32)).view(3, 3, 32, 32)
print(torch.equal(ours, (x - mean) / std)))"),
            "True\n");
}

TEST_F(PyTorch, ReadsThePythonReleaseOfCifar) {
  // Protocol 2 with bytes as text is what Python 3 writes; real files have Python 2's plain
  // strings, which the hand-made pickle below has.
  ASSERT_EQ(run_python(folder_, R"(
import numpy as np, os, pickle, struct
rng = np.random.default_rng(1)
os.makedirs("cifar-10-batches-py"); os.makedirs("cifar-100-python"); os.makedirs("py2")
def python2(data, labels):
    text = lambda s: b"U" + bytes([len(s)]) + s
    num = lambda n: b"J" + struct.pack("<i", n)
    dtype = (b"cnumpy\ndtype\n(" + text(b"u1") + num(0) + num(1) + b"tR(K\x03" + text(b"|") +
             b"NNN" + num(-1) + num(-1) + b"K\x00tb")
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") +
             b"tR(K\x01(" + num(data.shape[0]) + num(data.shape[1]) + b"t" + dtype +
             b"\x89T" + struct.pack("<i", data.size) + data.tobytes() + b"tb")
    values = b"".join(num(label) for label in labels)
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + b"](" + values + b"eu."
everything = []
for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
    data = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
    labels = [int(v) for v in rng.integers(0, 10, 4)]
    open(f"py2/{name}", "wb").write(python2(data, labels))
    stored = np.asfortranarray(data) if i == 1 else data
    with open(f"cifar-10-batches-py/{name}", "wb") as f:
        pickle.dump({b"data": stored, b"labels": labels, b"filenames": ["x"] * 4}, f,
                    protocol=[2, 3, 4, 5, 2, 2][i])
    everything.append(np.concatenate([np.array(labels, np.uint8)[:, None], data], 1).tobytes())
open("expected_train", "wb").write(b"".join(everything[:5]))
open("expected_test", "wb").write(everything[5])
for name in ["train", "test"]:
    data = rng.integers(0, 256, (3, 3072), dtype=np.uint8)
    with open(f"cifar-100-python/{name}", "wb") as f:
        pickle.dump({"data": data, "fine_labels": [99, 0, 50], "coarse_labels": [1, 2, 3]}, f,
                    protocol=2)
)"),
            "");
  for (const std::string& place :
       {folder_.path(), folder_ / "cifar-10-batches-py", folder_ / "py2"})
    for (const Split split : {Split::kTrain, Split::kTest}) {
      const Dataset data = read_dataset("cifar10", place, split);
      Bytes records;
      for (std::int64_t i = 0; i < data.size(); ++i) {
        records.push_back(std::byte(data.labels()[static_cast<std::size_t>(i)]));
        const auto* image = reinterpret_cast<const std::byte*>(data.pixels().data()) + i * 3072;
        records.insert(records.end(), image, image + 3072);
      }
      EXPECT_EQ(records,
                read_file(folder_ / (split == Split::kTrain ? "expected_train" : "expected_test")))
          << place;
    }
  EXPECT_THAT(read_dataset("cifar100", folder_.path(), Split::kTrain).labels(),
              testing::ElementsAre(99, 0, 50));
}

}  // namespace
}  // namespace sentinel
