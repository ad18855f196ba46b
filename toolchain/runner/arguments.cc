#include "arguments.h"

#include <charconv>
#include <cstdlib>
#include <map>
#include <string_view>

#include "failure.h"

namespace edgeq {
namespace {

// Enough for any measurement, and small enough that a slip cannot fill the memory.
constexpr std::size_t kMostRuns = 1'000'000;
constexpr std::size_t kMostThreads = 256;
constexpr std::size_t kMostDimensions = 16;
constexpr std::size_t kMostMilliseconds = 86'400'000;
constexpr std::size_t kLargestSeed = 0xffffffff;
constexpr std::size_t kHighestCpu = 1023;
constexpr double kLowestRate = 0.001;
constexpr double kHighestRate = 1'000'000;
constexpr std::uint64_t kLargestSerial = 999'999'999'999'999'999;

std::uint64_t Number(std::string_view option, std::string_view text, std::uint64_t least, std::uint64_t most) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw Failure(Code::kBadArguments, std::string(option) + " takes a whole number from " + std::to_string(least) +
                                           " to " + std::to_string(most) + ", not '" + std::string(text) + "'");
  }
  return value;
}

// A number of things in memory.
std::size_t Count(std::string_view option, std::string_view text, std::size_t least, std::size_t most) {
  return static_cast<std::size_t>(Number(option, text, least, most));
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

// 1x3x224x224,1x10; "scalar" for a tensor without dimensions.
std::vector<Shape> Shapes(std::string_view text) {
  std::vector<Shape> shapes;
  for (const std::string_view one : Split(text, ',')) {
    Shape shape;
    if (one != "scalar") {
      for (const std::string_view size : Split(one, 'x')) {
        shape.push_back(static_cast<std::int64_t>(Number("--shapes", size, 0, 0x7fffffff)));
      }
    }
    if (shape.size() > kMostDimensions) {
      throw Failure(Code::kBadArguments, "--shapes takes at most " + std::to_string(kMostDimensions) + " dimensions");
    }
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

// The word after an option; `i` is where it should be.
const std::string& Value(const std::vector<std::string>& words, std::size_t i) {
  if (i == words.size()) {
    throw Failure(Code::kBadArguments, words[i - 1] + " needs a value");
  }
  return words[i];
}

// An empty path, such as that of an unset variable of a shell, must not mean that nothing is asked for.
const std::string& NotEmpty(const std::string& option, const std::string& value) {
  if (value.empty()) {
    throw Failure(Code::kBadArguments, option + " takes a path, not an empty word");
  }
  return value;
}

// A decimal number above 0; std::from_chars has none of these in the C++ library of old boards.
double Rate(const std::string& option, const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool plain = text.find_first_not_of("0123456789.") == std::string::npos;
  if (text.empty() || !plain || *end != '\0' || !(value >= kLowestRate && value <= kHighestRate)) {
    throw Failure(Code::kBadArguments, option + " takes a number from 0.001 to 1000000, not '" + text + "'");
  }
  return value;
}

Arrivals ArrivalsNamed(const std::string& option, const std::string& text) {
  if (text == "poisson") {
    return Arrivals::kPoisson;
  }
  if (text == "even") {
    return Arrivals::kEven;
  }
  throw Failure(Code::kBadArguments, option + " takes poisson or even, not '" + text + "'");
}

// 0,4-7 as the kernel writes lists of CPUs.
std::vector<int> Cpus(const std::string& option, std::string_view text) {
  std::vector<int> cpus;
  for (const std::string_view one : Split(text, ',')) {
    const std::vector<std::string_view> ends = Split(one, '-');
    const std::size_t first = Count(option, ends.front(), 0, kHighestCpu);
    const std::size_t last = ends.size() == 1 ? first : Count(option, ends[1], first, kHighestCpu);
    if (ends.size() > 2) {
      throw Failure(Code::kBadArguments, option + " takes a list such as 0,4-7, not '" + std::string(text) + "'");
    }
    for (std::size_t cpu = first; cpu <= last; ++cpu) {
      cpus.push_back(static_cast<int>(cpu));
    }
  }
  return cpus;
}

using Take = void (*)(RunArguments& run, const std::string& option, const std::string& value);

std::chrono::milliseconds Milliseconds(const std::string& option, const std::string& value) {
  return std::chrono::milliseconds(Count(option, value, 0, kMostMilliseconds));
}

const std::map<std::string_view, Take>& RunOptions() {
  using Text = const std::string&;
  static const std::map<std::string_view, Take> options = {
      {"--model", [](RunArguments& run, Text, Text value) { run.load.path = value; }},
      {"--threads",
       [](RunArguments& run, Text option, Text value) {
         run.load.threads = static_cast<int>(Count(option, value, 1, kMostThreads));
       }},
      {"--warmup",
       [](RunArguments& run, Text option, Text value) { run.warmup = Count(option, value, 0, kMostRuns); }},
      {"--repeats",
       [](RunArguments& run, Text option, Text value) { run.repeats = Count(option, value, 0, kMostRuns); }},
      {"--most-ms", [](RunArguments& run, Text option, Text value) { run.most = Milliseconds(option, value); }},
      {"--pause-ms", [](RunArguments& run, Text option, Text value) { run.pace.pause = Milliseconds(option, value); }},
      {"--rate", [](RunArguments& run, Text option, Text value) { run.pace.rate = Rate(option, value); }},
      {"--arrivals",
       [](RunArguments& run, Text option, Text value) { run.pace.arrivals = ArrivalsNamed(option, value); }},
      {"--seed",
       [](RunArguments& run, Text option, Text value) { run.pace.seed = Count(option, value, 0, kLargestSeed); }},
      {"--cpus", [](RunArguments& run, Text option, Text value) { run.cpus = Cpus(option, value); }},
      {"--memory-every",
       [](RunArguments& run, Text option, Text value) { run.memory_every = Count(option, value, 1, kMostRuns); }},
      {"--sample-bytes",
       [](RunArguments& run, Text option, Text value) {
         run.sample_bytes = Count(option, value, 0, static_cast<std::size_t>(-1));
       }},
      {"--require-signed",
       [](RunArguments& run, Text option, Text value) { run.trusted = NotEmpty(option, value); }},
      {"--shapes", [](RunArguments& run, Text, Text value) { run.load.shapes = Shapes(value); }},
  };
  return options;
}

RunArguments ParseRun(const std::vector<std::string>& words) {
  RunArguments run;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string& option = words[i];
    if (option == "--instructions") {
      run.load.count_instructions = true;
      continue;
    }
    if (option == "--profile") {
      run.load.profile = true;
      continue;
    }
    const auto known = RunOptions().find(option);
    if (known == RunOptions().end()) {
      throw Failure(Code::kBadArguments, "run does not know '" + option + "'");
    }
    known->second(run, option, Value(words, ++i));
  }
  if (run.load.path.empty()) {
    throw Failure(Code::kBadArguments, "run needs --model FILE");
  }
  if (run.pace.rate > 0 && run.pace.pause.count() > 0) {
    throw Failure(Code::kBadArguments, "--rate and --pause-ms are two paces; one of them is possible");
  }
  return run;
}

VerifyArguments ParseVerify(const std::vector<std::string>& words) {
  VerifyArguments verify;
  for (std::size_t i = 1; i < words.size(); i += 2) {
    const std::string& option = words[i];
    const std::string& value = Value(words, i + 1);
    if (option == "--manifest") {
      verify.manifest = value;
    } else if (option == "--signature") {
      verify.signature = value;
    } else if (option == "--trusted") {
      verify.trusted = value;
    } else if (option == "--not-before") {
      verify.not_before = static_cast<std::int64_t>(Number(option, value, 0, kLargestSerial));
    } else {
      throw Failure(Code::kBadArguments, "verify does not know '" + option + "'");
    }
  }
  if (verify.manifest.empty() || verify.signature.empty() || verify.trusted.empty()) {
    throw Failure(Code::kBadArguments, "verify needs --manifest FILE --signature FILE --trusted FOLDER");
  }
  return verify;
}

}  // namespace

Arguments ParseArguments(const std::vector<std::string>& words) {
  Arguments arguments;
  if (words.empty()) {
    throw Failure(Code::kBadArguments, "a command is needed: hello, run, hash or verify");
  }
  const std::string& command = words[0];
  if (command == "run") {
    arguments.command = Arguments::Command::kRun;
    arguments.run = ParseRun(words);
  } else if (command == "hash") {
    arguments.command = Arguments::Command::kHash;
    arguments.files.assign(words.begin() + 1, words.end());
  } else if (command == "verify") {
    arguments.command = Arguments::Command::kVerify;
    arguments.verify = ParseVerify(words);
  } else if ((command == "hello" || command == "--version") && words.size() == 1) {
    arguments.command = Arguments::Command::kHello;
  } else {
    throw Failure(Code::kBadArguments, "'" + command + "' is not a command: hello, run, hash or verify");
  }
  return arguments;
}

}  // namespace edgeq
