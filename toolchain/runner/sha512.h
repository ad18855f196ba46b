// SHA-512 as in FIPS 180-4, which Ed25519 hashes with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edgeq {

class Sha512 {
 public:
  void Update(const void* data, std::size_t size);
  // The object is spent afterwards.
  std::array<std::uint8_t, 64> Digest();

 private:
  std::array<std::uint64_t, 8> state_{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                      0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  std::array<std::uint8_t, 128> pending_{};
  std::size_t pending_size_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace edgeq
