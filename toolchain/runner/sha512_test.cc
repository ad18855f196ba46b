#include "sha512.h"

#include <string>

#include "check.h"

namespace {

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    hex += "0123456789abcdef"[c & 15];
  }
  return hex;
}

std::string Hash(const std::string& text, std::size_t step) {
  edgeq::Sha512 hash;
  for (std::size_t i = 0; i < text.size(); i += step) {
    const std::string part = text.substr(i, step);
    hash.Update(part.data(), part.size());
  }
  const auto digest = hash.Digest();
  return Hex({digest.begin(), digest.end()});
}

}  // namespace

int main() {
  // The examples of FIPS 180-4.
  CHECK(Hash("", 1) ==
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
        "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e");
  CHECK(Hash("abc", 1) ==
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
  CHECK(Hash("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
             "nopqrstu",
             1000) ==
        "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
        "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909");
  const std::string million(1000000, 'a');
  for (const std::size_t step : {1u, 127u, 128u, 129u, 1000000u}) {
    CHECK(Hash(million, step) ==
          "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb"
          "de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b");
  }
  // Messages of every length around two blocks, chained; the last hash is OpenSSL's.
  std::string chained;
  for (std::size_t size = 0; size < 300; ++size) {
    edgeq::Sha512 hash;
    const std::string message = chained + std::string(size, static_cast<char>(size % 251));
    hash.Update(message.data(), message.size());
    const auto digest = hash.Digest();
    chained.assign(digest.begin(), digest.end());
  }
  CHECK(Hex(chained) ==
        "16b7fdf3b87a5e1e23c57d39ed9cc0dd15d5a12a64436d0151e59eee3a794dcd"
        "168dd55ecaf4e8bb5b86e79d999648da296a751d404c811c280191e6350812c6");
  return edgeq::Failures();
}
