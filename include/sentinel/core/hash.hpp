#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sentinel {

/// SHA-256 of a stream of bytes (OpenSSL).
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  ~Sha256();
  void update(const void* data, std::size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  /// 64 lower-case hexadecimal digits, as sha256sum prints; ends the stream.
  std::string hex();

 private:
  struct Deleter {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Deleter> context_;
};

std::string sha256_hex(const void* data, std::size_t size);
inline std::string sha256_hex(std::string_view text) {
  return sha256_hex(text.data(), text.size());
}

/// Checksum of journal frames: the first 8 bytes of SHA-256.
std::uint64_t checksum64(const void* data, std::size_t size);

}  // namespace sentinel
