#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "sentinel/core/error.hpp"
#include "sentinel/core/json.hpp"
#include "sentinel/core/time.hpp"

namespace sentinel {
namespace {

using ::testing::HasSubstr;

TEST(Time, OfTheYears1900To9999) {
  EXPECT_EQ(utc_text(-2208988800.0), "1900-01-01T00:00:00Z");
  EXPECT_EQ(utc_text(0), "1970-01-01T00:00:00Z");
  EXPECT_EQ(utc_text(1.75e9), "2025-06-15T15:06:40Z");
  EXPECT_EQ(utc_text(253402300799.0), "9999-12-31T23:59:59Z");
  for (const double bad :
       {253402300800.0, 1e300, -2208988801.0, -1e300, HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    EXPECT_FALSE(is_time(bad)) << bad;
    EXPECT_EQ(utc_text(bad), "an unknown time");
  }
}

std::string nested(std::size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(Json, NestedTooDeepIsRefused) {
  EXPECT_EQ(json_excess(nested(kMaxJsonDepth)), "");
  EXPECT_NO_THROW(nlohmann::json::parse(nested(kMaxJsonDepth)));
  EXPECT_THAT(json_excess(nested(kMaxJsonDepth + 1)), HasSubstr("nested more than 100 deep"));
  std::string objects;
  for (int i = 0; i < 200000; ++i) objects += "{\"a\":";
  EXPECT_THAT(json_excess(objects), HasSubstr("nested more than 100 deep"));
  EXPECT_THROW(check_json("x.pth", objects), DataError);
}

TEST(Json, BracketsInStringsDoNotCount) {
  EXPECT_EQ(json_excess("[\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"]"),
            "");
  EXPECT_EQ(json_excess("\"\\"), "");
  EXPECT_THAT(json_excess("\"\\\\\"" + nested(200)), HasSubstr("nested"));
}

TEST(Json, TooManyValuesAreRefused) {
  std::string many = "[0";
  for (std::size_t i = 0; i < kMaxJsonValues; ++i) many += ",0";
  EXPECT_THAT(json_excess(many + "]"), HasSubstr("more than 1048576 values"));
  EXPECT_EQ(json_excess("[0" + many.substr(many.size() / 2) + "]"), "");
}

}  // namespace
}  // namespace sentinel
