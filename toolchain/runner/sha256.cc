#include "sha256.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

#include <vector>

#ifdef __aarch64__
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "failure.h"
#include "sha2.h"

namespace edgeq {
namespace {

constexpr std::uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

constexpr Sha2Amounts kBy{{2, 13, 22}, {6, 11, 25}, {7, 18, 3}, {17, 19, 10}};

using State = std::array<std::uint32_t, 8>;

#ifdef __aarch64__
// Many processors of boards have instructions for this, several times as fast; others, as a Raspberry Pi 4's, have not.
bool HasInstructions() {
  static const bool has = (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
  return has;
}

__attribute__((target("+crypto"))) void BlocksByInstructions(State& state, const std::uint8_t* data,
                                                             std::size_t count) {
  uint32x4_t abcd = vld1q_u32(&state[0]);
  uint32x4_t efgh = vld1q_u32(&state[4]);
  for (; count > 0; --count, data += 64) {
    const uint32x4_t abcd_before = abcd;
    const uint32x4_t efgh_before = efgh;
    uint32x4_t w[4];  // the last sixteen words of the message schedule
    for (int i = 0; i < 4; ++i) {
      w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
    }
    for (int i = 0; i < 16; ++i) {
      const uint32x4_t added = vaddq_u32(w[i % 4], vld1q_u32(&kRound[4 * i]));
      const uint32x4_t abcd_then = abcd;
      abcd = vsha256hq_u32(abcd, efgh, added);
      efgh = vsha256h2q_u32(efgh, abcd_then, added);
      w[i % 4] = vsha256su1q_u32(vsha256su0q_u32(w[i % 4], w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
    }
    abcd = vaddq_u32(abcd, abcd_before);
    efgh = vaddq_u32(efgh, efgh_before);
  }
  vst1q_u32(&state[0], abcd);
  vst1q_u32(&state[4], efgh);
}
#endif

}  // namespace

void Sha256::Blocks(const std::uint8_t* data, std::size_t count) {
#ifdef __aarch64__
  if (HasInstructions()) {
    BlocksByInstructions(state_, data, count);
    return;
  }
#endif
  for (; count > 0; --count, data += 64) {
    Compress<kBy>(state_, data, kRound);
  }
}

void Sha256::Update(const void* data, std::size_t size) {
  const auto* next = static_cast<const std::uint8_t*>(data);
  total_ += size;
  while (size > 0) {
    if (pending_size_ == 0 && size >= pending_.size()) {
      const std::size_t whole = size / pending_.size();
      Blocks(next, whole);
      next += whole * pending_.size();
      size -= whole * pending_.size();
      continue;
    }
    const std::size_t part = std::min(size, pending_.size() - pending_size_);
    std::memcpy(pending_.data() + pending_size_, next, part);
    pending_size_ += part;
    next += part;
    size -= part;
    if (pending_size_ == pending_.size()) {
      Blocks(pending_.data(), 1);
      pending_size_ = 0;
    }
  }
}

std::string Sha256::Hex() {
  const std::uint64_t bits = total_ * 8;
  const std::uint8_t one = 0x80;
  const std::uint8_t zero = 0;
  Update(&one, 1);
  while (pending_size_ != 56) {
    Update(&zero, 1);
  }
  std::uint8_t length[8];
  for (int i = 0; i < 8; ++i) {
    length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
  }
  Update(length, sizeof length);
  std::string hex;
  for (const std::uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) {
      hex += "0123456789abcdef"[(word >> shift) & 15];
    }
  }
  return hex;
}

std::string HashFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return "";
    }
    throw Failure(Code::kCannotRead, "cannot open " + path + ": " + std::strerror(errno));
  }
  Sha256 hash;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t size = read(file, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) {
      continue;
    }
    if (size <= 0) {
      const int error = errno;
      close(file);
      if (size < 0) {
        throw Failure(Code::kCannotRead, "cannot read " + path + ": " + std::strerror(error));
      }
      return hash.Hex();
    }
    hash.Update(buffer.data(), static_cast<std::size_t>(size));
  }
}

}  // namespace edgeq
