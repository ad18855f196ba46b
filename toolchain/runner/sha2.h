// What SHA-256 and SHA-512 share (FIPS 180-4, 6.2.2 and 6.4.2): the compression of a block, on words of 32 bits in 64
// rounds or on words of 64 bits in 80.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace edgeq {

// By how many bits the four functions of section 4.1 rotate, the last of the small ones shifts.
struct Sha2Amounts {
  int big0[3];
  int big1[3];
  int small0[3];
  int small1[3];
};

template <typename Word>
constexpr Word Rotate(Word x, int n) {
  return (x >> n) | (x << (8 * static_cast<int>(sizeof(Word)) - n));
}

template <const Sha2Amounts& kBy, typename Word, std::size_t kRounds>
void Compress(std::array<Word, 8>& state, const std::uint8_t* block, const Word (&round)[kRounds]) {
  Word w[kRounds];
  for (std::size_t i = 0; i < 16; ++i) {
    w[i] = 0;
    for (std::size_t j = 0; j < sizeof(Word); ++j) {
      w[i] = w[i] << 8 | block[sizeof(Word) * i + j];
    }
  }
  for (std::size_t i = 16; i < kRounds; ++i) {
    const Word early = w[i - 15];
    const Word late = w[i - 2];
    const Word s0 = Rotate(early, kBy.small0[0]) ^ Rotate(early, kBy.small0[1]) ^ (early >> kBy.small0[2]);
    const Word s1 = Rotate(late, kBy.small1[0]) ^ Rotate(late, kBy.small1[1]) ^ (late >> kBy.small1[2]);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (std::size_t i = 0; i < kRounds; ++i) {
    const Word s1 = Rotate(e, kBy.big1[0]) ^ Rotate(e, kBy.big1[1]) ^ Rotate(e, kBy.big1[2]);
    const Word t1 = h + s1 + ((e & f) ^ (~e & g)) + round[i] + w[i];
    const Word s0 = Rotate(a, kBy.big0[0]) ^ Rotate(a, kBy.big0[1]) ^ Rotate(a, kBy.big0[2]);
    const Word t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const Word mixed[8] = {a, b, c, d, e, f, g, h};
  for (std::size_t i = 0; i < 8; ++i) {
    state[i] += mixed[i];
  }
}

}  // namespace edgeq
