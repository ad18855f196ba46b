#include "pace.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

namespace edgeq {
namespace {

constexpr auto kLongSleep = std::chrono::seconds(1);

}  // namespace

Pacer::Pacer(const Pace& pace, std::function<void()> meanwhile)
    : pace_(pace), meanwhile_(std::move(meanwhile)), random_(pace.seed), due_(Clock::now()) {
  if (pace_.rate > 0) {
    // The kernel wakes a sleeper up to 50 microseconds late to save power, unless it is told not to.
    prctl(PR_SET_TIMERSLACK, 1UL);
  }
}

Pacer::Clock::time_point Pacer::Wait() {
  if (pace_.rate > 0) {
    due_ += Gap();
    SleepUntil(due_);
    return due_;
  }
  if (pace_.pause.count() > 0) {
    SleepUntil(Clock::now() + pace_.pause);
  }
  return Clock::now();
}

void Pacer::SleepUntil(Clock::time_point due) {
  for (Clock::time_point now = Clock::now(); now < due; now = Clock::now()) {
    std::this_thread::sleep_until(std::min<Clock::time_point>(due, now + kLongSleep));
    meanwhile_();
  }
}

Pacer::Clock::duration Pacer::Gap() {
  double seconds = 1 / pace_.rate;
  if (pace_.arrivals == Arrivals::kPoisson) {
    // 53 random bits in (0, 1]; std::exponential_distribution draws other numbers in other C++ libraries.
    const double uniform = (static_cast<double>(random_() >> 11) + 1) / 9007199254740992.0;
    seconds *= -std::log(uniform);
  }
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace edgeq
