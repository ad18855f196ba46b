// Faults that a test asks for, to see whether a measurement finds them. Only a build with -DEDGEQ_TEST_FAULTS=ON has
// them, and says so in `hello`; in any other these functions are empty.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace edgeq {

#ifdef EDGEQ_TEST_FAULTS

constexpr bool kHasTestFaults = true;

// Reads what the environment asks for a model at `path`:
//   EDGEQ_TEST_SPIN_PERCENT  each timed execution takes so much longer than it did, busy on its core
//   EDGEQ_TEST_LEAK_BYTES    each timed execution loses so much memory
//   EDGEQ_TEST_BARE_LOOP     N: of the timed executions, every other block of N runs with nothing between them
//   EDGEQ_TEST_MODEL         only models whose path contains this
// Failure(kBadArguments) for what is no number.
void PrepareFaults(const std::string& path);

// Called inside of the timed region, after an execution that took `took`.
void CommitFaults(std::chrono::nanoseconds took);

// How many executions are to run bare from timed execution number `index` on; 0 where it is one as any other.
std::size_t BareRunsAt(std::size_t index);

#else

constexpr bool kHasTestFaults = false;

inline void PrepareFaults(const std::string&) {}
inline void CommitFaults(std::chrono::nanoseconds) {}
constexpr std::size_t BareRunsAt(std::size_t) { return 0; }

#endif

}  // namespace edgeq
