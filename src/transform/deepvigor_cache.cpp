#include "transform/deepvigor_cache.hpp"

#include <fcntl.h>
#include <spdlog/spdlog.h>

#include <cctype>
#include <filesystem>

#include "sentinel/core/error.hpp"
#include "sentinel/core/file.hpp"
#include "sentinel/core/hash.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

constexpr char kMagic[] = "SentinelNN cache 1\n";
constexpr std::size_t kMagicSize = sizeof kMagic - 1;
constexpr std::uint64_t kLargestFile = 1ull << 32;
constexpr std::size_t kNameDigits = 16;

// A file: magic, size of the key (u64), key, content, checksum of all before (u64).
Bytes content_of(const Bytes& file, const std::string& path, const std::string& key) {
  ByteReader end(file, path);
  if (file.size() < sizeof(std::uint64_t)) end.fail("the file is too short");
  const std::size_t size = file.size() - sizeof(std::uint64_t);
  end.seek(size);
  if (end.read<std::uint64_t>() != checksum64(file.data(), size)) end.fail("the checksum is wrong");
  ByteReader reader(file.data(), size, path);
  if (reader.text(kMagicSize) != kMagic) reader.fail("this is no cache file");
  const auto key_size = reader.read<std::uint64_t>();
  if (key_size > reader.remaining() || reader.text(key_size) != key)
    reader.fail("it was made from something else");
  return Bytes(file.begin() + static_cast<std::ptrdiff_t>(reader.offset()),
               file.begin() + static_cast<std::ptrdiff_t>(size));
}

/// Whether a link leads to somebody else's file. (A file of this name itself is ours, if damaged.)
bool leads_away(const std::string& path) {
  std::error_code none;
  if (!std::filesystem::is_symlink(path, none) || !std::filesystem::exists(path, none))
    return false;
  std::string begin(kMagicSize, '\0');
  begin.resize(FileHandle(path, O_RDONLY).read_at(begin.data(), begin.size(), 0));
  return begin != kMagic;
}

}  // namespace

KeyedCache::KeyedCache(std::string folder) : folder_(std::move(folder)) {
  if (folder_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) throw EnvironmentError("cannot make the folder " + folder_ + ": " + error.message());
}

std::string KeyedCache::path(const std::string& name, const std::string& key) const {
  std::string safe = name;
  for (char& c : safe)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-' && c != '_')
      c = '_';
  const std::string file = safe + "-" + sha256_hex(key).substr(0, kNameDigits) + ".bin";
  return (std::filesystem::path(folder_) / file).string();
}

std::optional<Bytes> KeyedCache::load(const std::string& name, const std::string& key) const {
  if (!keeps()) return std::nullopt;
  const std::string file = path(name, key);
  std::error_code unknown;
  if (!std::filesystem::exists(file, unknown)) return std::nullopt;
  try {
    return content_of(read_file(file, kLargestFile), file, key);
  } catch (const DataError& error) {
    spdlog::warn("{}; it is made anew", error.what());
    return std::nullopt;
  }
}

void KeyedCache::store(const std::string& name, const std::string& key,
                       const Bytes& content) const {
  if (!keeps()) return;
  ByteWriter writer;
  writer.text({kMagic, kMagicSize});
  writer.write<std::uint64_t>(key.size());
  writer.text(key);
  writer.append(content.data(), content.size());
  writer.write(checksum64(writer.bytes().data(), writer.bytes().size()));
  const std::string file = path(name, key);
  require_file_or_nothing(file);
  if (leads_away(file))
    throw UserError(file + " leads to a file of others; remove the link, or give another " +
                    spelled(Setting::kWorkspace));
  write_file_atomic(file, writer.bytes());
}

}  // namespace sentinel
