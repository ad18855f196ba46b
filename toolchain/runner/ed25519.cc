#include "ed25519.h"

#include <cstddef>
#include <cstring>
#include <optional>

#include "sha512.h"

namespace edgeq {
namespace {

// A number below 2^128, in two words: not every compiler for 32 bits has a type of that size.
struct Wide {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
};

constexpr Wide operator+(const Wide& a, const Wide& b) {
  const std::uint64_t low = a.low + b.low;
  return {a.high + b.high + (low < a.low ? 1 : 0), low};
}

// By one to 63 bits.
constexpr Wide operator>>(const Wide& a, unsigned bits) {
  return {a.high >> bits, a.low >> bits | a.high << (64 - bits)};
}

// In halves of words, as by hand.
constexpr Wide ProductOfHalves(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t kHalf = 0xffffffff;
  const std::uint64_t low = (a & kHalf) * (b & kHalf);
  const std::uint64_t left = (a >> 32) * (b & kHalf);
  const std::uint64_t right = (a & kHalf) * (b >> 32);
  const std::uint64_t middle = (low >> 32) + (left & kHalf) + (right & kHalf);
  return {(a >> 32) * (b >> 32) + (left >> 32) + (right >> 32) + (middle >> 32), middle << 32 | (low & kHalf)};
}

constexpr bool Is(const Wide& a, std::uint64_t high, std::uint64_t low) { return a.high == high && a.low == low; }
static_assert(Is(ProductOfHalves(~std::uint64_t{0}, ~std::uint64_t{0}), ~std::uint64_t{0} - 1, 1), "all carries");
static_assert(Is(ProductOfHalves(0x0123456789abcdef, 0xfedcba9876543210), 0x121fa00ad77d742, 0x2236d88fe5618cf0), "all halves");

constexpr Wide Product(std::uint64_t a, std::uint64_t b) {
#ifdef __SIZEOF_INT128__
  // One instruction on a machine of 64 bits, which makes a signature nearly three times as fast to check.
  __extension__ typedef unsigned __int128 Word;
  const Word product = static_cast<Word>(a) * b;
  return {static_cast<std::uint64_t>(product >> 64), static_cast<std::uint64_t>(product)};
#else
  return ProductOfHalves(a, b);
#endif
}

using Bytes32 = std::array<std::uint8_t, 32>;

constexpr std::uint64_t kLimb = (std::uint64_t{1} << 51) - 1;

std::uint64_t LoadLittle(const std::uint8_t* bytes) {
  std::uint64_t word = 0;
  for (int i = 7; i >= 0; --i) {
    word = word << 8 | bytes[i];
  }
  return word;
}

// A number modulo p = 2^255 - 19, as the sum of limb[i] * 2^(51 i). Limbs stay below 2^52, so that two may be added and
// then multiplied; the number itself is not reduced before it is written out.
class Field {
 public:
  constexpr Field() : limb_{} {}
  constexpr explicit Field(std::uint64_t small) : limb_{small, 0, 0, 0, 0} {}

  // The lower 255 bits.
  static Field FromBytes(const Bytes32& bytes) {
    const std::uint64_t w0 = LoadLittle(&bytes[0]);
    const std::uint64_t w1 = LoadLittle(&bytes[8]);
    const std::uint64_t w2 = LoadLittle(&bytes[16]);
    const std::uint64_t w3 = LoadLittle(&bytes[24]);
    Field out;
    out.limb_ = {w0 & kLimb, (w0 >> 51 | w1 << 13) & kLimb, (w1 >> 38 | w2 << 26) & kLimb,
                 (w2 >> 25 | w3 << 39) & kLimb, (w3 >> 12) & kLimb};
    return out;
  }

  // The one encoding of a number below p.
  Bytes32 ToBytes() const {
    Field reduced = *this;
    reduced.Carry();
    reduced.Carry();
    // Now below 2^255: adding 19 overflows exactly where the number is p or more.
    std::uint64_t over = 19;
    for (const std::uint64_t limb : reduced.limb_) {
      over = (limb + over) >> 51;
    }
    std::uint64_t carry = 19 * over;
    for (std::uint64_t& limb : reduced.limb_) {
      carry += limb;
      limb = carry & kLimb;
      carry >>= 51;
    }
    Bytes32 bytes{};
    for (std::size_t bit = 0; bit < 255; ++bit) {
      bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] | (reduced.limb_[bit / 51] >> bit % 51 & 1) << bit % 8);
    }
    return bytes;
  }

  bool IsZero() const { return ToBytes() == Bytes32{}; }
  bool IsOdd() const { return (ToBytes()[0] & 1) != 0; }

  friend Field operator+(const Field& a, const Field& b) {
    Field sum;
    for (std::size_t i = 0; i < 5; ++i) {
      sum.limb_[i] = a.limb_[i] + b.limb_[i];
    }
    sum.Carry();
    return sum;
  }

  friend Field operator-(const Field& a, const Field& b) {
    // 4 p is added so that no limb becomes negative.
    Field difference;
    difference.limb_[0] = a.limb_[0] + 4 * (kLimb - 18) - b.limb_[0];
    for (std::size_t i = 1; i < 5; ++i) {
      difference.limb_[i] = a.limb_[i] + 4 * kLimb - b.limb_[i];
    }
    difference.Carry();
    return difference;
  }

  friend Field operator*(const Field& a, const Field& b) {
    Wide sum[5] = {};
    for (std::size_t i = 0; i < 5; ++i) {
      for (std::size_t j = 0; j < 5; ++j) {
        // 2^255 is 19.
        const std::uint64_t factor = i + j >= 5 ? 19 * b.limb_[j] : b.limb_[j];
        sum[(i + j) % 5] = sum[(i + j) % 5] + Product(a.limb_[i], factor);
      }
    }
    Field product;
    Wide carry;
    for (std::size_t i = 0; i < 5; ++i) {
      carry = carry + sum[i];
      product.limb_[i] = carry.low & kLimb;
      carry = carry >> 51;
    }
    // The carry is below 2^63, so 19 times it does not fit in a word.
    carry = Product(carry.low, 19) + Wide{0, product.limb_[0]};
    product.limb_[0] = carry.low & kLimb;
    product.limb_[1] += (carry >> 51).low;
    product.Carry();
    return product;
  }

  // This to the power of the number whose little-endian bytes are given.
  Field Power(const Bytes32& exponent) const {
    Field result(1);
    for (std::size_t bit = 256; bit-- > 0;) {
      result = result * result;
      if ((exponent[bit / 8] >> bit % 8 & 1) != 0) {
        result = result * *this;
      }
    }
    return result;
  }

 private:
  void Carry() {
    std::uint64_t carry = 0;
    for (std::uint64_t& limb : limb_) {
      limb += carry;
      carry = limb >> 51;
      limb &= kLimb;
    }
    limb_[0] += 19 * carry;
  }

  std::array<std::uint64_t, 5> limb_;
};

// 2^255 - 19 has these bytes, and so have, but for the first and the last, the exponents that are derived from it.
constexpr Bytes32 Exponent(std::uint8_t first, std::uint8_t last) {
  Bytes32 bytes{};
  for (std::uint8_t& byte : bytes) {
    byte = 0xff;
  }
  bytes[0] = first;
  bytes[31] = last;
  return bytes;
}

struct Constants {
  Field d;               // -121665 / 121666
  Field d2;              // 2 d
  Field root_of_minus1;  // 2^((p - 1) / 4)
};

const Constants& Curve() {
  static const Constants constants = [] {
    const Field d = (Field() - Field(121665)) * Field(121666).Power(Exponent(0xeb, 0x7f));  // p - 2
    return Constants{d, d + d, Field(2).Power(Exponent(0xfb, 0x1f))};                       // (p - 1) / 4
  }();
  return constants;
}

// Extended homogeneous coordinates: x = X / Z, y = Y / Z, x y = T / Z.
struct Point {
  Field x, y, z, t;
};

Point Identity() { return {Field(), Field(1), Field(1), Field()}; }

Point Negated(const Point& p) { return {Field() - p.x, p.y, p.z, Field() - p.t}; }

// RFC 8032, section 5.1.4. The formulas are complete: they hold for equal points and for the identity.
Point Add(const Point& p, const Point& q) {
  const Field a = (p.y - p.x) * (q.y - q.x);
  const Field b = (p.y + p.x) * (q.y + q.x);
  const Field c = p.t * Curve().d2 * q.t;
  const Field d = (p.z + p.z) * q.z;
  const Field e = b - a;
  const Field f = d - c;
  const Field g = d + c;
  const Field h = b + a;
  return {e * f, g * h, f * g, e * h};
}

Point Double(const Point& p) {
  const Field a = p.x * p.x;
  const Field b = p.y * p.y;
  const Field z2 = p.z * p.z;
  const Field h = a + b;
  const Field sum = p.x + p.y;
  const Field e = h - sum * sum;
  const Field g = a - b;
  const Field f = z2 + z2 + g;
  return {e * f, g * h, f * g, e * h};
}

Bytes32 Encode(const Point& p) {
  const Field inverse = p.z.Power(Exponent(0xeb, 0x7f));  // p - 2
  Bytes32 bytes = (p.y * inverse).ToBytes();
  bytes[31] = static_cast<std::uint8_t>(bytes[31] | ((p.x * inverse).IsOdd() ? 0x80 : 0));
  return bytes;
}

// RFC 8032, section 5.1.3; nothing for bytes that are not the encoding of a point.
std::optional<Point> Decode(const Bytes32& bytes) {
  const bool odd = (bytes[31] & 0x80) != 0;
  Bytes32 of_y = bytes;
  of_y[31] &= 0x7f;
  const Field y = Field::FromBytes(of_y);
  if (y.ToBytes() != of_y) {
    return std::nullopt;  // p or more
  }
  const Field y2 = y * y;
  const Field u = y2 - Field(1);
  const Field v = Curve().d * y2 + Field(1);
  const Field v3 = v * v * v;
  Field x = u * v3 * (u * v3 * v3 * v).Power(Exponent(0xfd, 0x0f));  // (p - 5) / 8
  const Field vx2 = v * x * x;
  if (!(vx2 - u).IsZero()) {
    if (!(vx2 + u).IsZero()) {
      return std::nullopt;  // no square root, no point
    }
    x = x * Curve().root_of_minus1;
  }
  if (x.IsZero() && odd) {
    return std::nullopt;  // there is no minus zero
  }
  if (x.IsOdd() != odd) {
    x = Field() - x;
  }
  return Point{x, y, Field(1), x * y};
}

// A number below 2^256, little-endian.
using Scalar = std::array<std::uint64_t, 4>;

// The order of the base point: 2^252 + 27742317777372353535851937790883648493.
constexpr Scalar kOrder = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0, 0x1000000000000000};

bool IsBelowOrder(const Scalar& a) {
  for (std::size_t i = 4; i-- > 0;) {
    if (a[i] != kOrder[i]) {
      return a[i] < kOrder[i];
    }
  }
  return false;
}

// Bit by bit, as in long division: fast enough for one signature.
Scalar ModuloOrder(const std::array<std::uint8_t, 64>& number) {
  Scalar rest{};
  for (std::size_t bit = 512; bit-- > 0;) {
    // The rest is below the order, which is below 2^253: twice it fits.
    std::uint64_t carry = number[bit / 8] >> bit % 8 & 1;
    for (std::uint64_t& word : rest) {
      const std::uint64_t out = word >> 63;
      word = word << 1 | carry;
      carry = out;
    }
    if (!IsBelowOrder(rest)) {
      std::uint64_t borrow = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        const bool below = rest[i] < kOrder[i] || (rest[i] == kOrder[i] && borrow != 0);
        rest[i] -= kOrder[i] + borrow;
        borrow = below ? 1 : 0;
      }
    }
  }
  return rest;
}

// a P + b Q, by the doublings of both at once.
Point Combine(const Scalar& a, const Point& p, const Scalar& b, const Point& q) {
  const Point both = Add(p, q);
  Point sum = Identity();
  for (std::size_t bit = 256; bit-- > 0;) {
    sum = Double(sum);
    const bool with_p = (a[bit / 64] >> bit % 64 & 1) != 0;
    const bool with_q = (b[bit / 64] >> bit % 64 & 1) != 0;
    if (with_p || with_q) {
      sum = Add(sum, with_p && with_q ? both : with_p ? p : q);
    }
  }
  return sum;
}

bool IsIdentity(const Point& p) { return p.x.IsZero() && (p.y - p.z).IsZero(); }

// The base point: y = 4 / 5, x even.
const Point& Base() {
  static const Point base = [] {
    Bytes32 bytes;
    bytes.fill(0x66);
    bytes[0] = 0x58;
    return *Decode(bytes);
  }();
  return base;
}

}  // namespace

bool VerifyEd25519(const PublicKey& key, std::string_view message, const Signature& signature) {
  Scalar s;
  for (std::size_t i = 0; i < s.size(); ++i) {
    s[i] = LoadLittle(&signature[32 + 8 * i]);
  }
  const std::optional<Point> a = Decode(key);
  if (!IsBelowOrder(s) || !a || IsIdentity(Double(Double(Double(*a))))) {
    return false;
  }
  Sha512 hash;
  hash.Update(signature.data(), 32);
  hash.Update(key.data(), key.size());
  hash.Update(message.data(), message.size());
  const Point r = Combine(s, Base(), ModuloOrder(hash.Digest()), Negated(*a));
  // Comparing encodings also refuses an R that is encoded in another way.
  return std::memcmp(Encode(r).data(), signature.data(), 32) == 0;
}

}  // namespace edgeq
