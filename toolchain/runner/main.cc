// The runner: loads one model, executes it on samples from stdin, says what happened on stdout. README.md is the
// specification.

#include <csignal>
#include <chrono>
#include <cstdio>
#include <cstring>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include "arguments.h"
#include "counter.h"
#include "cpus.h"
#include "engine.h"
#include "event.h"
#include "failure.h"
#include "measure.h"
#include "memory.h"
#include "sha256.h"
#include "start.h"
#include "test_faults.h"
#include "verify.h"

namespace edgeq {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kProtocol = 1;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors on the wire are little-endian");

Event Hello() {
  Event hello("hello");
  hello.Number("protocol", kProtocol)
      .Text("engine", EngineName())
      .Text("triple", EDGEQ_TRIPLE)
      .Text("build", EDGEQ_BUILD);
  return kHasTestFaults ? hello.Json("test_faults", "true") : hello;
}

std::string InfosJson(const std::vector<TensorInfo>& infos) {
  std::string json = "[";
  for (const TensorInfo& info : infos) {
    json += std::string(json.size() > 1 ? "," : "") + "{\"name\":" + Quoted(info.name) +
            ",\"dtype\":" + Quoted(info.dtype) + ",\"shape\":" + ShapeJson(info.shape) + "}";
  }
  return json + "]";
}

std::string NamesJson(const std::vector<std::string>& names) {
  std::string json = "[";
  for (const std::string& name : names) {
    json += (json.size() > 1 ? "," : "") + Quoted(name);
  }
  return json + "]";
}

std::int64_t Nanoseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

std::string CpusJson(const std::vector<int>& cpus) {
  return ShapeJson({cpus.begin(), cpus.end()});
}

// What loading took and added, and where the process may run.
struct LoadedHow {
  std::optional<Clock::time_point> started;
  Clock::time_point opened;  // the runtime was there
  Clock::time_point began;   // the model's turn
  Clock::time_point ready;
  Resident before;
  Resident after;
  std::string not_pinned;
};

Event Loaded(const Engine& engine, const RunArguments& arguments, const LoadedHow& how) {
  std::optional<std::int64_t> ready;
  if (how.started) {
    // Without what looking at the memory took in between.
    ready = Nanoseconds((how.opened - *how.started) + (how.ready - how.began));
  }
  Event event("loaded");
  event.Number("ns", Nanoseconds(how.ready - how.began))
      .Number("ready_ns", ready)
      .Text("runtime_version", engine.runtime_version())
      .Number("threads", arguments.load.threads)
      .Json("cpus", CpusJson(AllowedCpus()))
      .Number("planned_bytes", engine.planned_bytes())
      .Number("rss_bytes_before", how.before.bytes)
      .Number("rss_bytes", how.after.bytes)
      .Number("anonymous_bytes_before", how.before.anonymous_bytes)
      .Number("anonymous_bytes", how.after.anonymous_bytes)
      .Json("backends", NamesJson(engine.backends()))
      .Json("inputs", InfosJson(engine.inputs()))
      .Json("outputs", InfosJson(engine.outputs()));
  return how.not_pinned.empty() ? event : event.Text("not_pinned", how.not_pinned);
}

void Run(const RunArguments& arguments, std::optional<Clock::time_point> started, EventWriter& events) {
  LoadedHow how;
  how.started = started;
  how.not_pinned = arguments.cpus.empty() ? "" : Pin(arguments.cpus);
  LimitMemoryToWhatIsFree();
  LoadOptions load = arguments.load;
  if (!arguments.trusted.empty()) {
    SetPhase("checking what is signed");
    load.path = SealedModel(load.path, arguments.trusted, std::string("edgeq-runner-") + EngineName());
  }
  std::unique_ptr<InstructionCounter> counter;
  if (arguments.load.count_instructions) {
    counter = std::make_unique<InstructionCounter>();
  }
  PrepareFaults(arguments.load.path);
  SetPhase("opening the runtime");
  OpenRuntime();
  SetPhase("loading the model");
  how.opened = Clock::now();
  how.before = ResidentNow();
  how.began = Clock::now();
  const std::unique_ptr<Engine> engine = LoadEngine(load);
  how.ready = Clock::now();
  how.after = ResidentNow();
  events.Write(Loaded(*engine, arguments, how));
  const std::size_t samples = Measure(*engine, arguments, STDIN_FILENO, counter.get(), events);
  SetPhase("ending");
  events.Write(Event("done")
                   .Number("samples", static_cast<std::int64_t>(samples))
                   .Number("peak_rss_bytes", PeakRssBytes()));
}

void Hash(const std::vector<std::string>& files, EventWriter& events) {
  SetPhase("hashing files");
  for (const std::string& path : files) {
    const std::string hash = HashFile(path);
    Event event("file");
    event.Text("path", path);
    events.Write(hash.empty() ? event.Null("sha256") : event.Text("sha256", hash));
  }
  events.Write(Event("done").Number("files", static_cast<std::int64_t>(files.size())));
}

void Verify(const VerifyArguments& arguments, EventWriter& events) {
  SetPhase("checking what is signed");
  const SignedManifest from = ReadSigned(arguments.manifest, arguments.signature, arguments.trusted);
  CheckSerial(from.manifest, arguments.not_before);
  CheckFiles(from);
  events.Write(Event("verified")
                   .Text("id", from.manifest.id)
                   .Text("model", from.manifest.model)
                   .Text("target", from.manifest.target)
                   .Number("serial", from.manifest.serial)
                   .Text("key", from.key));
  events.Write(Event("done").Number("files", static_cast<std::int64_t>(from.manifest.files.size())));
}

int Fail(Code code, const std::string& sentence, EventWriter& events) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  try {
    events.Write(Event("error").Text("code", Name(code)).Text("message", sentence));
  } catch (const Failure&) {
    // Nobody reads; the exit status is left.
  }
  return static_cast<int>(code);
}

int Main(const std::vector<std::string>& words, std::optional<Clock::time_point> started, int descriptor) {
  EventWriter events(descriptor);
  try {
    events.Write(Hello());
    const Arguments arguments = ParseArguments(words);
    switch (arguments.command) {
      case Arguments::Command::kHello:
        events.Write(Event("done"));
        break;
      case Arguments::Command::kRun:
        Run(arguments.run, started, events);
        break;
      case Arguments::Command::kHash:
        Hash(arguments.files, events);
        break;
      case Arguments::Command::kVerify:
        Verify(arguments.verify, events);
        break;
    }
    return 0;
  } catch (const Failure& failure) {
    return Fail(failure.code(), failure.what(), events);
  } catch (const std::bad_alloc&) {
    return Fail(Code::kOutOfMemory, std::string("out of memory while ") + Phase(), events);
  } catch (const std::exception& error) {
    return Fail(Code::kCrashed, std::string("the runtime failed while ") + Phase() + ": " + error.what(), events);
  }
}

}  // namespace
}  // namespace edgeq

int main(int argc, char** argv) {
  // Only of a run is it told how long it took to start.
  const bool runs = argc > 1 && std::strcmp(argv[1], "run") == 0;
  const auto started = runs ? edgeq::Started(argv) : std::nullopt;
  // stdout carries events and nothing else: what a library prints goes to stderr.
  const int events = dup(STDOUT_FILENO);
  if (events < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
    std::perror("stdout");
    return static_cast<int>(edgeq::Code::kCannotWrite);
  }
  std::signal(SIGPIPE, SIG_IGN);
  edgeq::CatchCrashes(events);
  const int status = edgeq::Main({argv + 1, argv + argc}, started, events);
  // Not exit(): a damaged model must not crash a runtime's destructors after the last word was said.
  std::fflush(nullptr);
  _exit(status);
}
