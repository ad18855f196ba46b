#include "error_log.h"

namespace edgeq {
namespace {

constexpr std::size_t kLines = 32;
constexpr std::string_view kMissing = "Missing operator: ";

}  // namespace

void ErrorLog::Add(std::string_view line) {
  const std::lock_guard<std::mutex> lock(mutex_);
  lines_.emplace_back(line);
  if (lines_.size() > kLines) {
    lines_.pop_front();
  }
}

std::string ErrorLog::Text() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string text;
  for (const std::string& line : lines_) {
    text += (text.empty() ? "" : "; ") + line;
  }
  return text;
}

std::string ErrorLog::MissingOperators() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string names;
  for (const std::string& line : lines_) {
    const std::size_t start = line.find(kMissing);
    if (start == std::string::npos) {
      continue;
    }
    const std::string rest = line.substr(start + kMissing.size());
    const std::size_t bracket = rest.find("] ");
    names += (names.empty() ? "" : ", ") + (bracket == std::string::npos ? rest : rest.substr(bracket + 2));
  }
  return names;
}

}  // namespace edgeq
