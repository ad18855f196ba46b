// What each operator of a model took in each execution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgeq {

class OperatorTimes {
 public:
  // A kernel of the runtime; an operator inside of a delegate; a whole call of a delegate, told after its operators.
  enum class Kind { kKernel, kDelegated, kDelegate };

  // What is added from now on belongs to a further execution.
  void BeginExecution();
  // In order of execution. Throws nothing: a runtime calls it from destructors.
  void Add(std::string_view name, Kind kind, std::int64_t ns);
  // What README.md says of the format "executorch"; nothing is kept after it. Failure(kUnsupported) if an execution did
  // other things than the first one did.
  std::string TakeJson();

 private:
  struct Operator {
    std::string name;
    Kind kind;
    std::vector<std::int64_t> ns;
  };
  std::size_t executions_ = 0;
  std::size_t next_ = 0;
  bool taken_ = false;
  bool differ_ = false;
  std::vector<Operator> operators_;
};

}  // namespace edgeq
