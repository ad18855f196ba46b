#include "failure.h"

#include <csignal>
#include <cstdlib>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

namespace {

// What a child process writes to its event descriptor while `action` ends it.
template <typename Action>
std::string Dying(Action action, int* status) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    edgeq::CatchCrashes(ends[1]);
    edgeq::SetPhase("loading the model");
    action();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t size; (size = read(ends[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(size));
  }
  close(ends[0]);
  waitpid(child, status, 0);
  return text;
}

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

int main() {
  int status = 0;
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    const std::string text = Dying([&] { raise(signal); }, &status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 75);
    CHECK(Has(text, "\n{\"event\":\"error\",\"code\":\"crashed\",\"message\":\"the runtime crashed (SIG"));
    CHECK(Has(text, "while loading the model"));
    CHECK(text.back() == '\n');
  }
  const std::string text =
      Dying([] { edgeq::FailNow(edgeq::Code::kCannotLoad, "a \"quoted\"\nline\\ \x01"); }, &status);
  CHECK(WEXITSTATUS(status) == 65);
  CHECK(text == "\n{\"event\":\"error\",\"code\":\"cannot_load\",\"message\":\"a  quoted  line   \"}\n");

  const std::string endless =
      Dying([] { edgeq::FailNow(edgeq::Code::kCannotLoad, std::string(100000, 'x').c_str()); }, &status);
  CHECK(WEXITSTATUS(status) == 65 && endless.size() <= 1024 && Has(endless, "\"}\n"));

  CHECK(std::string(edgeq::Name(edgeq::Code::kOutOfMemory)) == "out_of_memory");
  return edgeq::Failures();
}
