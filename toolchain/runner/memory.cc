#include "memory.h"

#include <charconv>
#include <sys/resource.h>

#include <fstream>
#include <iterator>
#include <string>

namespace edgeq {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

std::optional<std::int64_t> KilobytesLine(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(line.size() < text.size() ? line.size() + 1 : text.size());
    if (line.size() <= key.size() || line.substr(0, key.size()) != key || line[key.size()] != ':') {
      continue;
    }
    const std::size_t digits = line.find_first_of("0123456789");
    if (digits == std::string_view::npos) {
      return std::nullopt;
    }
    std::int64_t kilobytes = 0;
    const auto result = std::from_chars(line.data() + digits, line.data() + line.size(), kilobytes);
    return result.ec == std::errc() ? std::optional(kilobytes * 1024) : std::nullopt;
  }
  return std::nullopt;
}

Resident ResidentNow() {
  const std::string exact = ReadAll("/proc/self/smaps_rollup");
  if (const auto bytes = KilobytesLine(exact, "Rss")) {
    return {bytes, KilobytesLine(exact, "Anonymous")};
  }
  const std::string status = ReadAll("/proc/self/status");
  return {KilobytesLine(status, "VmRSS"), KilobytesLine(status, "RssAnon")};
}

std::optional<std::int64_t> PeakRssBytes() { return KilobytesLine(ReadAll("/proc/self/status"), "VmHWM"); }

void LimitMemoryToWhatIsFree() {
  const std::string meminfo = ReadAll("/proc/meminfo");
  const auto available = KilobytesLine(meminfo, "MemAvailable");
  if (!available) {
    return;
  }
  rlimit limit = {};
  getrlimit(RLIMIT_DATA, &limit);
  const auto free = static_cast<rlim_t>(*available + KilobytesLine(meminfo, "SwapFree").value_or(0));
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > free) {
    limit.rlim_cur = free;
    setrlimit(RLIMIT_DATA, &limit);
  }
}

}  // namespace edgeq
