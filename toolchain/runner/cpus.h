// Which CPUs the process runs on, and how fast they are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace edgeq {

// Lets this thread, and those it starts from now on, run on these CPUs alone. A sentence that says why not where that is
// not to be had; it runs where it was allowed to then.
std::string Pin(const std::vector<int>& cpus);

// Where this thread may run, ascending; empty where the kernel does not say.
std::vector<int> AllowedCpus();

// The frequency of the CPU that this thread runs on, as the kernel has it now; nothing where it does not say.
std::optional<std::int64_t> CurrentKhz();

}  // namespace edgeq
