#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace sentinel {

/// Folders of a process's control group of `controller` ("cpu", "memory") and of all groups above
/// it, innermost first. `groups` is the text of /proc/PID/cgroup, `mount` where version 2 or the
/// folders of version 1's controllers are. A container may not see its own folder, only the last.
std::vector<std::filesystem::path> control_groups(
    const std::string& controller, const std::string& groups,
    const std::filesystem::path& mount = "/sys/fs/cgroup");

/// The same of this process.
std::vector<std::filesystem::path> own_control_groups(const std::string& controller);

/// First line of a file, empty where it cannot be read.
std::string first_line(const std::filesystem::path& file);

}  // namespace sentinel
