// The loop: samples in, runs timed, outputs out.
#pragma once

#include <cstddef>

#include "arguments.h"
#include "counter.h"
#include "engine.h"
#include "event.h"

namespace edgeq {

// Reads samples from the descriptor `input` until it ends and writes `run`, `alive` and `output` events. The first
// sample is executed 1 + warmup + repeats times, each later one once. Memory does not grow with the number of samples.
// `counter` may be null. Returns the number of samples.
std::size_t Measure(Engine& engine, const RunArguments& arguments, int input, const InstructionCounter* counter,
                    EventWriter& events);

}  // namespace edgeq
