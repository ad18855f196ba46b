// How much memory there is, and how much this process took.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace edgeq {

// What the process holds in RAM now. `anonymous` is the part that no file stands behind: packed weights, arenas, heap.
struct Resident {
  std::optional<std::int64_t> bytes;
  std::optional<std::int64_t> anonymous_bytes;
};

// From /proc/self/smaps_rollup, which is exact, or /proc/self/status, where the kernel may be some pages behind; nothing
// where it says neither.
Resident ResidentNow();

// The largest resident set so far (VmHWM), nothing where the kernel does not say.
std::optional<std::int64_t> PeakRssBytes();

// Limits private memory to what the device has free, so that a model that is too large is told, not killed by the
// kernel together with its neighbours.
void LimitMemoryToWhatIsFree();

// The bytes of a line "Key:  123 kB" in the text of /proc/self/status or /proc/meminfo.
std::optional<std::int64_t> KilobytesLine(std::string_view text, std::string_view key);

}  // namespace edgeq
