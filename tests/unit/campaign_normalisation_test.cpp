#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include "campaign/trial_runner.hpp"
#include "networks/everywhere.hpp"
#include "sentinel/core/error.hpp"
#include "sentinel/graph/run.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/networks/normalisation.hpp"
#include "sentinel/networks/selection.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

const Normalisation kOwn{{0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}};

Graph network(const std::optional<Normalisation>& own) {
  Graph g = initial_model("resnet20", 10, 3);
  g.dataset = "synthetic";
  if (own) set_normalisation(g, *own);
  return g;
}

/// The same weights under other constants: each model sees the images by its own.
TEST(NormalisationInTrials, EveryModelSeesImagesByItsOwnConstants) {
  std::vector<NamedModel> models;
  for (const auto& own : {std::optional<Normalisation>(), std::optional(kOwn), std::optional(kOwn),
                          std::optional<Normalisation>()}) {
    models.emplace_back();
    models.back().name = std::to_string(models.size());
    models.back().graph = network(own);
  }
  const Dataset images = synthetic_dataset(Split::kTest, 6, 1);
  TrialRunner runner(models, images, -1, {{BinomialFaults{1e-6}, 2}}, 1, {});
  const at::NoGradGuard no_grad;
  const auto golden = [&](std::size_t m) { return runner.engine(m).golden().logits; };
  for (std::size_t m = 0; m < models.size(); ++m) {
    const Batch seen = images.batch(0, 6, models[m].graph.normalisation);
    EXPECT_TRUE(
        at::allclose(golden(m), logits(models[m].graph, seen.images), test::kFloats, test::kFloats))
        << m;
  }
  EXPECT_TRUE(at::equal(golden(1), golden(2)));
  EXPECT_TRUE(at::equal(golden(0), golden(3)));
  EXPECT_FALSE(at::allclose(golden(0), golden(1), 1e-2, 1e-2));
}

TEST(NormalisationInTrials, TheSelectionWinsOverTheFile) {
  ModelSelection selection;
  Graph g = network(kOwn);
  choose_normalisation(g, selection, kOwn);
  EXPECT_EQ(g.normalisation, kOwn);
  selection.normalisation.std = {"0.5", "0.5", "0.5"};
  choose_normalisation(g, selection, kOwn);
  EXPECT_EQ(g.normalisation, (Normalisation{kOwn.mean, {0.5, 0.5, 0.5}}));
  selection.normalisation = {{"synthetic"}, {}};
  choose_normalisation(g, selection, kOwn);
  EXPECT_FALSE(g.normalisation);
  selection.normalisation = {{"0.5"}, {}};
  EXPECT_THROW(choose_normalisation(g, selection, {}), UserError);
}

TEST(NormalisationInTrials, ItIsPartOfWhatANetworkIs) {
  const Bytes usual = serialize_model(network({}), {}), own = serialize_model(network(kOwn), {});
  const auto hash = [](const Bytes& file) {
    return parse_everywhere(Comm::local(), file, "f", {}).sha256;
  };
  EXPECT_NE(hash(usual), hash(own));
  const Normalisation constants = dataset_info("synthetic").normalisation();
  EXPECT_EQ(hash(usual), hash(serialize_model(network(constants), {})));
}

}  // namespace
}  // namespace sentinel
