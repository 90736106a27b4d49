#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sentinel {

/// A file of TorchScript's code in an archive.
struct ScriptText {
  std::string record;  // "code/__torch__/net.py"
  std::string module;  // "__torch__.net"
  std::string_view text;
};

enum class ScriptTokenKind : std::uint8_t { kName, kNumber, kText, kSign };

struct ScriptToken {
  ScriptTokenKind kind = ScriptTokenKind::kSign;
  std::uint32_t line = 0;
  std::string_view text;  // of a text: without its quotes

  bool is(std::string_view sign) const { return kind == ScriptTokenKind::kSign && text == sign; }
  bool is_name(std::string_view name) const {
    return kind == ScriptTokenKind::kName && text == name;
  }
};

/// A line of code; one with open brackets goes on in the next.
struct ScriptStatement {
  std::size_t indent = 0;  // in levels of two spaces
  std::vector<ScriptToken> tokens;
};

/// Refuses a place in a file's code: DataError naming the archive's file, its record and line.
class ScriptPlace {
 public:
  ScriptPlace(const std::string& source, const std::string& record)
      : source_(source), record_(record) {}
  [[noreturn]] void fail(std::uint32_t line, const std::string& why) const;

 private:
  const std::string &source_, &record_;
};

/// Splits code as torch.jit.save writes it. Signs and texts that it never writes are refused, as
/// LibTorch may read them otherwise. Nesting is bounded: LibTorch's parser and compiler call
/// themselves for every level of it and end the program where it is too deep.
std::vector<ScriptStatement> split_script(const ScriptText& file, const ScriptPlace& place);

/// A name of the file for a message: printable and short.
std::string quoted_name(std::string_view name);

}  // namespace sentinel
