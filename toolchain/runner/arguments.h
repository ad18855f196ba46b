// The command line.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "engine.h"

namespace edgeq {

struct RunArguments {
  LoadOptions load;
  std::size_t warmup = 0;
  std::size_t repeats = 0;
  std::optional<std::size_t> sample_bytes;
};

struct Arguments {
  enum class Command { kHello, kRun, kHash } command = Command::kHello;
  RunArguments run;
  std::vector<std::string> files;  // of kHash
};

// Failure(kBadArguments) with a sentence that names what is wrong.
Arguments ParseArguments(const std::vector<std::string>& words);

}  // namespace edgeq
