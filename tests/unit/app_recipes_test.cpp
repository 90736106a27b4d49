#include <gmock/gmock.h>

#include <set>

#include "app/protect_answer.hpp"
#include "app/recipe_table.hpp"
#include "sentinel/networks/outputs.hpp"

namespace sentinel {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(Recipes, TheBuiltInOnesHoldThePublishedMethods) {
  std::vector<Recipe> recipes = parse_recipes("built-in recipes", built_in_recipes());
  EXPECT_LE(recipes.size(), kMostRecipes);
  for (Recipe& recipe : parse_recipes("long recipes", long_recipes()))
    recipes.push_back(std::move(recipe));
  std::set<std::string> names;
  for (const Recipe& recipe : recipes) names.insert(recipe.name);
  EXPECT_EQ(names.size(), recipes.size());
  for (const char* method :
       {"seed", "ranger", "mset", "cep", "secded", "zero-space", "ftclip", "fitact", "proact"})
    EXPECT_EQ(names.count(method), 1u) << method;
}

TEST(Recipes, AreInTheOrderOfTheFileAndDoWhatTheyAreTold) {
  const std::vector<Recipe> recipes = parse_recipes("r.toml", R"(
[zero]
store = ["weight=int8", "bias=fp16"]
[a]
finetune-epochs = 2
train-store = ["weight=int4"]
weight-bounds = "layer"
)");
  ASSERT_EQ(recipes.size(), 2u);
  EXPECT_EQ(recipes[0].name, "zero");
  EXPECT_EQ(recipes[0].options, "--store weight=int8 --store bias=fp16");
  EXPECT_FALSE(recipes[0].training);
  EXPECT_FALSE(recipes[0].protection.hardening.restricted);
  EXPECT_EQ(recipes[0].protection.hardening.duplication.ratio, 0);
  EXPECT_FALSE(needs_training_images(recipes[0]));
  ASSERT_TRUE(recipes[1].training);
  EXPECT_EQ(recipes[1].training->finetune_epochs, 2);
  EXPECT_EQ(recipes[1].training->finetune.store.at(0).text, "weight=int4");
  EXPECT_TRUE(needs_training_images(recipes[1]));
}

TEST(Recipes, DoNotChooseByTheImagesThatConfirm) {
  EXPECT_THROW(parse_recipes("r", "[a]\nfinetune-epochs = 1\nselect = \"test\""), UserError);
}

std::string error_of(const std::string& text) {
  try {
    parse_recipes("r.toml", text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Recipes, ThatAreWrongAreNamedOnceWithTheirFile) {
  EXPECT_THAT(error_of("[a]\nstore = ['weight']"),
              StartsWith("r.toml: recipe a: store takes CLASS"));
  EXPECT_THAT(error_of("[a]\nstore = []"), StartsWith("r.toml:2: an empty list"));
  EXPECT_THAT(error_of("[a]\nseed = 3"), StartsWith("r.toml:2: unknown key"));
  EXPECT_EQ(error_of("[a]"), "r.toml: recipe a: protects nothing");
}

TEST(Recipes, AreNamedInTheHelp) {
  const std::vector<std::string> names = method_names();
  EXPECT_EQ(names.front(), "int4-bch8");
  EXPECT_EQ(names.back(), "proact");
  EXPECT_EQ(names.size(), parse_recipes("", built_in_recipes()).size() +
                              parse_recipes("", long_recipes()).size());
}

TEST(Recipes, ShowFlagsAsTheyAreTyped) {
  const auto recipes = parse_recipes("r", "[a]\nfold-batch-norm = true\nstore = [\"weight=int8\"]");
  EXPECT_EQ(recipes[0].options, "--store weight=int8 --fold-batch-norm");
}

Answer answer_of(double accuracy) {
  Answer answer;
  answer.wish.ber = 1e-2;
  answer.candidates.resize(1);
  answer.candidates[0].recipe = parse_recipes("r", "[a]\nstore=['weight=int8']")[0];
  answer.candidates[0].cost.memory = 0.25;
  answer.candidates[0].cost.macs = 1;
  answer.winner = 0;
  answer.confirmed.fault_free = 0.9;
  answer.confirmed.chosen = {accuracy, accuracy - 0.002, accuracy + 0.002, 0.95, "t", 500};
  return answer;
}

TEST(ProtectAnswer, IsMetWhereTheWholeIntervalOfTheLossIsWithinTheWish) {
  EXPECT_TRUE(answer_of(0.893).met());
  EXPECT_THAT(sentence_of(answer_of(0.893)),
              StartsWith("a loses 0.70 points [0.50, 0.90] at BER 0.01"));
  EXPECT_FALSE(answer_of(0.891).met());
  EXPECT_THAT(sentence_of(answer_of(0.891)), HasSubstr("is not shown by so few trials (--repeat)"));
  EXPECT_FALSE(answer_of(0.88).met());
  EXPECT_THAT(sentence_of(answer_of(0.88)), HasSubstr("is missed"));
}

TEST(ProtectAnswer, CallsALossBelowZeroAGain) {
  EXPECT_THAT(sentence_of(answer_of(0.906)), StartsWith("a gains 0.60 points [0.40, 0.80] at"));
  EXPECT_THAT(sentence_of(answer_of(0.901)), StartsWith("a gains 0.10 points [-0.10, 0.30] at"));
}

TEST(ProtectAnswer, SaysWhatMayFailAndWhereARaceWasNotDecided) {
  Answer answer = answer_of(0.893);
  EXPECT_THAT(sentence_of(answer), HasSubstr("at BER 0.01: "));
  EXPECT_THAT(sentence_of(answer), HasSubstr("the only recipe that fits"));
  answer.wish.target = "weight,bias";
  answer.candidates.push_back(answer.candidates[0]);
  answer.decided = false;
  EXPECT_THAT(sentence_of(answer), HasSubstr("at BER 0.01 in weight,bias: "));
  EXPECT_THAT(sentence_of(answer),
              HasSubstr("the race ended undecided with 2 of the 2 recipes that fit left, it is the "
                        "cheapest of those within 0.5 points of the best mean"));
}

TEST(ProtectAnswer, IsOneLineOfJsonThatOutputsKnow) {
  const std::string json = to_json(answer_of(0.893));
  EXPECT_THAT(json, StartsWith(kAnswerHead));
  EXPECT_EQ(json.find('\n'), json.size() - 1);
}

TEST(ProtectAnswer, NamesTheNearestWhereNothingFits) {
  Answer answer = answer_of(0.9);
  answer.winner = -1;
  answer.wish.memory = 0.2;
  answer.candidates[0].left_out = "too much memory";
  EXPECT_FALSE(answer.met());
  EXPECT_THAT(sentence_of(answer), HasSubstr("the nearest is a with 0.250 and 1.000"));
}

}  // namespace
}  // namespace sentinel
