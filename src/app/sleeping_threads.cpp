// LibTorch's threads wait for each other at the end of every parallel loop. Unless told, OpenMP
// lets them wait spinning, and beside other processes the program then takes ten times as long
// (tests/bench/README.md, "Threads"). OpenMP reads OMP_WAIT_POLICY in its constructor: main comes
// too late, and so does setenv before all constructors, as libc takes its environment later. So the
// program starts itself once more with the variables, before any constructor has run. It stays the
// same process, with the same arguments and open files.
#include <alloca.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstring>

namespace {

constexpr std::array kChoices = {
    "OMP_WAIT_POLICY=", "GOMP_SPINCOUNT=", "KMP_BLOCKTIME=", "KMP_LIBRARY="};
char passive[] = "OMP_WAIT_POLICY=passive";
// libgomp looks so often before it sleeps, some microseconds: two threads gain by it on a quiet
// machine, and lose nothing on a busy one (measured beside the rest).
char briefly[] = "GOMP_SPINCOUNT=1000";

/// Whether a variable by which the user chooses how threads wait.
bool is_choice(const char* variable) {
  for (const char* choice : kChoices)
    if (std::strncmp(variable, choice, std::strlen(choice)) == 0) return true;
  return false;
}

/// Returns where the user has chosen, or where the program cannot be started again. Calls nothing
/// that needs libc's constructor.
void start_with_sleeping_threads(int, char** arguments, char** environment) {
  std::size_t count = 0;
  for (; environment[count]; ++count)
    if (is_choice(environment[count])) return;
  // No interpreter: the user runs the dynamic loader, and the link below names it.
  if (::getauxval(AT_BASE) == 0) return;
  char program[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return;
  program[length] = '\0';
  const auto with = static_cast<char**>(::alloca((count + 3) * sizeof(char*)));
  std::memcpy(with, environment, count * sizeof(char*));
  with[count] = passive;
  with[count + 1] = briefly;
  with[count + 2] = nullptr;
  ::execve(program, arguments, with);
}

[[gnu::section(".preinit_array"),
  gnu::used]] void (*before_constructors)(int, char**, char**) = start_with_sleeping_threads;

}  // namespace
