#include "sha256.h"

#include <cstdio>
#include <string>
#include <unistd.h>

#include "check.h"
#include "failure.h"

namespace {

std::string Hash(const std::string& text, std::size_t step) {
  edgeq::Sha256 hash;
  for (std::size_t i = 0; i < text.size(); i += step) {
    const std::string part = text.substr(i, step);
    hash.Update(part.data(), part.size());
  }
  return hash.Hex();
}

}  // namespace

int main() {
  // The examples of FIPS 180-4.
  CHECK(Hash("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Hash("abc", 1) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(Hash(two_blocks, 100) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1000000, 'a');
  for (const std::size_t step : {1u, 63u, 64u, 65u, 1000000u}) {
    CHECK(Hash(million, step) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  }
  CHECK(edgeq::HashFile("/nonexistent/file").empty());
  CHECK_FAILS(edgeq::HashFile("/"), edgeq::Code::kCannotRead);
  return edgeq::Failures();
}
