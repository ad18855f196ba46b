#include "measure.h"

#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "check.h"
#include "failure.h"

namespace {

using edgeq::Code;

// Adds one to each of four bytes, and counts what is asked of it.
class AddOne : public edgeq::Engine {
 public:
  const std::vector<edgeq::TensorInfo>& inputs() const override { return infos_; }
  const std::vector<edgeq::TensorInfo>& outputs() const override { return infos_; }
  std::string runtime_version() const override { return "0"; }
  const std::vector<std::string>& backends() const override { return backends_; }
  std::optional<std::int64_t> planned_bytes() const override { return std::nullopt; }
  std::size_t sample_bytes() const override { return size; }
  void SetInputs(const std::byte* sample) override {
    ++inputs_set;
    std::memcpy(values_, sample, size);
  }
  void Execute() override {
    ++executions;
    std::this_thread::sleep_for(takes);
    if (executions == fails_at) {
      throw edgeq::Failure(Code::kExecutionFailed, "no");
    }
    for (unsigned char& value : values_) {
      ++value;
    }
  }
  void Outputs(std::vector<std::byte>& bytes, std::vector<edgeq::Shape>& shapes) override {
    bytes.resize(size);
    std::memcpy(bytes.data(), values_, size);
    shapes = {{static_cast<std::int64_t>(size)}};
  }
  edgeq::Profile TakeProfile() override { return {"test", "{\"executions\":" + std::to_string(executions) + "}"}; }

  std::size_t size = 4;
  int inputs_set = 0;
  std::atomic<int> executions{0};
  int fails_at = -1;
  std::chrono::milliseconds takes{0};

 private:
  unsigned char values_[4] = {};
  std::vector<edgeq::TensorInfo> infos_;
  std::vector<std::string> backends_;
};

// What Measure writes for `input`; `samples` is what it returns.
std::string Run(edgeq::Engine& engine, const edgeq::RunArguments& arguments, const std::string& input,
                std::size_t* samples) {
  int in[2];
  int out[2];
  CHECK(pipe(in) == 0 && pipe(out) == 0);
  // In pieces, as a network delivers them.
  std::thread writer([&] {
    for (const char c : input) {
      CHECK(write(in[1], &c, 1) == 1);
    }
    close(in[1]);
  });
  std::string text;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t size; (size = read(out[0], buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(size));
    }
  });
  edgeq::EventWriter events(out[1]);
  const auto end = [&] {
    close(out[1]);
    writer.join();
    reader.join();
    close(in[0]);
    close(out[0]);
  };
  try {
    *samples = edgeq::Measure(engine, arguments, in[0], nullptr, events);
    events.Flush();
  } catch (...) {
    end();
    throw;
  }
  end();
  return text;
}

std::size_t Count(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// The numbers that follow `key`.
std::vector<long> Values(const std::string& text, const std::string& key) {
  std::vector<long> values;
  for (std::size_t at = text.find(key); at != std::string::npos; at = text.find(key, at + 1)) {
    values.push_back(std::stol(text.substr(at + key.size())));
  }
  return values;
}

}  // namespace

int main() {
  std::size_t samples = 0;
  {
    AddOne engine;
    edgeq::RunArguments arguments;
    arguments.warmup = 2;
    arguments.repeats = 3;
    arguments.sample_bytes = 4;
    const std::string text = Run(engine, arguments, "aaaabbbbcccc", &samples);
    CHECK(samples == 3);
    CHECK(engine.executions == 6 + 2);
    CHECK(engine.inputs_set == engine.executions);
    CHECK(Count(text, "\"kind\":\"first\"") == 1);
    CHECK(Count(text, "\"kind\":\"warmup\"") == 2);
    CHECK(Count(text, "\"kind\":\"timed\"") == 3);
    CHECK(Count(text, "{\"event\":\"output\",\"index\":0,\"bytes\":4,\"shapes\":[[4]]}\nbbbb\n") == 1);
    CHECK(Count(text, "{\"event\":\"output\",\"index\":1,\"bytes\":4,\"shapes\":[[4]]}\ncccc\n") == 1);
    CHECK(Count(text, "{\"event\":\"output\",\"index\":2,\"bytes\":4,\"shapes\":[[4]]}\ndddd\n") == 1);
    CHECK(text.rfind("timed") < text.find("output"));
  }
  {
    // A profiled run is never called a timed one.
    AddOne engine;
    edgeq::RunArguments arguments;
    arguments.warmup = 1;
    arguments.repeats = 2;
    arguments.load.profile = true;
    const std::string text = Run(engine, arguments, "aaaabbbb", &samples);
    CHECK(Count(text, "\"kind\":\"profiled\"") == 2);
    CHECK(Count(text, "\"kind\":\"timed\"") == 0);
    CHECK(Count(text, "{\"event\":\"profile\",\"format\":\"test\",\"bytes\":16}\n{\"executions\":4}\n") == 1);
    CHECK(text.find("profile\"") < text.find("output"));
  }
  {
    // Executions that take longer than the time between arrivals: each one waits for all before it.
    AddOne engine;
    engine.takes = std::chrono::milliseconds(5);
    edgeq::RunArguments arguments;
    arguments.repeats = 4;
    arguments.pace.rate = 1000;
    arguments.pace.arrivals = edgeq::Arrivals::kEven;
    const std::string text = Run(engine, arguments, "aaaa", &samples);
    const std::vector<long> latencies = Values(text, "\"latency_ns\":");
    CHECK(latencies.size() == 4);
    CHECK(latencies[1] - latencies[0] > 3'000'000 && latencies[3] - latencies[0] > 11'000'000);
    CHECK(engine.executions == 5);
  }
  {
    // Without a rate nothing is due, and a pause is in no time.
    AddOne engine;
    edgeq::RunArguments arguments;
    arguments.repeats = 3;
    arguments.pace.pause = std::chrono::milliseconds(20);
    const std::string text = Run(engine, arguments, "aaaa", &samples);
    CHECK(Count(text, "latency_ns") == 0);
    const std::vector<long> at = Values(text, "\"at_ns\":");
    const std::vector<long> took = Values(text, "\"ns\":");
    CHECK(at.size() == 4 && took.size() == 4);
    for (std::size_t i = 1; i < at.size(); ++i) {
      CHECK(at[i] - at[i - 1] - took[i - 1] >= 20'000'000);
    }
  }
  {
    // The time that is allowed ends the timed executions, not those before them.
    AddOne engine;
    engine.takes = std::chrono::milliseconds(5);
    edgeq::RunArguments arguments;
    arguments.warmup = 4;
    arguments.repeats = 1000;
    arguments.most = std::chrono::milliseconds(12);
    const std::string text = Run(engine, arguments, "aaaa", &samples);
    CHECK(Count(text, "\"kind\":\"warmup\"") == 4);
    CHECK(Count(text, "\"kind\":\"timed\"") >= 1 && Count(text, "\"kind\":\"timed\"") <= 4);
    CHECK(Count(text, "\"event\":\"output\"") == 1);
  }
  {
    AddOne engine;
    edgeq::RunArguments arguments;
    arguments.warmup = 1;
    arguments.repeats = 5;
    arguments.memory_every = 3;
    const std::string text = Run(engine, arguments, "aaaa", &samples);
    CHECK((Values(text, "\"runs\":") == std::vector<long>{3, 6, 7}));
    for (const long bytes : Values(text, "\"rss_bytes\":")) {
      CHECK(bytes > 100'000);
    }
  }
  {
    AddOne engine;
    CHECK_FAILS(Run(engine, {}, "", &samples), Code::kShortInput);
    CHECK_FAILS(Run(engine, {}, "aaaab", &samples), Code::kShortInput);
  }
  {
    // Each output arrives before the next sample is written.
    int in[2];
    int out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    AddOne engine;
    std::thread runner([&] {
      edgeq::EventWriter events(out[1]);
      CHECK(edgeq::Measure(engine, {}, in[0], nullptr, events) == 3);
    });
    for (int i = 0; i < 3; ++i) {
      CHECK(write(in[1], "aaaa", 4) == 4);
      std::string text;
      while (text.find("\nbbbb\n") == std::string::npos) {
        char buffer[256];
        text.append(buffer, static_cast<std::size_t>(read(out[0], buffer, sizeof buffer)));
      }
    }
    close(in[1]);
    runner.join();
  }
  {
    // A slow model's outputs do not wait until there are many of them, though more input is at hand.
    int in[2];
    int out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    AddOne engine;
    engine.takes = std::chrono::milliseconds(600);
    CHECK(write(in[1], "aaaaaaaaaaaaaaaa", 16) == 16);
    std::thread runner([&] {
      edgeq::EventWriter events(out[1]);
      CHECK(edgeq::Measure(engine, {}, in[0], nullptr, events) == 4);
      events.Flush();
    });
    char buffer[4096];
    CHECK(read(out[0], buffer, sizeof buffer) > 0);
    CHECK(engine.executions < 4);
    close(in[1]);
    runner.join();
  }
  {
    AddOne engine;
    edgeq::RunArguments arguments;
    arguments.sample_bytes = 5;
    CHECK_FAILS(Run(engine, arguments, "aaaa", &samples), Code::kWrongSize);
  }
  {
    AddOne engine;
    engine.size = 0;
    CHECK_FAILS(Run(engine, {}, "aaaa", &samples), Code::kUnsupported);
  }
  {
    AddOne engine;
    engine.fails_at = 2;
    CHECK_FAILS(Run(engine, {}, "aaaabbbb", &samples), Code::kExecutionFailed);
  }
  return edgeq::Failures();
}
