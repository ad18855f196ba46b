#include "cpus.h"

#include <cerrno>
#include <cstring>
#include <sched.h>

#include <algorithm>
#include <fstream>

namespace edgeq {
namespace {

bool Allow(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    CPU_SET(static_cast<std::size_t>(cpu), &set);
  }
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

std::string Pin(const std::vector<int>& cpus) {
  const std::vector<int> before = AllowedCpus();
  if (!Allow(cpus)) {
    return std::string("the kernel does not allow it: ") + std::strerror(errno);
  }
  // A set that reaches beyond what the process is given is cut down to it without a word.
  const std::vector<int> now = AllowedCpus();
  for (const int cpu : cpus) {
    if (std::find(now.begin(), now.end(), cpu) == now.end()) {
      Allow(before);
      return "CPU " + std::to_string(cpu) + " is offline or not for this process";
    }
  }
  return "";
}

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) {
        cpus.push_back(cpu);
      }
    }
  }
  return cpus;
}

std::optional<std::int64_t> CurrentKhz() {
  const int cpu = sched_getcpu();
  std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cpufreq/scaling_cur_freq");
  std::int64_t khz = 0;
  return file >> khz ? std::optional(khz) : std::nullopt;
}

}  // namespace edgeq
