#include <ATen/ATen.h>

#include "io_support.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/io/checkpoint_file.hpp"

namespace sentinel {
namespace {

using test::test_data;
using testing::ElementsAre;
using testing::HasSubstr;

/// Same names, order, types, shapes and bits.
void expect_same(const StateDict& a, const StateDict& b) {
  ASSERT_EQ(a.size(), b.size());
  for (auto left = a.begin(), right = b.begin(); left != a.end(); ++left, ++right) {
    EXPECT_EQ(left->first, right->first);
    ASSERT_EQ(left->second.scalar_type(), right->second.scalar_type()) << left->first;
    ASSERT_EQ(left->second.sizes(), right->second.sizes()) << left->first;
    EXPECT_TRUE(right->second.is_contiguous()) << left->first;
    const at::Tensor x = left->second.contiguous(), y = right->second;
    if (x.numel() == 0) continue;
    EXPECT_EQ(std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()), 0) << left->first;
  }
}

/// Every stored type, 0-dimensional and empty tensors, values such as NaN, a transposed view.
StateDict awkward_state() {
  StateDict state;
  const at::Tensor base = at::arange(24, at::kDouble).reshape({2, 3, 4}).sub(11.5);
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                          at::kShort, at::kChar, at::kByte})
    state.set(std::string("layer.") + at::toString(type), base.abs().to(type));
  state.set("bool", base.gt(0));
  state.set("num_batches_tracked", at::scalar_tensor(7, at::kLong));
  state.set("empty", at::empty({0, 5}));
  state.set("special", at::tensor({NAN, INFINITY, -INFINITY, -0.0f, 1e-42f}));
  state.set("transposed", base.to(at::kFloat).transpose(0, 2));
  state.set("expanded", at::ones({1, 3}).expand({4, 3}));
  return state;
}

TEST(StateDict, KeepsOrderAndReplaces) {
  StateDict state;
  state.set("b", at::zeros({1}));
  state.set("a", at::zeros({2}));
  state.set("b", at::zeros({3}));
  ASSERT_EQ(state.size(), 2u);
  EXPECT_EQ(state.begin()->first, "b");
  EXPECT_EQ(state.find("b")->numel(), 3);
  EXPECT_EQ(state.find("c"), nullptr);
}

TEST(Checkpoint, ReadIsTheInverseOfWrite) {
  const StateDict state = awkward_state();
  const CheckpointFile file = parse_pth(serialize_pth(state), "memory");
  expect_same(state, file.tensors);
  EXPECT_FALSE(file.metadata.has_value());
}

TEST(Checkpoint, MetadataSurvives) {
  const std::string json = "{\"schema\": 1, \"name\": \"\xc3\xa4\"}";
  EXPECT_EQ(parse_pth(serialize_pth(awkward_state(), json), "memory").metadata, json);
  EXPECT_EQ(parse_pth(serialize_pth(awkward_state(), ""), "memory").metadata, "");
}

TEST(Checkpoint, SameInputSameBytes) {
  const Bytes first = serialize_pth(awkward_state(), "{}");
  EXPECT_EQ(first, serialize_pth(awkward_state(), "{}"));
  const CheckpointFile file = parse_pth(first, "memory");
  EXPECT_EQ(first, serialize_pth(file.tensors, file.metadata));
}

TEST(Checkpoint, WritesAFileAtOnce) {
  const test::TemporaryFolder folder;
  write_pth(folder / "x.pth", awkward_state());
  expect_same(awkward_state(), read_pth(folder / "x.pth").tensors);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().filename(), "x.pth");
    ++files;
  }
  EXPECT_EQ(files, 1u);
}

TEST(Checkpoint, TensorsOwnTheirMemory) {
  // A flip in one of two tied tensors may not show in the other behind the caller's back.
  StateDict tied;
  const at::Tensor shared = at::zeros({4});
  tied.set("a", shared);
  tied.set("b", shared);
  const StateDict read = parse_pth(serialize_pth(tied), "memory").tensors;
  read.find("a")->fill_(1);
  EXPECT_EQ(read.find("b")->sum().item<float>(), 0);
}

TEST(Checkpoint, RefusesTypesItCannotWrite) {
  StateDict state;
  state.set("z", at::zeros({2}, at::kComplexFloat));
  EXPECT_THROW(serialize_pth(state), UserError);
}

TEST(Checkpoint, NamesMissingFiles) {
  EXPECT_THAT(test::data_error([] { read_pth("/nowhere/x.pth"); }), HasSubstr("/nowhere/x.pth"));
}

// ---- real files
// ------------------------------------------------------------------------------------

TEST(RealCheckpoint, ZipAndLegacyHoldTheSameTensors) {
  const std::string path = test_data("models/cifar10_resnet20.pth");
  if (path.empty()) GTEST_SKIP() << "no shared test data";
  const StateDict zip = read_pth(path).tensors;
  expect_same(zip, read_pth(test_data("models/cifar10_resnet20.legacy.pth")).tensors);
  EXPECT_EQ(zip.begin()->first, "conv1.weight");
  EXPECT_THAT(zip.find("conv1.weight")->sizes().vec(), ElementsAre(16, 3, 3, 3));
  EXPECT_EQ(zip.find("bn1.num_batches_tracked")->scalar_type(), at::kLong);
  EXPECT_EQ(zip.find("bn1.num_batches_tracked")->dim(), 0);
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : zip)
    if (name.find("running_") == std::string::npos && tensor.dim() > 0)
      parameters += tensor.numel();
  EXPECT_EQ(parameters, 272474);
}

TEST(RealCheckpoint, ViewsIntoLargerStoragesAreCutOut) {
  const std::string path = test_data("models/seed_resnet20_pruned_0.1.pth");
  if (path.empty()) GTEST_SKIP() << "no shared test data";
  const StateDict pruned = read_pth(path).tensors;
  EXPECT_THAT(pruned.find("conv1.weight")->sizes().vec(), ElementsAre(15, 3, 3, 3));
  expect_same(pruned, parse_pth(serialize_pth(pruned), "memory").tensors);
}

}  // namespace
}  // namespace sentinel
