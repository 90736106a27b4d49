#include <ATen/ATen.h>

#include <set>

#include "corrupt/hostile_pth.cpp"  // the test programs are globbed from this folder
#include "io_support.hpp"
#include "unit/io_damage.hpp"

namespace sentinel {
namespace {

using test::data_error;
using test::good_legacy_checkpoint;
using test::good_zip_checkpoint;
using testing::HasSubstr;

TEST(HostileCheckpoint, EachIsRefusedForItsReason) {
  std::set<std::string> names;
  for (const test::HostileFile& file : test::hostile_checkpoints()) {
    const std::string error = data_error([&] { parse_pth(file.bytes, file.name + ".pth"); });
    EXPECT_THAT(error, HasSubstr(file.error)) << file.name;
    EXPECT_THAT(error, HasSubstr(file.name + ".pth")) << "the file is not named";
    EXPECT_TRUE(names.insert(file.name).second) << file.name << " is there twice";
  }
  EXPECT_GT(names.size(), 50u);
  EXPECT_FALSE(std::filesystem::exists("/tmp/owned"));
}

TEST(HostileCheckpoint, AForbiddenGlobalIsNamedWithItsOffset) {
  const Bytes file = test::wrap_pickle(
      "\x80\x02"
      "cos\nsystem\n.",
      {});
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  const std::string where = "at byte " + std::to_string(text.find("cos\nsystem")) + ":";
  EXPECT_THAT(data_error([&] { parse_pth(file, "x.pth"); }), HasSubstr(where));
}

TEST(HostileCheckpoint, TheGoodOnesAreRead) {
  const StateDict zip = parse_pth(good_zip_checkpoint(), "zip").tensors;
  EXPECT_EQ(zip.size(), 3u);
  const StateDict legacy = parse_pth(good_legacy_checkpoint(), "legacy").tensors;
  ASSERT_EQ(legacy.size(), 1u);
  EXPECT_TRUE(at::equal(*legacy.find("weight"),
                        at::tensor({2.f, 6.f, 10.f, 3.f, 7.f, 11.f}).reshape({2, 3})));
}

TEST(HostileCheckpoint, EveryTruncationIsRefused) {
  for (const Bytes& good : {good_zip_checkpoint(), good_legacy_checkpoint()})
    for (std::size_t size = 0; size < good.size(); ++size) {
      const Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(parse_pth(cut, "cut.pth"), DataError) << size << " of " << good.size();
    }
}

bool same_tensors(const StateDict& a, const StateDict& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](auto& x, auto& y) {
           return x.first == y.first && x.second.scalar_type() == y.second.scalar_type() &&
                  at::equal(x.second, y.second);
         });
}

TEST(HostileCheckpoint, AFlippedBitNeverChangesAZipUnnoticed) {
  const Bytes good = good_zip_checkpoint();
  const StateDict truth = parse_pth(good, "good").tensors;
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    try {
      EXPECT_TRUE(same_tensors(truth, parse_pth(bad, "bad").tensors)) << "bit " << bit;
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, good.size());  // what is left over is padding, time stamps and the like
}

TEST(HostileCheckpoint, RandomDamageIsReadOrRefused) {
  for (const Bytes& good : {good_zip_checkpoint(), good_legacy_checkpoint()})
    test::expect_read_or_refused(good, 20240607, 4,
                                 [](const Bytes& bad) { parse_pth(bad, "bad"); });
}

TEST(HostileCheckpoint, DamagedPicklesBehindGoodChecksumsAreReadOrRefused) {
  test::expect_read_or_refused(test::state_dict(test::tensor(16, 2, {2, 3}, {1, 4})), 20240608, 3,
                               [](const std::string& bad) {
                                 parse_pth(test::wrap_pickle(bad, test::sixteen_floats()), "bad");
                               });
}

/// The same archive with its records compressed, as a file manager's "compress" would.
TEST(HostileCheckpoint, HonestCompressionIsRead) {
  if (!test::have_pytorch()) GTEST_SKIP() << "/usr/bin/python3 has no torch";
  const test::TemporaryFolder folder;
  StateDict state;
  state.set("w", at::rand({40, 40}));
  write_pth(folder / "plain.pth", state);
  ASSERT_EQ(test::run_python(folder, R"(
import zipfile
a, b = zipfile.ZipFile("plain.pth"), zipfile.ZipFile("packed.pth", "w", zipfile.ZIP_DEFLATED)
for i in a.infolist(): b.writestr(i.filename, a.read(i))
b.close()
)"),
            "");
  EXPECT_TRUE(same_tensors(state, read_pth(folder / "packed.pth").tensors));
}

}  // namespace
}  // namespace sentinel
