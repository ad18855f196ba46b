#include "memory.h"

#include <memory>
#include <new>
#include <vector>

#include "check.h"

using edgeq::KilobytesLine;

int main() {
  const char* text = "Name:\tx\nVmHWM:\t    1234 kB\nVmHWMore: 1 kB\n";
  CHECK(KilobytesLine(text, "VmHWM") == 1234 * 1024);
  CHECK(KilobytesLine(text, "VmHW") == std::nullopt);
  CHECK(KilobytesLine(text, "Name") == std::nullopt);
  CHECK(KilobytesLine("", "VmHWM") == std::nullopt);
  CHECK(KilobytesLine("VmHWM:", "VmHWM") == std::nullopt);
  CHECK(KilobytesLine("VmHWM: 99999999999999999999 kB", "VmHWM") == std::nullopt);
  CHECK(edgeq::PeakRssBytes().value_or(0) > 100 * 1024);

  const edgeq::Resident before = edgeq::ResidentNow();
  CHECK(before.bytes.value_or(0) > 100 * 1024 && *before.bytes >= before.anonymous_bytes.value_or(0));
  std::vector<char> pages(8 << 20, 1);
  const edgeq::Resident after = edgeq::ResidentNow();
  CHECK(*after.bytes - *before.bytes >= 7 << 20);
  CHECK(!before.anonymous_bytes || *after.anonymous_bytes - *before.anonymous_bytes >= 7 << 20);
  CHECK(pages.back() == 1);

  // After the limit, more than there is fails at once and cleanly.
  edgeq::LimitMemoryToWhatIsFree();
  volatile std::size_t too_many = std::size_t(-1) / 4;  // volatile: the compiler refuses a size that it knows
  const std::unique_ptr<char[]> too_much(new (std::nothrow) char[too_many]);
  CHECK(too_much == nullptr);
  return edgeq::Failures();
}
