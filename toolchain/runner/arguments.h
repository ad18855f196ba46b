// The command line.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine.h"
#include "pace.h"

namespace edgeq {

struct RunArguments {
  LoadOptions load;
  std::size_t warmup = 0;
  std::size_t repeats = 0;
  std::optional<std::chrono::milliseconds> most;  // no timed execution begins later than so long after the first one
  Pace pace;
  std::vector<int> cpus;         // where to run; empty for wherever the kernel likes
  std::size_t memory_every = 0;  // executions; 0 for once, at their end
  std::optional<std::size_t> sample_bytes;
  std::string trusted;  // a folder of keys, one of which must have signed what is loaded; empty if anything may be
};

struct VerifyArguments {
  std::string manifest;
  std::string signature;
  std::string trusted;
  std::int64_t not_before = 0;
};

struct Arguments {
  enum class Command { kHello, kRun, kHash, kVerify } command = Command::kHello;
  RunArguments run;
  VerifyArguments verify;
  std::vector<std::string> files;  // of kHash
};

// Failure(kBadArguments) with a sentence that names what is wrong.
Arguments ParseArguments(const std::vector<std::string>& words);

}  // namespace edgeq
