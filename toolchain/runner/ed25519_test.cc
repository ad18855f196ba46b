#include "ed25519.h"

#include <random>
#include <string>
#include <utility>

#include "check.h"

using edgeq::PublicKey;
using edgeq::Signature;
using edgeq::VerifyEd25519;

namespace {

std::string Bytes(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

template <typename Array>
Array As(const std::string& hex) {
  Array array{};
  const std::string bytes = Bytes(hex);
  for (std::size_t i = 0; i < array.size() && i < bytes.size(); ++i) {
    array[i] = static_cast<std::uint8_t>(bytes[i]);
  }
  return array;
}

bool Verify(const std::string& key, const std::string& message, const std::string& signature) {
  return VerifyEd25519(As<PublicKey>(key), message, As<Signature>(signature));
}

struct Vector {
  const char* key;
  std::string message;
  const char* signature;
};

// RFC 8032, section 7.1: tests 1, 2, 3 and SHA(abc). The last is a message of many blocks, signed by OpenSSL.
const Vector kVectors[] = {
    {"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
     "655141438e7a100b"},
    {"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "\x72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
     "b00d291612bb0c00"},
    {"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "\xaf\x82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
     "c027beceea1ec40a"},
    {"ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     Bytes("ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d442364"
           "3ce80e2a9ac94fa54ca49f"),
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17a"
     "d9bef1177331a704"},
    {"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", std::string(1000, 'a'),
     "137f71922a0b0327d064bcd2f811c58db86b8bbc06869396042b500b9f1be2b08fb14ac51847c5a8a7eab4a02ebc5d033ece2cf1f4f5176c"
     "b0cec8de13125907"},
};

void TestVectors() {
  for (const Vector& one : kVectors) {
    CHECK(Verify(one.key, one.message, one.signature));
    CHECK(!Verify(one.key, one.message + "x", one.signature));
    for (const Vector& other : kVectors) {
      CHECK(&one == &other || !Verify(one.key, one.message, other.signature));
    }
  }
}

void TestEveryBitCounts() {
  for (const Vector& one : kVectors) {
    const auto key = As<PublicKey>(one.key);
    const auto signature = As<Signature>(one.signature);
    for (std::size_t bit = 0; bit < 8 * signature.size(); ++bit) {
      Signature changed = signature;
      changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ 1 << bit % 8);
      CHECK(!VerifyEd25519(key, one.message, changed));
    }
    for (std::size_t bit = 0; bit < 8 * key.size(); ++bit) {
      PublicKey changed = key;
      changed[bit / 8] = static_cast<std::uint8_t>(changed[bit / 8] ^ 1 << bit % 8);
      CHECK(!VerifyEd25519(changed, one.message, signature));
    }
  }
}

void TestStrictness() {
  // The first vector with S + L in the place of S, which a lax verifier takes for S.
  CHECK(!Verify(kVectors[0].key, "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901554c8c7872aa064e049dbb3013fbf29380d25bf5f0"
                "595bbe24655141438e7a101b"));
  // With a key of small order and S = 0 a signature for every message is easily made: the neutral element, the point of
  // order two, one of order four, two of order eight.
  const std::string zero(64, '0');
  for (const std::string key : {
           "0100000000000000000000000000000000000000000000000000000000000000",
           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "0000000000000000000000000000000000000000000000000000000000000000",
           "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
           "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
       }) {
    CHECK(!Verify(key, "", "0100000000000000000000000000000000000000000000000000000000000000" + zero));
    CHECK(!Verify(key, "", key + zero));
  }
  // No points: y = p and y = p + 1 (0 and 1 written another way), minus zero, a y without an x.
  for (const std::string key : {
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "0100000000000000000000000000000000000000000000000000000000000080",
           "0200000000000000000000000000000000000000000000000000000000000000",
       }) {
    CHECK(!Verify(key, "", kVectors[0].signature));
    CHECK(!Verify(key, "", "0100000000000000000000000000000000000000000000000000000000000000" + zero));
  }
}

void TestNoise() {
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    PublicKey key;
    Signature signature;
    for (std::uint8_t& byte : key) {
      byte = static_cast<std::uint8_t>(random());
    }
    for (std::uint8_t& byte : signature) {
      byte = static_cast<std::uint8_t>(random());
    }
    signature[63] = static_cast<std::uint8_t>(signature[63] & 0x0f);  // S is below the order then
    CHECK(!VerifyEd25519(key, "message", signature));
  }
}

}  // namespace

int main() {
  TestVectors();
  TestEveryBitCounts();
  TestStrictness();
  TestNoise();
  return edgeq::Failures();
}
