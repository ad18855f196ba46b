// What a model takes and gives: names, dtypes, shapes, and bytes in C order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace edgeq {

using Shape = std::vector<std::int64_t>;

struct TensorInfo {
  std::string name;
  std::string dtype;  // numpy's name of it
  Shape shape;        // -1 for a size that only execution knows
};

// The bytes of a tensor of `shape` with elements of `element_bytes`; Failure(kWrongSize) if a size is negative or the
// product does not fit.
std::size_t ByteSize(const Shape& shape, std::size_t element_bytes);

// Copies a dense tensor between C order and the layout that stores dimension `order[0]` outermost and the last of
// `order` innermost (channels last of NCHW: 0 2 3 1).
void FromCOrder(const void* source, void* target, const Shape& shape, const std::vector<std::size_t>& order,
                std::size_t element_bytes);
void ToCOrder(const void* source, void* target, const Shape& shape, const std::vector<std::size_t>& order,
              std::size_t element_bytes);

// True where `order` is 0 1 2 ...: the bytes are in C order as they are.
bool IsCOrder(const std::vector<std::size_t>& order);

}  // namespace edgeq
