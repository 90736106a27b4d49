// Changes bytes of result files and reads them: fuzz_result_bytes COUNT FOLDER [FIRST]. HDF5's
// library crashes on some, so that children read, and a crash costs one child. What crashed outside
// of the library goes to FOLDER, with its report. FIRST: the number of the first file, 0 unless
// given. See README.md.
#include <sanitizer/common_interface_defs.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>

#include "corrupt/result_images.hpp"
#include "corrupt/result_readers.hpp"
#include "corrupt/target.hpp"
#include "sentinel/core/file.hpp"

namespace {

using namespace sentinel;

constexpr unsigned kMostSeconds = 1;  // of the processor; a file takes milliseconds

/// Says where a reader is that does not come back.
extern "C" void say_where(int) {
  std::fputs("HANG\n", stderr);
  __sanitizer_print_stack_trace();
  ::_exit(1);
}

/// Time of the processor, for the machine may be busy.
void watch() {
  std::signal(SIGVTALRM, say_where);
  const itimerval most{{0, 0}, {kMostSeconds, 0}};
  ::setitimer(ITIMER_VIRTUAL, &most, nullptr);
}

/// The file of a number, the same in every run.
Bytes damaged(const std::vector<Bytes>& files, std::uint64_t number) {
  std::mt19937_64 random(number);
  const test::Target plain;
  Bytes file = files[random() % files.size()];
  for (auto n = random() % 8 + 1; n > 0; --n) file = test::changed(plain, file, random);
  return file;
}

[[noreturn]] void read_all(const std::vector<Bytes>& files, const test::ResultReaders& readers,
                           std::uint64_t& number, std::uint64_t end) {
  for (; number < end; ++number) {
    watch();
    const Bytes file = damaged(files, number);
    test::accepted([&] { readers.read(file, static_cast<int>(number)); });
  }
  ::_exit(0);
}

/// The function of HDF5's library in which a report says that the reader crashed or hung, or how it
/// was called; empty where it was in none.
std::string library_function(const std::string& report) {
  const std::string what = report.rfind("HANG\n", 0) == 0 ? "endless in " : "";
  std::istringstream lines(report);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("/src/") != std::string::npos && line.find("    #") == 0) return "";
    if (line.find("libhdf5") == std::string::npos) continue;
    const std::size_t in = line.find(" in ");
    return what + (in == std::string::npos ? "a function without a name"
                                           : line.substr(in + 4, line.find(' ', in + 4) - in - 4));
  }
  return "";
}

/// The text that a child wrote to stderr.
std::string read_report(std::FILE* file) {
  std::rewind(file);
  std::string text;
  for (int c = 0; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  return text;
}

/// How a child ended: well, or why not.
struct End {
  bool well = false;
  std::string report, library_function;
};

/// Reads files from `number` on until one crashes, or to the end.
End run_child(const std::vector<Bytes>& files, std::uint64_t& number, std::uint64_t end) {
  const test::ResultReaders readers;  // with a folder that is gone afterwards
  std::FILE* report = std::tmpfile();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::fileno(report), 2);
    if (!std::freopen("/dev/null", "w", stdout)) ::_exit(1);
    read_all(files, readers, number, end);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  End result{WIFEXITED(status) && WEXITSTATUS(status) == 0, read_report(report), ""};
  std::fclose(report);
  result.library_function = library_function(result.report);
  return result;
}

void keep(const std::string& folder, std::uint64_t number, const Bytes& file, const End& end) {
  const std::string name = folder + "/" + std::to_string(number);
  write_file_atomic(name, file);
  write_file_atomic(name + ".report", end.report);
  std::printf("fault: %s, read by %d\n", name.c_str(),
              static_cast<int>(number % test::ResultReaders::kCount));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: fuzz_result_bytes COUNT FOLDER [FIRST]\n"), 64;
  spdlog::set_default_logger(spdlog::null_logger_mt("fuzz"));
  const std::uint64_t count = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t first = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 0;
  const std::vector<Bytes> files = test::result_files();
  auto& number = *static_cast<std::uint64_t*>(::mmap(
      nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::map<std::string, int> crashes;  // of the library, by function
  int faults = 0;
  for (number = first; number < first + count; ++number) {
    const End end = run_child(files, number, first + count);
    if (end.well) break;
    if (!end.library_function.empty()) {
      ++crashes[end.library_function];
      continue;
    }
    keep(argv[2], number, damaged(files, number), end);
    ++faults;
  }
  std::printf("%llu files read; faults: %d; crashes inside libhdf5:\n",
              static_cast<unsigned long long>(count), faults);
  for (const auto& [function, times] : crashes) std::printf("%6d %s\n", times, function.c_str());
  return faults == 0 ? 0 : 1;
}
