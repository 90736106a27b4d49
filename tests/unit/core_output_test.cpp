#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/stop.hpp"

namespace sentinel {
namespace {

namespace fs = std::filesystem;

class OutputFile : public ::testing::Test {
 protected:
  OutputFile() : folder_(fs::temp_directory_path() / ("output." + std::to_string(::getpid()))) {
    fs::create_directory(folder_);
  }
  ~OutputFile() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string content(const std::string& path) {
    const Bytes bytes = read_file(path);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

TEST_F(OutputFile, OfALinkIsWhatItLeadsTo) {
  write_file_atomic(path("target"), std::string_view("old"));
  fs::create_symlink("target", path("link"));
  fs::create_symlink(path("link"), path("link of link"));
  EXPECT_EQ(link_target(path("link of link")), path("target"));
  EXPECT_EQ(link_target(path("target")), path("target"));
  write_file_atomic(path("link of link"), std::string_view("new"));
  EXPECT_TRUE(fs::is_symlink(path("link")) && fs::is_symlink(path("link of link")));
  EXPECT_EQ(content(path("target")), "new");
  fs::create_symlink("absent", path("dangling"));
  require_writable(path("dangling"));
  write_file_atomic(path("dangling"), std::string_view("made"));
  EXPECT_EQ(content(path("absent")), "made");
  EXPECT_TRUE(fs::is_symlink(path("dangling")));
  fs::create_symlink("circle", path("circle"));
  EXPECT_THROW(write_file_atomic(path("circle"), std::string_view("x")), EnvironmentError);
}

TEST_F(OutputFile, IsNoStream) {
  for (const char* stream : {"/proc/self/fd/1", "/dev/fd/1"})
    EXPECT_THROW(require_writable(stream), UserError) << stream;
  fs::create_symlink("/proc/self/fd/0", path("stdin"));
  EXPECT_THROW(require_writable(path("stdin")), UserError);
  EXPECT_FALSE(same_file("/dev/stdin", path("stdin of others")));  // an input may be one
}

TEST_F(OutputFile, HasManyNamesBeforeItIsThere) {
  EXPECT_TRUE(same_file("none.h5", "./none.h5"));
  fs::create_directory(path("folder"));
  EXPECT_TRUE(same_file(path("none.h5"), path("folder/../none.h5")));
  EXPECT_FALSE(same_file("none.h5", "other.h5"));
}

TEST_F(OutputFile, IsNoFolderFifoOrDevice) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  fs::create_directory(path("folder"));
  fs::create_symlink("fifo", path("link"));
  for (const std::string& there : {path("fifo"), path("link"), path("folder"),
                                   std::string("/dev/full"), std::string("/dev/null")}) {
    EXPECT_THROW(require_writable(there), UserError) << there;
    EXPECT_THROW(require_file_or_nothing(there), UserError) << there;
  }
  EXPECT_THROW(write_file_atomic(path("fifo"), std::string_view("x")), UserError);
  EXPECT_TRUE(fs::is_fifo(path("fifo")));
  EXPECT_THROW(require_readable(path("fifo")), DataError);
  EXPECT_EQ(files(), 3u) << "a temporary file stayed";
}

TEST_F(OutputFile, IsTriedBeforeTheWork) {
  require_writable("");
  require_writable(path("new"));
  EXPECT_EQ(files(), 0u);
  EXPECT_THROW(require_writable(path("no/such/folder")), EnvironmentError);
  EXPECT_THROW(require_writable(path(std::string(250, 'x'))), EnvironmentError);
}

TEST_F(OutputFile, DoesNotWriteThroughALinkInPlaceOfItsTemporary) {
  write_file_atomic(path("mine"), std::string_view("mine"));
  fs::create_symlink("mine", temporary_beside(path("out")));
  write_file_atomic(path("out"), std::string_view("out"));
  EXPECT_EQ(content(path("mine")), "mine");
  EXPECT_EQ(content(path("out")), "out");
}

TEST_F(OutputFile, SaysThatTheLimitOfSizesIsReached) {
  const auto write = [&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomic(path("large"), std::string_view(std::string(2000, 'x')));
    } catch (const EnvironmentError& error) {
      const bool said = std::string(error.what()).find("ulimit -f") != std::string::npos;
      std::_Exit(said && files() == 0 ? 71 : 1);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(write(), ::testing::ExitedWithCode(71), "");
}

TEST(Stop, EndsTheProgramAtOnceWhereNobodyLooks) {
  const auto ended_by = [](int signal) {
    install_stop_handlers();
    std::raise(signal);
    std::_Exit(0);
  };
  EXPECT_EXIT(ended_by(SIGTERM), ::testing::ExitedWithCode(75), "run the same command again");
  EXPECT_EXIT(ended_by(SIGUSR1), ::testing::ExitedWithCode(75), "run the same command again");
  EXPECT_EXIT(ended_by(SIGINT), ::testing::ExitedWithCode(130), "run the same command again");
}

TEST(Stop, IsAFlagWhereSomebodyLooks) {
  const auto watched = [] {
    install_stop_handlers();
    {
      const StopWatch watch;
      std::raise(SIGTERM);
      if (stop_signal() != SIGTERM) std::_Exit(1);
    }
    try {
      require_not_stopped();
    } catch (const Error& error) {
      std::_Exit(static_cast<int>(error.code()));
    }
  };
  EXPECT_EXIT(watched(), ::testing::ExitedWithCode(75), "");
}

}  // namespace
}  // namespace sentinel
