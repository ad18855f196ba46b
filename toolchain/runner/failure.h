// Failures that end the runner: a code for programs, a sentence for people, an exit status.
#pragma once

#include <stdexcept>
#include <string>

namespace edgeq {

// The value is the exit status; README.md lists what each one means.
enum class Code : int {
  kBadArguments = 64,
  kCannotLoad = 65,
  kMissingOperator = 66,
  kMissingBackend = 67,
  kUnsupported = 68,
  kShortInput = 69,
  kWrongSize = 70,
  kExecutionFailed = 71,
  kOutOfMemory = 72,
  kCannotRead = 73,
  kCannotWrite = 74,
  kCrashed = 75,
  kNotSigned = 76,
  kTampered = 77,
  kReplayed = 78,
  kBadManifest = 79,
};

// The code's name in an `error` event.
const char* Name(Code code);

class Failure : public std::runtime_error {
 public:
  Failure(Code code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

// Says what the runner does now, for the sentence of a crash: "loading the model". Keeps the pointer.
void SetPhase(const char* phase);
const char* Phase();

// Turns the signals of a crash (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT) into one last `error` event on
// `descriptor` and the exit status of kCrashed.
void CatchCrashes(int descriptor);

// Ends the process with one `error` event, from any thread and any state; for abort hooks of a runtime.
[[noreturn]] void FailNow(Code code, const char* sentence);

}  // namespace edgeq
