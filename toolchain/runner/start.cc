#include "start.h"

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unistd.h>

namespace edgeq {
namespace {

using Clock = std::chrono::steady_clock;

// This process alone: a child or a shell that inherits the variable has another number.
constexpr const char* kVariable = "EDGEQ_RUNNER_STARTED";

std::string Mine() { return std::to_string(getpid()) + ":"; }

}  // namespace

std::optional<Clock::time_point> Started(char** argv) {
  const char* told = std::getenv(kVariable);
  const std::string mine = Mine();
  if (told != nullptr && std::string_view(told).substr(0, mine.size()) == mine) {
    const Clock::time_point start{Clock::duration(std::strtoll(told + mine.size(), nullptr, 10))};
    return start <= Clock::now() ? std::optional(start) : std::nullopt;
  }
  const std::string now = mine + std::to_string(Clock::now().time_since_epoch().count());
  if (setenv(kVariable, now.c_str(), 1) == 0) {
    execv("/proc/self/exe", argv);
  }
  return std::nullopt;
}

}  // namespace edgeq
