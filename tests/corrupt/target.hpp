#pragma once
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "sentinel/core/bytes.hpp"
#include "sentinel/core/error.hpp"

namespace sentinel::test {

/// A kind of file that others may have written, and what reads it. Used by the fuzzers
/// (fuzz_main.cpp) and, for seconds, by every build's tests (corrupt_test.cpp).
struct Target {
  std::string name;
  std::vector<Bytes> seeds;        // a good file, others, and some bad ones
  std::vector<std::string> words;  // of the format, to be put anywhere
  /// Makes checksums right, so that a change of the content is not refused for them alone.
  std::function<void(Bytes&)> repair = [](Bytes&) {};
  /// Reads a file as the program does; false where it was refused. Anything thrown is a fault.
  std::function<bool(const Bytes&)> read;
};

Target pth_target();
Target journal_target();
Target job_target();
Target result_target();
Target image_target();
Target list_target();
Target metadata_target();
Target script_target();
Target state_target();

/// Runs a reader. It may refuse bad input by these, and by nothing else.
template <class Read>
bool accepted(const Read& read) {
  try {
    read();
    return true;
  } catch (const DataError&) {
    return false;
  } catch (const UserError&) {
    return false;
  } catch (const std::filesystem::filesystem_error&) {  // a name too long for any file
    return false;
  }
}

/// A file with one random change: bytes replaced, added, taken out or moved, a word or an extreme
/// number put in. Mostly with its checksums right again.
Bytes changed(const Target& target, Bytes file, std::mt19937_64& random);

/// The words of a text, which blanks and line ends part.
std::vector<std::string> words(const std::string& text);

inline Bytes to_bytes(std::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(data, data + text.size());
}
inline std::string_view to_text(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace sentinel::test
