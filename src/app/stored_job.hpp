#pragma once
#include <string>
#include <vector>

#include "app/command.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/comm/comm.hpp"

namespace sentinel {

/// The job of inject or campaign whose options `table` holds, as their result files keep it (TOML);
/// `flags` are options that win over it. `source` names the file in messages. UserError where
/// another subcommand made it, DataError where it cannot be read.
Job stored_job(const Comm& comm, const std::string& source, const std::string& table,
               const std::vector<std::string>& flags);

/// The job of a `campaign` as if these words were typed behind it; its result keeps them, so that
/// `replay` runs its trials again. UserError.
Job typed_campaign(const Context& context, std::vector<std::string> words);

}  // namespace sentinel
