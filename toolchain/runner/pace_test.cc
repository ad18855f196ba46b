#include "pace.h"

#include <thread>
#include <vector>

#include "check.h"

namespace {

using Clock = edgeq::Pacer::Clock;
using std::chrono::milliseconds;

std::vector<double> Gaps(const edgeq::Pace& pace, int count) {
  edgeq::Pacer pacer(pace, [] {});
  std::vector<double> gaps;
  Clock::time_point before = pacer.Wait();
  for (int i = 0; i < count; ++i) {
    const Clock::time_point due = pacer.Wait();
    gaps.push_back(std::chrono::duration<double>(due - before).count());
    before = due;
  }
  return gaps;
}

double Mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;
  }
  return sum / static_cast<double>(values.size());
}

}  // namespace

int main() {
  edgeq::Pace pace;
  {
    // Without a pace nothing is waited for and everything is due at once.
    edgeq::Pacer pacer(pace, [] {});
    const Clock::time_point first = pacer.Wait();
    CHECK(pacer.Wait() >= first);
  }
  {
    edgeq::Pace rest;
    rest.pause = milliseconds(20);
    for (const double gap : Gaps(rest, 3)) {
      CHECK(gap >= 0.02);
    }
  }
  pace.rate = 10'000;
  pace.arrivals = edgeq::Arrivals::kEven;
  for (const double gap : Gaps(pace, 20)) {
    CHECK(gap > 0.000'099 && gap < 0.000'101);
  }
  {
    // What is due does not wait for what came late: the queue is in the time since then.
    edgeq::Pacer pacer(pace, [] {});
    const Clock::time_point first = pacer.Wait();
    std::this_thread::sleep_for(milliseconds(5));
    const Clock::time_point second = pacer.Wait();
    CHECK(second - first < milliseconds(1));
    CHECK(Clock::now() - second >= milliseconds(4));
  }
  {
    pace.arrivals = edgeq::Arrivals::kPoisson;
    const std::vector<double> gaps = Gaps(pace, 2000);
    CHECK(Mean(gaps) > 0.000'09 && Mean(gaps) < 0.000'11);
    CHECK(gaps == Gaps(pace, 2000));
    int above = 0;  // exponential: exp(-2) of the gaps are longer than two means
    for (const double gap : gaps) {
      above += gap > 0.000'2;
    }
    CHECK(above > 200 && above < 350);
    pace.seed = 1;
    CHECK(gaps != Gaps(pace, 2000));
  }
  return edgeq::Failures();
}
