#include "operator_times.h"

#include "event.h"
#include "failure.h"

namespace edgeq {
namespace {

const char* KindName(OperatorTimes::Kind kind) {
  switch (kind) {
    case OperatorTimes::Kind::kKernel:
      return "kernel";
    case OperatorTimes::Kind::kDelegated:
      return "delegated";
    default:
      return "delegate";
  }
}

}  // namespace

void OperatorTimes::BeginExecution() {
  differ_ = differ_ || (executions_ > 0 && next_ != operators_.size());
  ++executions_;
  next_ = 0;
}

void OperatorTimes::Add(std::string_view name, Kind kind, std::int64_t ns) {
  if (taken_ || differ_ || executions_ == 0) {
    return;
  }
  if (executions_ == 1) {
    operators_.push_back({std::string(name), kind, {}});
  } else if (next_ >= operators_.size() || operators_[next_].kind != kind || operators_[next_].name != name) {
    differ_ = true;
    return;
  }
  operators_[next_++].ns.push_back(ns);
}

std::string OperatorTimes::TakeJson() {
  if (differ_ || next_ != operators_.size()) {
    throw Failure(Code::kUnsupported, "the executions differ in their operators, so there is no profile of one");
  }
  std::string json = "{\"operators\":[";
  for (std::size_t i = 0; i < operators_.size(); ++i) {
    const Operator& one = operators_[i];
    json += std::string(i > 0 ? "," : "") + "{\"name\":" + Quoted(one.name) + ",\"kind\":\"" + KindName(one.kind) +
            "\",\"ns\":" + ShapeJson(one.ns) + "}";
  }
  operators_.clear();
  next_ = 0;
  taken_ = true;
  return json + "]}";
}

}  // namespace edgeq
