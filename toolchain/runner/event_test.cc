#include "event.h"

#include <string>
#include <unistd.h>

#include "check.h"
#include "failure.h"

using edgeq::Event;
using edgeq::Quoted;

int main() {
  CHECK(Event("done").Line() == "{\"event\":\"done\"}\n");
  CHECK(Event("run").Number("ns", 7).Null("instructions").Line() ==
        "{\"event\":\"run\",\"ns\":7,\"instructions\":null}\n");
  CHECK(Event("x").Number("n", std::optional<std::int64_t>(-3)).Line() == "{\"event\":\"x\",\"n\":-3}\n");
  CHECK(edgeq::ShapeJson({}) == "[]");
  CHECK(edgeq::ShapeJson({1, -1, 3}) == "[1,-1,3]");

  CHECK(Quoted("a\"b\\c") == "\"a\\\"b\\\\c\"");
  CHECK(Quoted("line\nfeed\x01\x7f") == "\"line\\u000afeed\\u0001\\u007f\"");
  CHECK(Quoted("h\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80") == "\"h\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
  // Not UTF-8: a lone continuation, an overlong form, a surrogate, one cut short, one past U+10FFFF.
  CHECK(Quoted("\x80") == "\"\\ufffd\"");
  CHECK(Quoted("\xc0\xaf") == "\"\\ufffd\\ufffd\"");
  CHECK(Quoted("\xed\xa0\x80") == "\"\\ufffd\\ufffd\\ufffd\"");
  CHECK(Quoted("ab\xe2\x82") == "\"ab\\ufffd\\ufffd\"");
  CHECK(Quoted("\xf5\x80\x80\x80") == "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
  CHECK(Quoted(std::string_view("a\0b", 3)) == "\"a\\u0000b\"");

  int pipe_ends[2];
  CHECK(pipe(pipe_ends) == 0);
  edgeq::EventWriter(pipe_ends[1]).Write(Event("done"));
  char text[64];
  const ssize_t size = read(pipe_ends[0], text, sizeof text);
  CHECK(size > 0 && std::string(text, static_cast<std::size_t>(size)) == "{\"event\":\"done\"}\n");
  edgeq::EventWriter closed(-1);
  CHECK_FAILS(closed.Write(Event("done")), edgeq::Code::kCannotWrite);
  return edgeq::Failures();
}
