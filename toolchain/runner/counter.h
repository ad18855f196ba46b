// Retired user-space instructions, from the processor's own counter.
#pragma once

#include <cstdint>
#include <optional>

namespace edgeq {

class InstructionCounter {
 public:
  // Counts this process from now on, threads that it starts later included. Open it before the engine is loaded.
  InstructionCounter();
  ~InstructionCounter();
  InstructionCounter(const InstructionCounter&) = delete;
  InstructionCounter& operator=(const InstructionCounter&) = delete;

  // Instructions so far; nothing where there is no counter, it is not allowed, or it was shared with others.
  std::optional<std::int64_t> Read() const;

 private:
  int descriptor_;
};

}  // namespace edgeq
