// When the process began.
#pragma once

#include <chrono>
#include <optional>

namespace edgeq {

// When the program was started, before the dynamic linker did its work; nothing where the kernel does not let it be
// known. To be called first thing in main: it starts the program a second time, in the same process, as only who starts
// a program can read the clock before it (the kernel tells in hundredths of a second).
std::optional<std::chrono::steady_clock::time_point> Started(char** argv);

}  // namespace edgeq
