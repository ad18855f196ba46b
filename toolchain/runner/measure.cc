#include "measure.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "cpus.h"
#include "failure.h"
#include "memory.h"
#include "pace.h"
#include "test_faults.h"

namespace edgeq {
namespace {

using Clock = std::chrono::steady_clock;

// A reader that hears nothing for long must take the device for dead.
constexpr auto kSilence = std::chrono::seconds(5);

// Outputs of a slow model are not held back to travel together: whoever waits for them sees how far it is.
constexpr auto kHeldBack = std::chrono::milliseconds(100);

constexpr int kSoonMs = 20;

struct Run {
  std::int64_t at_ns = 0;
  std::int64_t ns = 0;
  std::int64_t latency_ns = 0;
  std::optional<std::int64_t> instructions;
};

// The process after so many executions.
struct Resources {
  std::size_t runs;
  std::optional<std::int64_t> khz;
  Resident resident;
};

std::int64_t Nanoseconds(Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
}

// False where the next sample is long in coming: the one who writes may wait for outputs in turn. A stream that merely
// arrives in pieces is waited for, as a packet for each small output would take longer than its execution.
bool HasInputSoon(int input) {
  pollfd waiting = {input, POLLIN, 0};
  return poll(&waiting, 1, kSoonMs) > 0;
}

// False at the end of the input; Failure(kShortInput) if it ends inside the sample.
bool ReadSample(int input, std::vector<std::byte>& sample, std::size_t index) {
  std::size_t filled = 0;
  while (filled < sample.size()) {
    const ssize_t size = read(input, sample.data() + filled, sample.size() - filled);
    if (size < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw Failure(Code::kCannotRead, std::string("cannot read stdin: ") + std::strerror(errno));
    }
    if (size == 0) {
      if (filled == 0) {
        return false;
      }
      throw Failure(Code::kShortInput, "stdin ended after " + std::to_string(filled) + " of the " +
                                           std::to_string(sample.size()) + " bytes of sample " +
                                           std::to_string(index));
    }
    filled += static_cast<std::size_t>(size);
  }
  return true;
}

// `due` is when the sample was there, `began` when the first execution started.
Run Execute(Engine& engine, const std::byte* sample, const InstructionCounter* counter, Clock::time_point due,
            Clock::time_point began) {
  engine.SetInputs(sample);
  const auto before = counter ? counter->Read() : std::nullopt;
  const Clock::time_point start = Clock::now();
  engine.Execute();
  if constexpr (kHasTestFaults) {
    CommitFaults(Clock::now() - start);
  }
  const Clock::time_point end = Clock::now();
  const auto after = counter ? counter->Read() : std::nullopt;
  Run run = {Nanoseconds(start - began), Nanoseconds(end - start), Nanoseconds(end - due), std::nullopt};
  if (before && after) {
    run.instructions = *after - *before;
  }
  return run;
}

const char* RunKind(std::size_t index, const RunArguments& arguments) {
  if (index == 0) {
    return "first";
  }
  if (index <= arguments.warmup) {
    return "warmup";
  }
  return arguments.load.profile ? "profiled" : "timed";
}

// Tells the reader now and then that a long measurement goes on.
class Pulse {
 public:
  explicit Pulse(EventWriter& events) : events_(events) {}
  void Beat() {
    if (Clock::now() - heard_ > kSilence) {
      events_.Write(Event("alive"));
      heard_ = Clock::now();
    }
  }

 private:
  EventWriter& events_;
  Clock::time_point heard_ = Clock::now();
};

void WriteRuns(const std::vector<Run>& runs, const std::vector<Resources>& resources, const RunArguments& arguments,
               EventWriter& events) {
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Event event("run");
    event.Text("kind", RunKind(i, arguments)).Number("at_ns", runs[i].at_ns).Number("ns", runs[i].ns);
    if (arguments.pace.rate > 0 && i > 0) {
      event.Number("latency_ns", runs[i].latency_ns);
    }
    events.Queue(event.Number("instructions", runs[i].instructions));
  }
  for (const Resources& one : resources) {
    events.Queue(Event("resources")
                     .Number("runs", static_cast<std::int64_t>(one.runs))
                     .Number("khz", one.khz)
                     .Number("rss_bytes", one.resident.bytes)
                     .Number("anonymous_bytes", one.resident.anonymous_bytes));
  }
}

// `count` executions with nothing between them but the next input, told as if each had taken its share of the whole.
void BareBlock(Engine& engine, const std::byte* sample, Clock::time_point began, Run* runs, std::size_t count) {
  engine.SetInputs(sample);
  const Clock::time_point start = Clock::now();
  engine.Execute();
  for (std::size_t i = 1; i < count; ++i) {
    engine.SetInputs(sample);
    engine.Execute();
  }
  const Clock::duration each = (Clock::now() - start) / static_cast<Clock::rep>(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Clock::time_point at = start + each * static_cast<Clock::rep>(i);
    runs[i] = {Nanoseconds(at - began), Nanoseconds(each), Nanoseconds(each), std::nullopt};
  }
}

// All runs of the first sample; they are written when the last is over, so that writing disturbs none.
void MeasureFirst(Engine& engine, const RunArguments& arguments, const std::byte* sample,
                  const InstructionCounter* counter, EventWriter& events) {
  // Written to before the first is timed: no page of it is new while executions are watched.
  std::vector<Run> runs(1 + arguments.warmup + arguments.repeats);
  std::vector<Resources> resources;
  resources.reserve(arguments.memory_every == 0 ? 1 : runs.size() / arguments.memory_every + 1);
  Pulse pulse(events);
  const Clock::time_point began = Clock::now();
  runs[0] = Execute(engine, sample, counter, began, began);
  Pacer pacer(arguments.pace, [&] { pulse.Beat(); });
  std::optional<Clock::time_point> timed;
  std::size_t done = 1;
  for (; done < runs.size(); ++done) {
    if (const std::size_t bare = done > arguments.warmup ? BareRunsAt(done - arguments.warmup - 1) : 0; bare > 0) {
      const std::size_t count = std::min(bare, runs.size() - done);
      BareBlock(engine, sample, began, &runs[done], count);
      done += count - 1;
      continue;
    }
    if (arguments.memory_every > 0 && done % arguments.memory_every == 0) {
      resources.push_back({done, CurrentKhz(), ResidentNow()});
    }
    const Clock::time_point due = pacer.Wait();
    if (done > arguments.warmup && !timed) {
      timed = Clock::now();
    }
    if (timed && arguments.most && Clock::now() - *timed > *arguments.most) {
      break;
    }
    runs[done] = Execute(engine, sample, counter, due, began);
    pulse.Beat();
  }
  resources.push_back({done, CurrentKhz(), ResidentNow()});
  runs.resize(done);
  WriteRuns(runs, resources, arguments, events);
  if (arguments.load.profile) {
    const Profile profile = engine.TakeProfile();
    events.Queue(Event("profile")
                     .Text("format", profile.format)
                     .Number("bytes", static_cast<std::int64_t>(profile.json.size())));
    events.Queue(profile.json.data(), profile.json.size());
    events.Queue("\n", 1);
  }
}

void WriteOutputs(Engine& engine, std::size_t index, std::vector<std::byte>& bytes, EventWriter& events) {
  std::vector<Shape> shapes;
  engine.Outputs(bytes, shapes);
  std::string json = "[";
  for (const Shape& shape : shapes) {
    json += (json.size() > 1 ? "," : "") + ShapeJson(shape);
  }
  events.Queue(Event("output")
                   .Number("index", static_cast<std::int64_t>(index))
                   .Number("bytes", static_cast<std::int64_t>(bytes.size()))
                   .Json("shapes", json + "]"));
  events.Queue(bytes.data(), bytes.size());
  events.Queue("\n", 1);
}

}  // namespace

std::size_t Measure(Engine& engine, const RunArguments& arguments, int input, const InstructionCounter* counter,
                    EventWriter& events) {
  const std::size_t sample_bytes = engine.sample_bytes();
  if (arguments.sample_bytes && *arguments.sample_bytes != sample_bytes) {
    throw Failure(Code::kWrongSize, "the model takes samples of " + std::to_string(sample_bytes) + " bytes, not " +
                                        std::to_string(*arguments.sample_bytes));
  }
  if (sample_bytes == 0) {
    throw Failure(Code::kUnsupported, "the model takes no input, so there is nothing to stream");
  }
  std::vector<std::byte> sample(sample_bytes);
  std::vector<std::byte> outputs;
  std::size_t count = 0;
  Clock::time_point flushed = Clock::now();
  for (;;) {
    SetPhase("reading stdin");
    // What the first sample gave is written at once: from there on the host tells how long one takes.
    if (count == 1 || Clock::now() - flushed > kHeldBack || !HasInputSoon(input)) {
      events.Flush();
      flushed = Clock::now();
    }
    if (!ReadSample(input, sample, count)) {
      break;
    }
    SetPhase("executing the model");
    if (count == 0) {
      MeasureFirst(engine, arguments, sample.data(), counter, events);
    } else {
      engine.SetInputs(sample.data());
      engine.Execute();
    }
    WriteOutputs(engine, count, outputs, events);
    ++count;
  }
  if (count == 0) {
    throw Failure(Code::kShortInput, "stdin held no sample");
  }
  return count;
}

}  // namespace edgeq
