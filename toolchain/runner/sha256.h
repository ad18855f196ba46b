// SHA-256 as in FIPS 180-4, so that a device without any tool can tell what it holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edgeq {

class Sha256 {
 public:
  void Update(const void* data, std::size_t size);
  // 64 lower-case hexadecimal digits; the object is spent afterwards.
  std::string Hex();

 private:
  void Blocks(const std::uint8_t* data, std::size_t count);
  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> pending_{};
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

// The hash of a file's content; an empty string if there is no such file. Failure(kCannotRead) for any other trouble.
std::string HashFile(const std::string& path);

}  // namespace edgeq
