#include "operator_times.h"

#include "check.h"
#include "failure.h"

using edgeq::Code;
using edgeq::OperatorTimes;
using Kind = edgeq::OperatorTimes::Kind;

int main() {
  {
    OperatorTimes times;
    times.Add("while loading", Kind::kKernel, 9);
    for (const int ns : {1, 2}) {
      times.BeginExecution();
      times.Add("conv \"1\"", Kind::kDelegated, ns);
      times.Add("delegate", Kind::kDelegate, 10 * ns);
      times.Add("softmax", Kind::kKernel, 100 * ns);
    }
    CHECK(times.TakeJson() ==
          "{\"operators\":[{\"name\":\"conv \\\"1\\\"\",\"kind\":\"delegated\",\"ns\":[1,2]},"
          "{\"name\":\"delegate\",\"kind\":\"delegate\",\"ns\":[10,20]},"
          "{\"name\":\"softmax\",\"kind\":\"kernel\",\"ns\":[100,200]}]}");
    times.BeginExecution();
    times.Add("conv \"1\"", Kind::kDelegated, 3);
    CHECK(times.TakeJson() == "{\"operators\":[]}");
  }
  {
    // Control flow: the second execution does something else.
    OperatorTimes times;
    times.BeginExecution();
    times.Add("a", Kind::kKernel, 1);
    times.BeginExecution();
    times.Add("b", Kind::kKernel, 1);
    CHECK_FAILS(times.TakeJson(), Code::kUnsupported);
  }
  for (const int counts : {1, 3}) {
    // The second execution does less, or more.
    OperatorTimes times;
    times.BeginExecution();
    times.Add("a", Kind::kKernel, 1);
    times.Add("a", Kind::kKernel, 1);
    times.BeginExecution();
    for (int i = 0; i < counts; ++i) {
      times.Add("a", Kind::kKernel, 1);
    }
    CHECK_FAILS(times.TakeJson(), Code::kUnsupported);
  }
  return edgeq::Failures();
}
