#include "cpus.h"

#include "check.h"

int main() {
  const std::vector<int> before = edgeq::AllowedCpus();
  CHECK(!before.empty());

  CHECK(edgeq::Pin({before.back()}).empty());
  CHECK(edgeq::AllowedCpus() == std::vector<int>{before.back()});
  CHECK(edgeq::Pin(before).empty());
  CHECK(edgeq::AllowedCpus() == before);

  // No machine has so many, and none of them can be had: nothing is changed.
  CHECK(!edgeq::Pin({1023}).empty());
  CHECK(edgeq::AllowedCpus() == before);
  CHECK(edgeq::Pin({before.front(), 1023}).find("1023") != std::string::npos);
  CHECK(edgeq::AllowedCpus() == before);

  const auto khz = edgeq::CurrentKhz();
  CHECK(!khz || *khz > 0);
  return edgeq::Failures();
}
