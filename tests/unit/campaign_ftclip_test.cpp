#include "campaign/ftclip.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>

#include "campaign/run_trials.hpp"
#include "sentinel/campaign/validation.hpp"
#include "sentinel/core/stop.hpp"
#include "sentinel/models/model.hpp"
#include "sentinel/store/result_file.hpp"
#include "sentinel/transform/interval_search.hpp"
#include "sentinel/transform/train.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

NamedModel tiny_model() {
  test::Builder b(3, {3, {32, 32}});
  NodeId x = b.graph.add("conv1", b.conv(3, 4, 1, 1, false), {0});
  x = b.graph.add("relu", Activation{}, {x});
  x = b.graph.add("pool", AdaptiveAvgPool{{8, 8}}, {x});
  x = b.graph.add("conv2", b.conv(4, 4, 3, 1, true), {x});
  x = b.graph.add("relu2", Activation{}, {x});
  x = b.graph.add("avgpool", AdaptiveAvgPool{}, {x});
  x = b.graph.add("flatten", Flatten{}, {x});
  b.linear("fc", x, 4, 10);
  b.graph.architecture = "tiny";
  b.graph.dataset = "synthetic";
  b.graph.state_order = {"conv1.weight", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"};
  NamedModel model;
  model.name = "unprotected";
  model.graph = std::move(b.graph);
  model.sha256 = "tiny";
  return model;
}

struct Search {
  // CTest runs cases side by side: each has a folder of its own.
  std::string folder =
      (fs::path(::testing::TempDir()) / ("sentinel_ftclip_" + std::to_string(::getpid()))).string();
  NamedModel model = tiny_model();
  Dataset images = read_dataset("synthetic", "", Split::kTrain).first(80);
  ProtectionJob job;
  Search() {
    fs::remove_all(folder);
    fs::create_directories(folder);
    job.hardening.search = parse_bound_search("ftclip");
    job.hardening.search.rates = {1e-4, 1e-3};
  }
  ~Search() { fs::remove_all(folder); }

  Graph calibrated() const {
    HardeningPlan plan;
    plan.duplication.ratio = 0;
    return harden(model.graph, {}, plan, images, Comm::local(), at::kCPU);
  }
  Graph found() const {
    Graph graph = calibrated();
    search_by_trials(Comm::local(), graph, model, job, images, folder, at::kCPU);
    return graph;
  }
  std::vector<std::string> files() const {
    std::vector<std::string> paths;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".h5") paths.push_back(entry.path().string());
    std::sort(paths.begin(), paths.end());
    return paths;
  }
};

double bound(const Graph& graph, const char* name) {
  return std::get<BoundedActivation>(graph[graph.find(name)].op).bound.item<double>();
}

TEST(Ftclip, RunsFiveTrialsOfEachRateWithTheSameFaultsInAllCandidates) {
  const Search search;
  search.found();
  const std::vector<std::string> files = search.files();
  EXPECT_GE(files.size(), 6u);  // two layers, at least three rounds
  EXPECT_LE(files.size(), 8u);
  std::size_t faulty = 0;
  for (const std::string& file : files) {
    const ResultFile result = read_result(file);
    EXPECT_TRUE(result.complete);
    ASSERT_EQ(result.info.models.size(), 4u);
    EXPECT_EQ(result.info.models[0].images, 8);  // the held-out tenth
    ASSERT_EQ(result.info.points.size(), 2u);
    for (std::size_t p = 0; p < 2; ++p) {
      EXPECT_EQ(result.info.points[p].target, "weight");
      EXPECT_GT(result.info.audit_rates.at(p), 0);
    }
    const auto records = read_records(file, [](const TrialRow&) { return true; });
    ASSERT_EQ(records.size(), 2u * 5 * 4);
    for (std::size_t r = 0; r < records.size(); ++r) {
      const TrialRecord &own = records[r], &first = records[r - r % 4];
      ASSERT_EQ(own.faults.size(), first.faults.size());
      for (std::size_t f = 0; f < own.faults.size(); ++f, ++faulty)
        EXPECT_EQ(std::tie(own.faults[f].tensor, own.faults[f].element, own.faults[f].bit),
                  std::tie(first.faults[f].tensor, first.faults[f].element, first.faults[f].bit));
    }
  }
  EXPECT_GT(faulty, 100u);
}

/// The AUC of one network [points], from a campaign of its own by the reference path.
double plain_auc(const Search& search, const Graph& graph) {
  Job job;
  job.compute.threads = 1;
  job.seed = search.job.hardening.search.seed;
  job.engine = EnginePath::kReference;
  job.fresh = true;
  job.output = search.folder + "/plain.h5";
  std::vector<NamedModel> models(1);
  models[0].name = "alone";
  models[0].graph = graph.clone();
  models[0].sha256 = network_sha256(graph);
  const Dataset images = hold_out(search.images).held_out;
  std::vector<CampaignPoint> points;
  for (const double rate : search.job.hardening.search.rates)
    points.push_back({BinomialFaults{rate}, 5});
  EXPECT_EQ(run_trials(Comm::local(), job, {"plain", models, images, points, {}}, at::kCPU),
            ExitCode::kDone);
  std::int64_t correct = 0;  // two rates count alike
  for (const TrialRow& row : read_result(job.output).trials) correct += row.correct;
  fs::remove(job.output);
  return 100.0 * static_cast<double>(correct) / static_cast<double>(5 * images.size()) / 4;
}

TEST(Ftclip, FindsTheBoundOfTheBestPlainAuc) {
  const Search search;
  const Graph before = search.calibrated(), after = search.found();
  Graph graph = before.clone();
  double lowest = 1;
  for (const char* name : {"relu", "relu2"}) {
    auto& op = std::get<BoundedActivation>(graph[graph.find(name)].op);
    IntervalSearch plain(bound(before, name));
    while (!plain.done()) {
      std::vector<double> scores;
      for (const double candidate : plain.candidates()) {
        op.bound = at::full({}, candidate, at::kFloat);
        scores.push_back(plain_auc(search, graph));
      }
      plain.take(scores);
    }
    op.bound = at::full({}, plain.best(), at::kFloat);
    EXPECT_EQ(bound(after, name), bound(graph, name)) << name;
    lowest = std::min(lowest, bound(after, name) / bound(before, name));
  }
  EXPECT_LT(lowest, 1);  // some bound moved
  // Weights stay as they are.
  for (const char* name : {"conv1", "conv2"})
    EXPECT_TRUE(at::equal(as_conv(after[after.find(name)].op)->weight,
                          as_conv(before[before.find(name)].op)->weight));
}

TEST(Ftclip, GoesOnAfterAnyRound) {
  const Search search;
  const Graph undisturbed = search.found();
  const std::vector<std::string> files = search.files();
  for (std::size_t kept = 0; kept < files.size(); kept += 3) {
    for (std::size_t f = kept; f < files.size(); ++f) fs::remove(files[f]);
    const Graph again = search.found();
    for (const char* name : {"relu", "relu2"})
      EXPECT_EQ(bound(again, name), bound(undisturbed, name));
    EXPECT_EQ(search.files(), files);
    for (std::size_t f = 0; f < kept; ++f)  // none of their trials were run once more
      for (const TrialRow& row : read_result(files[f]).trials) EXPECT_EQ(row.session, 0u);
  }
}

TEST(Ftclip, AStopSaysHowToGoOn) {
  const Search search;
  request_stop(SIGUSR1);
  try {
    search.found();
    ADD_FAILURE() << "no stop";
  } catch (const SharedError& stop) {
    EXPECT_EQ(stop.code(), ExitCode::kStopped);
    EXPECT_THAT(stop.what(), HasSubstr("same command"));
  }
  request_stop(0);
}

TEST(Ftclip, TrialsOfAnotherSearchAreRefused) {
  Search search;
  search.found();
  search.job.hardening.search.seed = 2;
  try {
    search.found();
    ADD_FAILURE() << "other faults were taken for these";
  } catch (const SharedError& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), HasSubstr("remove " + search.folder));
  }
}

/// What is wrong with a job, empty: nothing.
std::string refusal(const char* search, void (*change)(HardeningPlan&)) {
  ProtectionJob job;
  job.hardening.search = parse_bound_search(search);
  change(job.hardening);
  try {
    validate(job);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(BoundSearch, ContradictionsAreRefusedByName) {
  const auto as_it_is = [](HardeningPlan&) {};
  EXPECT_EQ(refusal("ftclip", as_it_is), "");
  EXPECT_EQ(
      refusal("percentile:99", [](HardeningPlan& plan) { plan.bounds = BoundsPer::kChannel; }), "");
  EXPECT_EQ(refusal("max", [](HardeningPlan& plan) { plan.restricted = false; }), "");
  EXPECT_THAT(refusal("ftclip", [](HardeningPlan& plan) { plan.bounds = BoundsPer::kChannel; }),
              HasSubstr("leave out bounds"));
  for (const char* search : {"ftclip", "percentile:99", "fitact", "proact"})
    EXPECT_THAT(refusal(search, [](HardeningPlan& plan) { plan.restricted = false; }),
                HasSubstr("clipping none"));
  EXPECT_THAT(refusal("max",
                      [](HardeningPlan& plan) {
                        plan.search.rates = {1e-6, 1e-5};
                      }),
              HasSubstr("bound-rates needs bound-search ftclip"));
  EXPECT_THAT(refusal("max", [](HardeningPlan& plan) { plan.search.seed = 2; }),
              HasSubstr("bound-seed needs bound-search ftclip, fitact or proact"));
  for (const char* search : {"fitact", "proact"}) {
    EXPECT_THAT(refusal(search, as_it_is), HasSubstr("needs clipping smooth"));
    EXPECT_EQ(refusal(search, [](HardeningPlan& plan) { plan.clipping = Clipping::kSmooth; }), "");
    EXPECT_THAT(refusal(search,
                        [](HardeningPlan& plan) {
                          plan.clipping = Clipping::kSmooth;
                          plan.search.epochs = 0;
                        }),
                HasSubstr("bound-epochs must be"));
  }
  EXPECT_THAT(refusal("proact",
                      [](HardeningPlan& plan) {
                        plan.clipping = Clipping::kSmooth;
                        plan.bounds = BoundsPer::kNeuron;
                      }),
              HasSubstr("leave out bounds"));
  EXPECT_THAT(refusal("ftclip", [](HardeningPlan& plan) { plan.search.epochs = 3; }),
              HasSubstr("bound-epochs needs bound-search fitact or proact"));
  for (void (*change)(HardeningPlan&) : {+[](HardeningPlan& plan) { plan.search.rates = {1e-6}; },
                                         +[](HardeningPlan& plan) {
                                           plan.search.rates = {1e-5, 1e-6};
                                         },
                                         +[](HardeningPlan& plan) {
                                           plan.search.rates = {1e-5, 1e-5};
                                         },
                                         +[](HardeningPlan& plan) {
                                           plan.search.rates = {0, 1e-5};
                                         },
                                         +[](HardeningPlan& plan) {
                                           plan.search.rates = {1e-5, std::nan("")};
                                         }})
    EXPECT_THAT(refusal("ftclip", change), HasSubstr("bound-rates"));
}

}  // namespace
}  // namespace sentinel
