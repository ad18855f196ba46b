#include "tensor.h"

#include <cstring>

#include "failure.h"

namespace edgeq {
namespace {

// For each element in C order: its index there and its index in the layout of `order`.
template <typename Visit>
void ForEachElement(const Shape& shape, const std::vector<std::size_t>& order, Visit visit) {
  const std::size_t dims = shape.size();
  std::vector<std::size_t> strides(dims, 1);
  std::size_t step = 1;
  for (std::size_t i = dims; i-- > 0;) {
    strides[order[i]] = step;
    step *= static_cast<std::size_t>(shape[order[i]]);
  }
  const std::size_t count = step;
  std::vector<std::int64_t> position(dims, 0);
  std::size_t other = 0;
  for (std::size_t index = 0; index < count; ++index) {
    visit(index, other);
    for (std::size_t d = dims; d-- > 0;) {
      other += strides[d];
      if (++position[d] < shape[d]) {
        break;
      }
      other -= strides[d] * static_cast<std::size_t>(shape[d]);
      position[d] = 0;
    }
  }
}

}  // namespace

std::size_t ByteSize(const Shape& shape, std::size_t element_bytes) {
  std::size_t bytes = element_bytes;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      throw Failure(Code::kWrongSize, "a tensor of an impossible shape");
    }
  }
  return bytes;
}

bool IsCOrder(const std::vector<std::size_t>& order) {
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] != i) {
      return false;
    }
  }
  return true;
}

void FromCOrder(const void* source, void* target, const Shape& shape, const std::vector<std::size_t>& order,
                std::size_t element_bytes) {
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(target);
  ForEachElement(shape, order, [&](std::size_t plain, std::size_t other) {
    std::memcpy(to + other * element_bytes, from + plain * element_bytes, element_bytes);
  });
}

void ToCOrder(const void* source, void* target, const Shape& shape, const std::vector<std::size_t>& order,
              std::size_t element_bytes) {
  const char* from = static_cast<const char*>(source);
  char* to = static_cast<char*>(target);
  ForEachElement(shape, order, [&](std::size_t plain, std::size_t other) {
    std::memcpy(to + plain * element_bytes, from + other * element_bytes, element_bytes);
  });
}

}  // namespace edgeq
