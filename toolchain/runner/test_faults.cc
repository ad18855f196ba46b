#include "test_faults.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "failure.h"

namespace edgeq {
namespace {

using Clock = std::chrono::steady_clock;

double spin_share = 0;
std::size_t leak_bytes = 0;
std::size_t bare_runs = 0;
// Written to, so that the compiler cannot drop the allocation.
void* volatile lost = nullptr;

double FromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') {
    return 0;
  }
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*end != '\0' || !std::isfinite(value) || value < 0) {
    throw Failure(Code::kBadArguments, std::string(name) + " takes a number from 0 on, not '" + text + "'");
  }
  return value;
}

}  // namespace

void PrepareFaults(const std::string& path) {
  spin_share = FromEnvironment("EDGEQ_TEST_SPIN_PERCENT") / 100;
  leak_bytes = static_cast<std::size_t>(FromEnvironment("EDGEQ_TEST_LEAK_BYTES"));
  bare_runs = static_cast<std::size_t>(FromEnvironment("EDGEQ_TEST_BARE_LOOP"));
  const char* part = std::getenv("EDGEQ_TEST_MODEL");
  if (part != nullptr && path.find(part) == std::string::npos) {
    spin_share = 0;
    leak_bytes = 0;
    bare_runs = 0;
  }
}

std::size_t BareRunsAt(std::size_t index) {
  return bare_runs > 0 && index / bare_runs % 2 == 1 && index % bare_runs == 0 ? bare_runs : 0;
}

void CommitFaults(std::chrono::nanoseconds took) {
  const Clock::time_point until = Clock::now() + std::chrono::duration_cast<Clock::duration>(took * spin_share);
  if (leak_bytes > 0) {
    void* memory = std::malloc(leak_bytes);
    if (memory != nullptr) {
      std::memset(memory, 1, leak_bytes);
    }
    lost = memory;
  }
  while (Clock::now() < until) {
  }
}

}  // namespace edgeq
