#include "tensor.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "check.h"
#include "failure.h"

using edgeq::Shape;

int main() {
  CHECK(edgeq::ByteSize({}, 4) == 4);
  CHECK(edgeq::ByteSize({2, 3}, 4) == 24);
  CHECK(edgeq::ByteSize({2, 0, 3}, 4) == 0);
  CHECK_FAILS(edgeq::ByteSize({2, -1}, 4), edgeq::Code::kWrongSize);
  CHECK_FAILS(edgeq::ByteSize({1LL << 40, 1LL << 40}, 1), edgeq::Code::kWrongSize);
  // Each of these would be 0 in a word of 32 bits.
  if (sizeof(std::size_t) == 4) {
    CHECK_FAILS(edgeq::ByteSize({1LL << 32}, 1), edgeq::Code::kWrongSize);
    CHECK_FAILS(edgeq::ByteSize({1LL << 16, 1LL << 16}, 1), edgeq::Code::kWrongSize);
  }

  CHECK(edgeq::IsCOrder({}));
  CHECK(edgeq::IsCOrder({0, 1, 2}));
  CHECK(!edgeq::IsCOrder({0, 2, 3, 1}));

  // NCHW (1, 2, 2, 3) and the same values as channels last.
  const Shape shape = {1, 2, 2, 3};
  const std::vector<std::int16_t> plain = {0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15};
  const std::vector<std::int16_t> last = {0, 10, 1, 11, 2, 12, 3, 13, 4, 14, 5, 15};
  std::vector<std::int16_t> result(plain.size());
  edgeq::FromCOrder(plain.data(), result.data(), shape, {0, 2, 3, 1}, 2);
  CHECK(result == last);
  edgeq::ToCOrder(last.data(), result.data(), shape, {0, 2, 3, 1}, 2);
  CHECK(result == plain);
  edgeq::ToCOrder(plain.data(), result.data(), shape, {0, 1, 2, 3}, 2);
  CHECK(result == plain);

  float scalar = 0;
  const float value = 3;
  edgeq::FromCOrder(&value, &scalar, {}, {}, sizeof value);
  CHECK(scalar == 3);
  edgeq::FromCOrder(nullptr, nullptr, {2, 0}, {1, 0}, 4);
  return edgeq::Failures();
}
