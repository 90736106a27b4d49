#include <gtest/gtest.h>

#include <algorithm>

#include "app/command.hpp"

namespace sentinel {
namespace {

TEST(Settings, EachIsAnOptionOfSomeSubcommand) {
  CLI::App root;
  std::vector<CLI::App*> apps;
  const auto commands = all_commands();
  for (const auto& command : commands) apps.push_back(command->add_to(root));
  ASSERT_GT(apps.size(), 10u);
  for (int i = 0; i < static_cast<int>(Setting::kCount); ++i) {
    const std::string option = option_of(static_cast<Setting>(i));
    EXPECT_TRUE(std::any_of(apps.begin(), apps.end(), [&](const CLI::App* app) {
      return app->get_option_no_throw(option) != nullptr;
    })) << option;
  }
}

}  // namespace
}  // namespace sentinel
