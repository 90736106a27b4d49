#include "core/control_groups.hpp"

#include <fstream>
#include <iterator>
#include <sstream>

namespace sentinel {
namespace {

/// Whether "cpu,cpuacct" names the controller.
bool names(const std::string& list, const std::string& controller) {
  return ("," + list + ",").find("," + controller + ",") != std::string::npos;
}

void add_upwards(std::filesystem::path group, const std::filesystem::path& root,
                 std::vector<std::filesystem::path>& folders) {
  for (;; group = group.parent_path()) {
    folders.push_back(root / group.relative_path());
    if (group.empty() || group == group.root_path()) return;
  }
}

}  // namespace

std::vector<std::filesystem::path> control_groups(const std::string& controller,
                                                  const std::string& groups,
                                                  const std::filesystem::path& mount) {
  std::vector<std::filesystem::path> folders;
  std::istringstream lines(groups);  // "4:cpu,cpuacct:/group"; of version 2 "0::/group"
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string list = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (list.empty()) add_upwards(group, mount, folders);
    if (names(list, controller)) add_upwards(group, mount / list, folders);
  }
  return folders;
}

std::vector<std::filesystem::path> own_control_groups(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  return control_groups(controller, {std::istreambuf_iterator<char>(file), {}});
}

std::string first_line(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

}  // namespace sentinel
