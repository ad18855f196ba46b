// One runtime that loads a model and executes it; engine_executorch.cc and engine_onnxruntime.cc are the two.
//
// Every call throws Failure; a runtime that aborts on its own ends the process with the same event (see failure.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tensor.h"

namespace edgeq {

struct LoadOptions {
  std::string path;
  int threads = 1;
  // Idle threads sleep instead of spinning, so that only work is counted.
  bool count_instructions = false;
  // Each operator of each execution is timed, which takes time itself.
  bool profile = false;
  // One for each input, where the model leaves a size open; empty otherwise.
  std::vector<Shape> shapes;
};

// What an engine knows of the operators of its executions; README.md says what each format holds.
struct Profile {
  const char* format;
  std::string json;
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual const std::vector<TensorInfo>& inputs() const = 0;
  virtual const std::vector<TensorInfo>& outputs() const = 0;
  virtual std::string runtime_version() const = 0;
  // The backends a model was lowered to; empty for a runtime without the notion.
  virtual const std::vector<std::string>& backends() const = 0;
  // The arenas the model was planned for; nothing for a runtime that does not plan.
  virtual std::optional<std::int64_t> planned_bytes() const = 0;

  // The bytes of one sample: all inputs in C order, one after the other.
  virtual std::size_t sample_bytes() const = 0;
  // Hands a sample over; `sample` stays valid until the execution is over.
  virtual void SetInputs(const std::byte* sample) = 0;
  // The only call that is timed.
  virtual void Execute() = 0;
  // The outputs of the last execution in C order, one after the other, and their shapes.
  virtual void Outputs(std::vector<std::byte>& bytes, std::vector<Shape>& shapes) = 0;
  // The profile of all executions so far; of a model that was loaded to be profiled, once. Later ones are not profiled.
  virtual Profile TakeProfile() = 0;
};

// Opens the runtime's library and starts it: what happens once in a process, whatever the model.
void OpenRuntime();

// The engine of this build, and its name: "executorch" or "onnxruntime".
std::unique_ptr<Engine> LoadEngine(const LoadOptions& options);
const char* EngineName();

}  // namespace edgeq
