#include <ATen/core/grad_mode.h>
#include <torch/script.h>

#include "sentinel/core/hash.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/graph/stored.hpp"
#include "sentinel/io/dataset.hpp"
#include "sentinel/models/script.hpp"
#include "unit/io_support.hpp"
#include "unit/models_support.hpp"

namespace sentinel {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const Normalisation kOwn{{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}};

Graph network(const std::optional<Normalisation>& own = {}) {
  Graph g = initial_model("resnet20", 10, 3);
  g.dataset = "cifar10";
  if (own) set_normalisation(g, *own);
  return g;
}

std::string record_of(const Bytes& file) {
  return parse_pth(file, "f").metadata.value_or("");
}

TEST(NormalisationRecord, TheUsualConstantsAreNotWritten) {
  const Normalisation usual = dataset_info("cifar10").normalisation();
  const Graph plain = network(), given = network(usual);
  EXPECT_FALSE(given.normalisation);
  const std::string record = record_of(serialize_model(plain, {}));
  EXPECT_EQ(record_of(serialize_model(given, {})), record);
  EXPECT_THAT(record, HasSubstr("\"schema_version\": 1,"));
  EXPECT_THAT(record, Not(HasSubstr("normalisation")));
  EXPECT_EQ(recorded_normalisation(serialize_model(plain, {}), "f"), usual);
}

TEST(NormalisationRecord, OwnConstantsAreReadBack) {
  const Bytes file = serialize_model(network(kOwn), {});
  EXPECT_THAT(record_of(file), HasSubstr("\"schema_version\": 2,"));
  EXPECT_EQ(parse_model(file, "f", "", "").normalisation, kOwn);
  EXPECT_EQ(parse_model(file, "f", "", "").clone().normalisation, kOwn);
  EXPECT_EQ(recorded_normalisation(file, "f"), kOwn);
  const Bytes plain = serialize_pth(state_dict(network()));
  EXPECT_FALSE(recorded_normalisation(plain, "f"));
}

TEST(NormalisationRecord, DamagedConstantsAreDataErrors) {
  const std::string good = record_of(serialize_model(network(kOwn), {}));
  const StateDict tensors = state_dict(network());
  const auto parse = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    return error_of<DataError>([&] { parse_model(serialize_pth(tensors, text), "f", "", ""); });
  };
  EXPECT_EQ(parse("0.1", "0.2"), "");
  EXPECT_THAT(parse("0.1", "1.5"), HasSubstr("the mean 1.5 is not from 0 to 1"));
  EXPECT_THAT(parse("0.4", "0"), HasSubstr("the std 0 is not a finite number above 0"));
  EXPECT_THAT(parse("0.4", "1e999"), HasSubstr("sentinelnn.json"));
  EXPECT_THAT(parse("0.4", "0.4, 0.4"), HasSubstr("another number of std than three"));
  EXPECT_THAT(parse("0.4", "\"x\""), HasSubstr("damaged"));
  EXPECT_THAT(parse("\"std\"", "\"sdt\""), HasSubstr("damaged"));
}

/// The exported file's bytes.
Bytes exported(const Graph& graph) {
  const TemporaryFolder folder;
  export_script(graph, folder / "net.ts");
  return read_file(folder / "net.ts");
}

std::string description_in(const Bytes& file) {
  std::istringstream stream(std::string(reinterpret_cast<const char*>(file.data()), file.size()));
  return torch::jit::load(stream).attr("description").toStringRef();
}

TEST(NormalisationExport, TheFileSaysWhatItExpectsAndIsReadBack) {
  const Bytes own = exported(network(kOwn)), usual = exported(network());
  EXPECT_THAT(description_in(own),
              HasSubstr("images [N, 3, 32, 32] f32, (pixel / 255 - mean) / std "
                        "with mean 0.1, 0.2, 0.3, std 0.4, 0.5, 0.6."));
  EXPECT_THAT(description_in(usual), HasSubstr("0.26158768 (cifar10)"));
  EXPECT_EQ(parse_model(own, "f", "", "cifar10").normalisation, kOwn);
  EXPECT_FALSE(parse_model(usual, "f", "", "cifar10").normalisation);
  EXPECT_EQ(recorded_normalisation(own, "f"), kOwn);
  EXPECT_EQ(recorded_normalisation(usual, "f"), dataset_info("cifar10").normalisation());
  EXPECT_EQ(own, exported(network(kOwn)));
}

TEST(NormalisationExport, ItSaysWhatBecomesOfWeightBoundsInTraining) {
  Graph g = network();
  EXPECT_THAT(description_in(exported(g)), Not(HasSubstr("weight bounds")));
  weight_bounds_of(g[1].op)->low = at::tensor(-1.f);
  weight_bounds_of(g[1].op)->high = at::tensor(1.f);
  EXPECT_THAT(description_in(exported(g)), HasSubstr("export it with no-weight-bounds"));
}

TEST(Export, NamesTheLayouts) {
  Graph g = network();
  EXPECT_THAT(description_in(exported(g)), Not(HasSubstr("stored as")));
  store_as(g, g[1].name + ".weight", parse_layout("int4+bch:8,4"));
  EXPECT_THAT(description_in(exported(g)), HasSubstr("stored as: weight int4:channel+bch:8,4"));
}

/// A TorchScript file whose network has these constants.
Bytes with_constants(const c10::IValue& mean, const c10::IValue& std) {
  torch::jit::Module module("m");
  module.register_parameter("weight", at::ones({10, 3}), false);
  module.register_attribute("sentinelnn_mean", mean.type(), mean);
  module.register_attribute("sentinelnn_std", std.type(), std);
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n"
      "    return torch.linear(x.mean([2, 3]), self.weight)\n");
  std::ostringstream out;
  module.save(out);
  const std::string text = out.str();
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

TEST(NormalisationExport, StrangeConstantsInAFileAreADataError) {
  const auto refusal = [](const c10::IValue& mean, const c10::IValue& std) {
    const Bytes file = with_constants(mean, std);
    return error_of<DataError>([&] { recorded_normalisation(file, "f.ts"); });
  };
  const c10::List<double> two({0.5, 0.5}), three({0.5, 0.5, 0.5});
  EXPECT_THAT(refusal(three, "x"), HasSubstr("its sentinelnn_std is no list of numbers"));
  EXPECT_THAT(refusal(two, three), HasSubstr("its sentinelnn_mean is no list of three numbers"));
}

}  // namespace
}  // namespace sentinel
