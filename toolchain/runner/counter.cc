#include "counter.h"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace edgeq {

InstructionCounter::InstructionCounter() {
  perf_event_attr attributes = {};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
  attributes.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  attributes.inherit = 1;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  descriptor_ = static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

InstructionCounter::~InstructionCounter() {
  if (descriptor_ >= 0) {
    close(descriptor_);
  }
}

std::optional<std::int64_t> InstructionCounter::Read() const {
  struct {
    std::uint64_t value;
    std::uint64_t enabled_ns;
    std::uint64_t running_ns;
  } counted = {};
  if (descriptor_ < 0 || read(descriptor_, &counted, sizeof counted) != static_cast<ssize_t>(sizeof counted)) {
    return std::nullopt;
  }
  // A counter that had to share its register holds an estimate.
  if (counted.running_ns == 0 || counted.running_ns != counted.enabled_ns) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(counted.value);
}

}  // namespace edgeq
