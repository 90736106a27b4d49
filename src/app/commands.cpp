#include "app/command.hpp"

namespace sentinel {

std::vector<std::unique_ptr<Command>> all_commands() {
  std::vector<std::unique_ptr<Command>> all;
  for (auto make :
       {make_evaluate, make_profile, make_rank, make_vulnerability, make_prune, make_harden,
        make_protect, make_inject, make_campaign, make_plan, make_train, make_export, make_synth,
        make_summarize, make_merge, make_replay, make_inspect, make_bench})
    all.push_back(make());
  return all;
}

std::string option_of(Setting setting) {
  return "--" + plain_name(setting);
}

}  // namespace sentinel
