// Faults that a test asks for, to see whether a measurement finds them. Only a build with -DEDGEQ_TEST_FAULTS=ON has
// them, and says so in `hello`; in any other these functions are empty.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "engine.h"

namespace edgeq {

#ifdef EDGEQ_TEST_FAULTS

constexpr bool kHasTestFaults = true;

// Reads what the environment asks for a model at `path`:
//   EDGEQ_TEST_SPIN_PERCENT  each timed execution takes so much longer than it did, busy on its core
//   EDGEQ_TEST_LEAK_BYTES    each timed execution loses so much memory
//   EDGEQ_TEST_BARE_LOOP     1: what the timed executions take together is measured with nothing between them
//   EDGEQ_TEST_MODEL         only models whose path contains this
// Failure(kBadArguments) for what is no number.
void PrepareFaults(const std::string& path);

// Called inside of the timed region, after an execution that took `took`.
void CommitFaults(std::chrono::nanoseconds took);

// Whether the loop is to be bare, and that loop: the mean time of an execution, its input handed over, in `runs` of them
// between two looks at the clock.
bool WantsBareLoop();
std::chrono::nanoseconds BareLoop(Engine& engine, const std::byte* sample, std::size_t runs);

#else

constexpr bool kHasTestFaults = false;

inline void PrepareFaults(const std::string&) {}
inline void CommitFaults(std::chrono::nanoseconds) {}
constexpr bool WantsBareLoop() { return false; }
inline std::chrono::nanoseconds BareLoop(Engine&, const std::byte*, std::size_t) { return {}; }

#endif

}  // namespace edgeq
