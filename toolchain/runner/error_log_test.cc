#include "error_log.h"

#include "check.h"

int main() {
  edgeq::ErrorLog log;
  CHECK(log.Text().empty());
  CHECK(log.MissingOperators().empty());

  log.Add("Missing operator: [0] aten::a.out");
  log.Add("something else");
  log.Add("Missing operator: aten::b.out");
  CHECK(log.MissingOperators() == "aten::a.out, aten::b.out");
  CHECK(log.Text() == "Missing operator: [0] aten::a.out; something else; Missing operator: aten::b.out");

  for (int i = 0; i < 100; ++i) {
    log.Add("line");
  }
  CHECK(log.MissingOperators().empty());
  CHECK(log.Text().size() == 32 * 4 + 31 * 2);
  return edgeq::Failures();
}
