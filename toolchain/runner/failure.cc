#include "failure.h"

#include <csignal>
#include <cstddef>
#include <cstring>
#include <unistd.h>

#include <atomic>


namespace edgeq {
namespace {

std::atomic<const char*> current_phase{"starting"};
std::atomic<int> event_descriptor{STDOUT_FILENO};
std::atomic_flag ending = ATOMIC_FLAG_INIT;

// A signal handler may call nothing that allocates or locks.
void WriteAll(int descriptor, const char* text, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(descriptor, text, size);
    if (written <= 0) {
      return;
    }
    text += written;
    size -= static_cast<std::size_t>(written);
  }
}

class FixedText {
 public:
  void Add(const char* text) {
    for (; *text != '\0' && size_ < sizeof buffer_; ++text) {
      buffer_[size_++] = *text;
    }
  }
  // Everything that JSON would want escaped becomes a space.
  void AddPlain(const char* text) {
    for (; *text != '\0' && size_ + 8 < sizeof buffer_; ++text) {
      const char c = *text;
      buffer_[size_++] = (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) ? ' ' : c;
    }
  }
  const char* data() const { return buffer_; }
  std::size_t size() const { return size_; }

 private:
  char buffer_[1024];
  std::size_t size_ = 0;
};

const char* SignalName(int signal) {
  switch (signal) {
    case SIGSEGV:
      return "SIGSEGV";
    case SIGBUS:
      return "SIGBUS";
    case SIGFPE:
      return "SIGFPE";
    case SIGILL:
      return "SIGILL, an instruction this processor does not have";
    default:
      return "SIGABRT";
  }
}

void OnCrash(int signal) {
  FixedText sentence;
  sentence.Add("the runtime crashed (");
  sentence.Add(SignalName(signal));
  sentence.Add(") while ");
  sentence.Add(Phase());
  char text[512];
  const std::size_t size = sentence.size() < sizeof text ? sentence.size() : sizeof text - 1;
  std::memcpy(text, sentence.data(), size);
  text[size] = '\0';
  FailNow(Code::kCrashed, text);
}

}  // namespace

const char* Name(Code code) {
  switch (code) {
    case Code::kBadArguments:
      return "bad_arguments";
    case Code::kCannotLoad:
      return "cannot_load";
    case Code::kMissingOperator:
      return "missing_operator";
    case Code::kMissingBackend:
      return "missing_backend";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kShortInput:
      return "short_input";
    case Code::kWrongSize:
      return "wrong_size";
    case Code::kExecutionFailed:
      return "execution_failed";
    case Code::kOutOfMemory:
      return "out_of_memory";
    case Code::kCannotRead:
      return "cannot_read";
    case Code::kCannotWrite:
      return "cannot_write";
    case Code::kCrashed:
      return "crashed";
    case Code::kNotSigned:
      return "not_signed";
    case Code::kTampered:
      return "tampered";
    case Code::kReplayed:
      return "replayed";
    case Code::kBadManifest:
      return "bad_manifest";
  }
  return "crashed";
}

void SetPhase(const char* phase) { current_phase = phase; }

const char* Phase() { return current_phase; }

void CatchCrashes(int descriptor) {
  event_descriptor = descriptor;
  // A stack of its own, or a stack overflow could not be told.
  static char stack[64 * 1024];
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action = {};
  action.sa_handler = OnCrash;
  action.sa_flags = SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    sigaction(signal, &action, nullptr);
  }
}

void FailNow(Code code, const char* sentence) {
  // The first failure is the one to tell; a second thread waits for the end.
  if (ending.test_and_set()) {
    for (;;) {
      pause();
    }
  }
  FixedText line;
  // A crash in the middle of an output frame must still start on a line of its own.
  line.Add("\n{\"event\":\"error\",\"code\":\"");
  line.Add(Name(code));
  line.Add("\",\"message\":\"");
  line.AddPlain(sentence);
  line.Add("\"}\n");
  WriteAll(event_descriptor, line.data(), line.size());
  _exit(static_cast<int>(code));
}

}  // namespace edgeq
