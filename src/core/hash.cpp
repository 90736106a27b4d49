#include "sentinel/core/hash.hpp"

#include <openssl/evp.h>

#include <array>
#include <cstring>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

EVP_MD_CTX* context_of(void* context) {
  return static_cast<EVP_MD_CTX*>(context);
}

using Digest = std::array<unsigned char, 32>;

Digest digest(const void* data, std::size_t size) {
  Digest result{};
  unsigned length = 0;
  if (EVP_Digest(data, size, result.data(), &length, EVP_sha256(), nullptr) != 1)
    throw Bug("OpenSSL could not compute SHA-256");
  return result;
}

std::string to_hex(const Digest& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

}  // namespace

void Sha256::Deleter::operator()(void* context) const {
  EVP_MD_CTX_free(context_of(context));
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (!context_ || EVP_DigestInit_ex(context_of(context_.get()), EVP_sha256(), nullptr) != 1)
    throw Bug("OpenSSL could not start SHA-256");
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::update(const void* data, std::size_t size) {
  if (EVP_DigestUpdate(context_of(context_.get()), data, size) != 1)
    throw Bug("OpenSSL could not continue SHA-256");
}

std::string Sha256::hex() {
  Digest result{};
  unsigned length = 0;
  if (EVP_DigestFinal_ex(context_of(context_.get()), result.data(), &length) != 1)
    throw Bug("OpenSSL could not end SHA-256");
  return to_hex(result);
}

std::string sha256_hex(const void* data, std::size_t size) {
  return to_hex(digest(data, size));
}

std::uint64_t checksum64(const void* data, std::size_t size) {
  const Digest bytes = digest(data, size);
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

}  // namespace sentinel
