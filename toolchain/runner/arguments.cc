#include "arguments.h"

#include <charconv>
#include <string_view>

#include "failure.h"

namespace edgeq {
namespace {

// Enough for any measurement, and small enough that a slip cannot fill the memory.
constexpr std::size_t kMostRuns = 1'000'000;
constexpr std::size_t kMostThreads = 256;
constexpr std::size_t kMostDimensions = 16;
constexpr std::size_t kLargestSerial = 999'999'999'999'999'999;

std::size_t Number(std::string_view option, std::string_view text, std::size_t least, std::size_t most) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    throw Failure(Code::kBadArguments, std::string(option) + " takes a whole number from " + std::to_string(least) +
                                           " to " + std::to_string(most) + ", not '" + std::string(text) + "'");
  }
  return value;
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
    if (option != "--model" && option != "--threads" && option != "--warmup" && option != "--repeats" &&
        option != "--sample-bytes" && option != "--shapes" && option != "--require-signed") {
      throw Failure(Code::kBadArguments, "run does not know '" + option + "'");
    }
    const std::string& value = Value(words, ++i);
    if (option == "--model") {
      run.load.path = value;
    } else if (option == "--threads") {
      run.load.threads = static_cast<int>(Number(option, value, 1, kMostThreads));
    } else if (option == "--warmup") {
      run.warmup = Number(option, value, 0, kMostRuns);
    } else if (option == "--repeats") {
      run.repeats = Number(option, value, 0, kMostRuns);
    } else if (option == "--sample-bytes") {
      run.sample_bytes = Number(option, value, 0, static_cast<std::size_t>(-1));
    } else if (option == "--require-signed") {
      run.trusted = NotEmpty(option, value);
    } else {
      run.load.shapes = Shapes(value);
    }
  }
  if (run.load.path.empty()) {
    throw Failure(Code::kBadArguments, "run needs --model FILE");
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
