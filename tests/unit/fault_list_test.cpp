#include "sentinel/fault/fault_list.hpp"

#include <gmock/gmock.h>

#include "sentinel/core/error.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/fault/sampler.hpp"
#include "unit/fault_nets.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

constexpr char kHead[] = "trial,tensor,element,bit,image,effect,length\n";

const FaultSpace& space() {
  static const FaultSpace all = [] {
    Graph graph = test::residual_net();
    store_as(graph, "layer1.0.conv1.weight", parse_layout("int5:channel+bch:16,5"));
    Selection parameters;
    parameters.targets = parse_targets({"parameters"});
    return FaultSpace(graph, parameters);
  }();
  return all;
}

FaultList parse(const std::string& text) {
  return FaultList(text, "l.csv", space());
}

std::string refusal(const std::string& text) {
  try {
    parse(text);
  } catch (const DataError& error) {
    return error.what();
  }
  return "not refused";
}

std::string name(const FaultSite& site) {
  return space().tensors().at(site.tensor).name;
}

TEST(FaultList, ReadsTrialsWhateverTheOrderOfRowsAndColumns) {
  const std::string text =
      "bit,trial,element,tensor\r\n"
      "7,2,5,layer1.0.conv1.weight\r\n"
      "30,2,3,conv1.weight\r\n"
      "\r\n"
      "1,0,0,conv1.bn.running_var";
  const FaultList list = parse(text);
  EXPECT_EQ(list.trials(), 3u);
  EXPECT_EQ(list.faults(), 3u);
  EXPECT_EQ(list.sha256(), sha256_hex(text));
  EXPECT_EQ(list.trials_with_faults(), (std::vector<std::uint64_t>{0, 2}));
  EXPECT_EQ(list.faults_in("conv1.weight"), 1u);
  EXPECT_EQ(list.faults_in("fc.weight"), 0u);
  EXPECT_TRUE(list.of_trial(1, 1).empty());
  const Faults faults = list.of_trial(2, 1);
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(name(faults[0]), "conv1.weight");
  EXPECT_EQ(faults[0].element, 3u);
  EXPECT_EQ(faults[0].bit, 30);
  EXPECT_EQ(faults[0].effect, Effect::kFlip);
  EXPECT_EQ(faults[0].length, 1);
  EXPECT_EQ(name(faults[1]), "layer1.0.conv1.weight");
}

TEST(FaultList, ReadsEffectsAndLengths) {
  const FaultList list = parse(std::string("\xef\xbb\xbf# sentinelnn-faults 1 trials=9\n") + kHead +
                               "0,conv1.weight,0,3,-1,stuck-at-0,2\n"
                               "0,conv1.weight,1,31,,stuck-at-1,64\n"
                               "0,conv1.weight,2,0,-1,random-word:0xffffffff,\n"
                               "0,conv1.weight,3,,,value:-0.5,1\n");
  EXPECT_EQ(list.trials(), 9u);
  const Faults faults = list.of_trial(0, 1);
  ASSERT_EQ(faults.size(), 4u);
  EXPECT_EQ(faults[0].effect, Effect::kStuckAt0);
  EXPECT_EQ(faults[0].length, 2);
  EXPECT_EQ(faults[1].effect, Effect::kStuckAt1);
  EXPECT_EQ(faults[1].length, 64);
  EXPECT_EQ(faults[2].effect, Effect::kRandomWord);
  EXPECT_EQ(faults[2].operand, 0xffffffffu);
  EXPECT_EQ(faults[3].effect, Effect::kValue);
  EXPECT_EQ(faults[3].operand, 0xbf000000u);
}

/// As a campaign of this fault model draws them in its first point.
TEST(FaultList, DrawsRandomWordsAsCampaignsDo) {
  const FaultList list = parse(
      "trial,tensor,element,bit,effect\n"
      "4,fc.weight,1,,random-word\n"
      "4,conv1.weight,1,,random-word\n"
      "4,conv1.weight,0,5,flip\n");
  Faults faults = list.of_trial(4, 17);
  ASSERT_EQ(faults.size(), 3u);
  Faults drawn = {faults[1], faults[2]};
  for (FaultSite& site : drawn) site.operand = 0;
  FaultModel model;
  model.effect = Effect::kRandomWord;
  give_effects(model, drawn, {17, 0, 4, Purpose::kFaults});
  EXPECT_EQ(faults[1], drawn[0]);
  EXPECT_EQ(faults[2], drawn[1]);
  EXPECT_FALSE(list.of_trial(4, 18)[1] == drawn[0]);
}

TEST(FaultList, TakesTargetsThatAreTrue) {
  const FaultList list = parse(
      "trial,target,tensor,element,bit\n0,parameter,conv1.weight,0,0\n0,bn,conv1.bn.bias,0,0\n"
      "0,weight,fc.weight,0,0\n0,,fc.bias,0,0\n");
  EXPECT_EQ(list.faults(), 4u);
}

TEST(FaultList, OfFaultFreeTrialsOnly) {
  const FaultList list = parse("# sentinelnn-faults 1 trials=4\ntrial,tensor,element,bit\n");
  EXPECT_EQ(list.trials(), 4u);
  EXPECT_TRUE(list.of_trial(3, 1).empty());
}

struct Refused {
  std::string text, message;
};

TEST(FaultList, RefusesFilesThatAreNone) {
  const std::vector<Refused> cases = {
      {"", "l.csv: is empty"},
      {"\n\r\n", "l.csv: is empty"},
      {kHead, "l.csv: lists no fault"},
      {"# sentinelnn-faults 2 trials=3\n", "l.csv:1: the first line is"},
      {"# a list\n", "l.csv:1: the first line is '# a list'"},
      {"# sentinelnn-faults 1\n", "l.csv:1: the first line is"},
      {"# sentinelnn-faults 1 trials=\n", "l.csv:1: trials '' is no whole number"},
      {"# sentinelnn-faults 1 trials=-1\n", "l.csv:1: trials '-1' is no whole number"},
      {"# sentinelnn-faults 1 trials=0\n", "l.csv:1: trials=0 lies outside 1 to 1000000000000"},
      {"# sentinelnn-faults 1 trials=2000000000000\n", "lies outside 1 to"},
      {"trial,tensor,element\n", "l.csv:1: the column bit is missing"},
      {"trial,tensor,element,bit,bit\n", "l.csv:1: the column bit is there twice"},
      {"trial,tensor,element,bit,layer\n", "l.csv:1: the column 'layer' is unknown"},
      {std::string("\x89HDF\r\n\x1a\n", 8), "l.csv:1: the column"},
      {std::string("a\0b", 3), "the column 'a?b' is unknown"}};
  for (const auto& [text, message] : cases) EXPECT_THAT(refusal(text), HasSubstr(message)) << text;
}

TEST(FaultList, RefusesRowsThatAreNone) {
  const std::vector<Refused> cases = {
      {"0,conv1.weight,0\n", "l.csv:2: has 3 fields, and the header has 7"},
      {"0,conv1.weight,0,1,-1,flip,1,\n", "l.csv:2: has 8 fields"},
      {"x,conv1.weight,0,1,-1,flip,1\n", "l.csv:2: trial 'x' is no whole number from 0 on"},
      {"-1,conv1.weight,0,1,-1,flip,1\n", "trial '-1' is no whole number"},
      {"1e3,conv1.weight,0,1,-1,flip,1\n", "trial '1e3' is no whole number"},
      {"1000000000000,conv1.weight,0,1,-1,flip,1\n", "trial 1000000000000 is too large"},
      {"99999999999999999999,conv1.weight,0,1,-1,flip,1\n", "trial '99999999999999999999' is too"},
      {"0,conv9.weight,0,1,-1,flip,1\n", "l.csv:2: the network stores no tensor 'conv9.weight'"},
      {"0,conv1,0,1,-1,flip,1\n", "of this layer it stores conv1.weight, conv1.bn.weight"},
      {"0,,0,1,-1,flip,1\n", "stores no tensor ''"},
      {"0,conv1.weight,216,1,-1,flip,1\n",
       "element 216 lies outside conv1.weight, which has the words 0 to 215"},
      {"0,conv1.weight,1.5,1,-1,flip,1\n", "element '1.5' is no whole number"},
      {"0,conv1.weight,,1,-1,flip,1\n", "element '' is no whole number"},
      {"0,conv1.weight,0,32,-1,flip,1\n",
       "bit 32 lies outside the words of conv1.weight, which have the bits 0 to 31"},
      {"0,layer1.0.conv1.weight,0,16,-1,flip,1\n", "which have the bits 0 to 15"},
      {"0,conv1.weight,0,,-1,flip,1\n", "bit '' is no whole number"},
      {"0,conv1.weight,0,1,3,flip,1\n", "image '3': faults in parameters hit all images"},
      {"0,conv1.weight,0,1,-1,flop,1\n", "effect 'flop' is unknown; choose flip"},
      {"0,conv1.weight,0,1,-1,value:,1\n", "effect 'value:' is unknown"},
      {"0,conv1.weight,0,1,-1,flip,0\n", "length 0 lies outside 1 to 64"},
      {"0,conv1.weight,0,1,-1,flip,65\n", "length 65 lies outside 1 to 64"},
      {"0,conv1.weight,0,1,-1,random-word,1\n", "bit '1': effect random-word hits a whole word"},
      {"0,conv1.weight,0,0,-1,value:1,2\n", "length '2': effect value:1 hits a whole word"},
      {"0,conv1.weight,0,0,-1,random-word:0x100000000,1\n", "whose words have 32 bits"},
      {"0,conv1.weight,0,0,-1,random-word:0xg,1\n", "no word of conv1.weight"}};
  for (const auto& [row, message] : cases)
    EXPECT_THAT(refusal(kHead + row), HasSubstr(message)) << row;
}

TEST(FaultList, RefusesTargetsThatAreNotTrue) {
  const std::string head = "trial,tensor,element,bit,target\n0,conv1.weight,0,0,";
  EXPECT_THAT(refusal(head + "activation\n"), HasSubstr("a list names parameters alone"));
  EXPECT_THAT(refusal(head + "bias\n"), HasSubstr("target 'bias': conv1.weight is weight"));
  EXPECT_THAT(refusal(head + "all\n"), HasSubstr("target 'all'"));
}

TEST(FaultList, TellsOutputsByTheirTargetOrTheirNode) {
  const Graph graph = test::residual_net();
  const std::string head = "trial,tensor,element,bit", mark = "\xef\xbb\xbf";
  EXPECT_TRUE(lists_outputs(head + "\n0,conv1,5,3\n", graph));
  EXPECT_TRUE(
      lists_outputs(mark + "# sentinelnn-faults 1 trials=2\n\n" + head + "\n0,relu,5,3\n", graph));
  EXPECT_TRUE(lists_outputs(head + ",target\n0,anything,5,3,post\n", graph));
  EXPECT_FALSE(lists_outputs(head + ",target\n0,conv1,5,3,parameter\n", graph));
  for (const char* tensor : {"conv1.weight", "conv9.weigth", "bn1.num_batches_tracked", ""})
    EXPECT_FALSE(lists_outputs(head + "\n0," + tensor + ",5,3\n", graph)) << tensor;
  for (const char* text : {"", "\n", "# x", "trial\n", "trial,tensor\n0\n"})
    EXPECT_FALSE(lists_outputs(text, graph)) << text;
}

TEST(FaultList, RefusesTrialsBeyondTheFirstLine) {
  EXPECT_THAT(refusal(std::string("# sentinelnn-faults 1 trials=2\n") + kHead +
                      "2,conv1.weight,0,1,-1,flip,1\n"),
              HasSubstr("l.csv:3: trial 2 is none of 0 to 1: the first line says trials=2"));
}

TEST(FaultList, RefusesTwoFaultsAtOneBit) {
  const std::string row = "1,conv1.weight,4,0,-1,";
  const std::string others = "0,conv1.weight,4,0,-1,flip,1\n1,conv1.weight,4,1,-1,flip,1\n";
  EXPECT_THAT(refusal(kHead + row + "flip,1\n" + others + row + "value:1,1\n"),
              HasSubstr("l.csv:5: trial 1 has two faults at bit 0 of element 4 of conv1.weight, "
                        "here and in line 2; keep one"));
}

}  // namespace
}  // namespace sentinel
