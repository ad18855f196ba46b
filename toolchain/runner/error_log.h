// What a runtime said of an error, for the sentence of the failure: its return value alone says little.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

namespace edgeq {

// Keeps the last lines; any thread may add one.
class ErrorLog {
 public:
  void Add(std::string_view line);
  // The lines in one, with "; " between them.
  std::string Text();
  // The names in lines like ExecuTorch's "Missing operator: [3] aten::foo.out", with ", " between them.
  std::string MissingOperators();

 private:
  std::mutex mutex_;
  std::deque<std::string> lines_;
};

}  // namespace edgeq
