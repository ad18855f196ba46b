// When the next execution begins.
#pragma once

#include <chrono>
#include <functional>
#include <random>

namespace edgeq {

enum class Arrivals { kPoisson, kEven };

// One execution right after the other, unless one of these is set.
struct Pace {
  std::chrono::milliseconds pause{0};  // before each
  double rate = 0;                     // arrivals a second, whether or not the execution before is over
  Arrivals arrivals = Arrivals::kPoisson;
  std::uint64_t seed = 0;
};

class Pacer {
 public:
  using Clock = std::chrono::steady_clock;

  // `meanwhile` is called now and then during a long wait.
  Pacer(const Pace& pace, std::function<void()> meanwhile);

  // Waits until the next execution may begin and returns when it was due: with a rate, when its sample arrived, which
  // may be long ago where executions take longer than the time between arrivals.
  Clock::time_point Wait();

 private:
  void SleepUntil(Clock::time_point due);
  Clock::duration Gap();

  Pace pace_;
  std::function<void()> meanwhile_;
  std::mt19937_64 random_;
  Clock::time_point due_;
};

}  // namespace edgeq
