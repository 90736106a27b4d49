#include <gmock/gmock.h>

#include <sstream>
#include <string>
#include <vector>

#include "app/seed_command.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> all;
  for (std::string word; stream >> word;) all.push_back(word);
  return all;
}

const std::string kNet = "--model=resnet20 --dataset=cifar10 --batch-size=64 ";
const std::string kTrained = kNet + "--data=images --checkpoint=net.pth ";
const std::string kPruned = kNet + "--data=images --is-pruned --pruning-ratio=0.2 ";
const std::string kHardened =
    "--is-hardened --hardening-ratio=0.1 --clipping=ranger --hardened-checkpoint=h.pth ";

SeedCommand translated(const std::string& line) {
  return translate_seed_command(words(line));
}

/// The subcommands, a line each.
std::vector<std::string> steps(const std::string& line) {
  std::vector<std::string> lines;
  for (const auto& step : translated(line).steps) {
    std::string text;
    for (const std::string& word : step) text += (text.empty() ? "" : " ") + word;
    lines.push_back(text);
  }
  return lines;
}

const std::string kSelection = "--model resnet20 --dataset cifar10 --data images --checkpoint ";

TEST(SeedCommand, NothingTests) {
  EXPECT_THAT(steps(kTrained), ElementsAre("evaluate " + kSelection + "net.pth --batch-size 64"));
}

TEST(SeedCommand, TheNormalisationHoldsForEveryStep) {
  const auto all = steps(kTrained +
                         "--mean=0.5,0.5,0.5 --std=none --is-hardening "
                         "--hardening-ratio=0.1 --importance=l2-norm --clipping=ranger");
  ASSERT_EQ(all.size(), 2u);
  for (const std::string& step : all)
    EXPECT_THAT(step, HasSubstr(" --data images --mean 0.5,0.5,0.5 --std none --checkpoint "));
}

/// A TorchScript file is a network of its own.
TEST(SeedCommand, ANetworkMaySayItselfWhatItIs) {
  const std::string net = "--dataset=cifar10 --checkpoint=nets/own.ts ";
  const auto hardened = steps(net +
                              "--is-hardening --hardening-ratio=0.1 --importance=l2-norm "
                              "--clipping=ranger");
  ASSERT_EQ(hardened.size(), 2u);
  EXPECT_THAT(hardened[0], StartsWith("harden --dataset cifar10 --checkpoint nets/own.ts "));
  EXPECT_EQ(hardened[1],
            "evaluate --dataset cifar10 --checkpoint own-cifar10/hardened_l2-norm_0.1.pth");
  // What is made of it stays in one folder.
  EXPECT_EQ(translated(net + "--is-pruned --pruned-checkpoint=p.pth").folder, "own-cifar10");
  EXPECT_EQ(translated("--dataset=cifar10 --is-pruned --pruned-checkpoint=p.pth").folder,
            "p-cifar10");
}

TEST(SeedCommand, ValuesMayStandApart) {
  EXPECT_EQ(steps("--dataset cifar10 --model resnet20 --batch-size 64 --data images --checkpoint "
                  "net.pth"),
            steps(kTrained));
}

TEST(SeedCommand, Ranks) {
  EXPECT_THAT(steps(kTrained + "--is-ranking --importance=vul-gain"),
              ElementsAre("rank " + kSelection +
                          "net.pth --importance vul-gain "
                          "--output resnet20-cifar10/ranking_vul-gain.h5"));
}

TEST(SeedCommand, ItsL1NormIsTheL2Norm) {
  const std::string line = kTrained + "--is-ranking --importance=l1-norm";
  EXPECT_THAT(steps(line).front(), HasSubstr("--importance l2-norm"));
  EXPECT_THAT(steps(line).front(), Not(HasSubstr("l1-norm")));
  EXPECT_THAT(translated(line).notes, ElementsAre(HasSubstr("L2 norm")));
}

TEST(SeedCommand, DeepVigorKeepsItsFactorsInTheFolder) {
  EXPECT_THAT(steps(kTrained + "--is-ranking --importance=deepvigor").front(),
              HasSubstr("--importance deepvigor --workspace resnet20-cifar10 "));
}

TEST(SeedCommand, Prunes) {
  const std::string made = "resnet20-cifar10/pruned_salience_0.1.pth";
  EXPECT_THAT(steps(kTrained + "--is-pruning --pruning-ratio=0.1 --importance=salience"),
              ElementsAre("prune " + kSelection +
                              "net.pth --importance salience --pruning-ratio 0.1 --group-score "
                              "first --select test --finetune-batch-size 64 --output " +
                              made,
                          "evaluate " + kSelection + made + " --batch-size 64"));
}

TEST(SeedCommand, LoadsAPrunedNetwork) {
  const std::string line = kPruned + "--pruned-checkpoint=p.pth";
  EXPECT_THAT(steps(line),
              ElementsAre("evaluate " + kSelection + "p.pth --pruning-ratio 0.2 --batch-size 64"));
  EXPECT_THAT(translated(line).notes, IsEmpty());
}

TEST(SeedCommand, Hardens) {
  const std::string made = "resnet20-cifar10/hardened_l2-norm_0.3.pth";
  EXPECT_THAT(
      steps(kTrained +
            "--is-hardening --hardening-ratio=0.30 --importance=l1-norm --clipping=ranger"),
      ElementsAre("harden " + kSelection +
                      "net.pth --importance l2-norm --hardening-ratio 0.30 --clipping ranger "
                      "--selection group --correction min --group-score first --output " +
                      made,
                  "evaluate " + kSelection + made + " --batch-size 64"));
}

TEST(SeedCommand, HardensAPrunedNetwork) {
  const auto lines = steps(kPruned +
                           "--pruned-checkpoint=dir/p.pth --is-hardening --hardening-ratio=0.1 "
                           "--importance=vul-gain --clipping=ranger");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], HasSubstr("--checkpoint dir/p.pth --importance vul-gain"));
  EXPECT_THAT(lines[0], HasSubstr("--output resnet20-cifar10/hardened_vul-gain_0.1_of_p.pth"));
  EXPECT_THAT(lines[1], HasSubstr("--checkpoint resnet20-cifar10/hardened_vul-gain_0.1_of_p.pth"));
}

TEST(SeedCommand, LoadsAHardenedNetwork) {
  EXPECT_THAT(steps(kNet + kHardened),
              ElementsAre("evaluate --model resnet20 --dataset cifar10 --checkpoint h.pth "
                          "--hardening-ratio 0.1 --clipping ranger --batch-size 64"));
  // A file that describes itself needs no ratio.
  EXPECT_THAT(steps(kNet + "--is-hardened --hardened-checkpoint=h.pth"),
              ElementsAre("evaluate --model resnet20 --dataset cifar10 --checkpoint h.pth "
                          "--batch-size 64"));
}

TEST(SeedCommand, InjectsFaults) {
  EXPECT_THAT(
      steps(kTrained + "--is-FI --BER=0.000005 --repeat=1000"),
      ElementsAre("inject " + kSelection +
                  "net.pth --ber 0.000005 --repeat 1000 --fault-count per-layer-floor "
                  "--batch-size 64 --output resnet20-cifar10/FI_net_BER5e-06_repeat1000.h5"));
}

TEST(SeedCommand, InjectsIntoAPrunedAndHardenedNetwork) {
  const std::string line =
      kPruned + "--pruned-checkpoint=p.pth " + kHardened + "--is-FI --BER=5e-6 --repeat=10";
  EXPECT_THAT(steps(line), ElementsAre("inject " + kSelection +
                                       "h.pth --pruning-ratio 0.2 --hardening-ratio 0.1 --clipping "
                                       "ranger --ber 5e-6 --repeat 10 "
                                       "--fault-count per-layer-floor --batch-size 64 "
                                       "--output resnet20-cifar10/FI_h_BER5e-06_repeat10.h5"));
  EXPECT_THAT(translated(line).notes,
              ElementsAre(HasSubstr("--pruned-checkpoint"), HasSubstr("all test images")));
}

TEST(SeedCommand, MeasuresLatency) {
  EXPECT_THAT(steps(kTrained + "--is-performance"),
              ElementsAre("profile " + kSelection + "net.pth --batch-size 64"));
}

TEST(SeedCommand, MeasuresWhatItMade) {
  const auto lines = steps(kTrained +
                           "--is-hardening --hardening-ratio=0.1 --importance=l1-norm "
                           "--clipping=ranger --is-FI --BER=1e-6 --repeat=5 --is-performance");
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_THAT(lines[2], HasSubstr("inject " + kSelection +
                                  "resnet20-cifar10/hardened_l2-norm_0.1.pth --ber"));
  EXPECT_THAT(lines[3], HasSubstr("profile " + kSelection + "resnet20-cifar10/hardened_"));
}

TEST(SeedCommand, LogsAreNamedAsItsAre) {
  EXPECT_EQ(translated(kTrained).log, "resnet20-cifar10/log-test-resnet20-cifar10.txt");
  EXPECT_EQ(translated(kPruned + "--pruned-checkpoint=p.pth --is-FI --BER=1e-6 --repeat=5").log,
            "resnet20-cifar10/log-test_FI-resnet20-cifar10.txt");
}

TEST(SeedCommand, IsToldFromASubcommand) {
  EXPECT_TRUE(is_seed_command(words(kNet)));
  EXPECT_TRUE(is_seed_command(words("--is-FI")));
  for (const char* line : {"", "evaluate --model resnet20", "fly", "--banana", "--help",
                           "--version", "--job x.toml evaluate", "--model resnet20 --help"})
    EXPECT_FALSE(is_seed_command(words(line))) << line;
}

struct Refused {
  std::string line;
  std::vector<std::string> named;
};

class RefusedSeedCommand : public testing::TestWithParam<Refused> {};

TEST_P(RefusedSeedCommand, SaysWhy) {
  try {
    translate_seed_command(words(GetParam().line));
    FAIL() << "accepted: " << GetParam().line;
  } catch (const UserError& error) {
    for (const std::string& name : GetParam().named)
      EXPECT_THAT(error.what(), HasSubstr(name)) << GetParam().line;
    EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
  }
}

const std::string kRank = "--is-ranking --importance=l1-norm ";
const std::string kPrune = "--is-pruning --pruning-ratio=0.1 --importance=l1-norm ";
const std::string kHarden =
    "--is-hardening --hardening-ratio=0.1 --importance=l1-norm --clipping=ranger ";
const std::string kLoaded = "--is-pruned --pruned-checkpoint=p.pth ";

INSTANTIATE_TEST_SUITE_P(
    Partners, RefusedSeedCommand,
    testing::Values(
        Refused{"--model=resnet20 --checkpoint=f.pth", {"--dataset"}},
        Refused{"--dataset=cifar10 --checkpoint=nets/", {"nets/", "--model"}},
        Refused{"--dataset=cifar10 --checkpoint=-f.pth", {"-f.pth", "--model"}},
        Refused{kNet, {"--checkpoint"}},
        Refused{kNet + "--is-FI --BER=1 --repeat=1", {"--checkpoint"}},
        Refused{kTrained + "--is-ranking", {"--is-ranking", "--importance"}},
        Refused{kTrained + "--is-pruning --importance=l1-norm", {"--pruning-ratio"}},
        Refused{kTrained + "--is-pruning --pruning-ratio=0.1", {"--importance"}},
        Refused{kTrained + "--is-pruned --pruning-ratio=0.1", {"--pruned-checkpoint"}},
        Refused{kTrained + "--is-hardening --importance=salience --clipping=ranger",
                {"--hardening-ratio"}},
        Refused{kTrained + "--is-hardening --importance=salience --hardening-ratio=0.1",
                {"--clipping"}},
        Refused{kTrained + "--is-hardening --hardening-ratio=0.1 --clipping=ranger",
                {"--importance"}},
        Refused{kTrained + "--is-hardened --hardening-ratio=0.1", {"--hardened-checkpoint"}},
        Refused{kTrained + "--is-FI --repeat=5", {"--is-FI", "--BER"}},
        Refused{kTrained + "--is-FI --BER=1e-6", {"--is-FI", "--repeat"}},
        Refused{kTrained + "--BER=1e-6", {"--BER", "--is-FI"}},
        Refused{kTrained + "--repeat=5", {"--repeat", "--is-FI"}},
        Refused{kTrained + "--importance=l1-norm",
                {"--importance", "--is-ranking", "--is-pruning"}},
        Refused{kTrained + "--pruning-ratio=0.1",
                {"--pruning-ratio", "--is-pruning or --is-pruned"}},
        Refused{kTrained + "--pruned-checkpoint=p.pth", {"--pruned-checkpoint", "--is-pruned"}},
        Refused{kTrained + "--hardening-ratio=0.1", {"--is-hardening or --is-hardened"}},
        Refused{kTrained + "--hardened-checkpoint=h.pth", {"--is-hardened"}},
        Refused{kTrained + "--clipping=ranger", {"--clipping", "--is-hardening"}}));

INSTANTIATE_TEST_SUITE_P(
    Contradictions, RefusedSeedCommand,
    testing::Values(Refused{kTrained + kPrune + kLoaded, {"--is-pruning", "--is-pruned"}},
                    Refused{kTrained + kPrune + kHardened, {"--is-pruning", "--is-hardened"}},
                    Refused{kTrained + kPrune +
                                "--is-hardening --hardening-ratio=0.1 "
                                "--clipping=ranger",
                            {"--is-pruning", "--is-hardening"}},
                    Refused{kTrained + kHarden + "--is-hardened --hardened-checkpoint=h.pth",
                            {"--is-hardening", "--is-hardened"}},
                    Refused{kTrained + kPrune + "--is-ranking", {"--is-ranking", "--is-pruning"}},
                    Refused{kTrained + kHarden + "--is-ranking",
                            {"--is-ranking", "--is-hardening"}},
                    Refused{kTrained + kRank + kHardened, {"--is-ranking", "--is-hardened"}}));

INSTANTIATE_TEST_SUITE_P(
    Values, RefusedSeedCommand,
    testing::Values(
        Refused{kTrained + "--banana", {"--banana"}}, Refused{kTrained + "evaluate", {"evaluate"}},
        Refused{kTrained + "--is-FI=yes --BER=1e-6 --repeat=5", {"--is-FI", "yes"}},
        Refused{kTrained + "--is-FI --BER=many --repeat=5", {"--BER", "many"}},
        Refused{kTrained + "--is-FI --BER=1.5 --repeat=5", {"--BER", "1.5"}},
        Refused{kTrained + "--is-FI --BER=nan --repeat=5", {"--BER", "nan"}},
        Refused{kTrained + "--is-FI --BER=-1e-6 --repeat=5", {"--BER", "-1e-6"}},
        Refused{kTrained + "--is-FI --BER --repeat=5", {"--BER"}},
        Refused{kTrained + "--is-FI --BER=1e-6 --repeat=0", {"--repeat", "0"}},
        Refused{kTrained + "--is-FI --BER=1e-6 --repeat=1.5", {"--repeat", "1.5"}},
        Refused{kTrained + "--is-FI --BER=1e-6 --BER=1e-7 --repeat=5", {"--BER", "twice"}},
        Refused{"--model=../net --dataset=cifar10 --checkpoint=f.pth", {"--model", "../net"}},
        Refused{"--model= --dataset=cifar10 --checkpoint=f.pth", {"--model"}},
        Refused{kTrained + "--is-ranking --importance=../../x", {"--importance"}}));

}  // namespace
}  // namespace sentinel
