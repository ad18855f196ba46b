#include "arguments.h"

#include "check.h"
#include "failure.h"

using edgeq::Arguments;
using edgeq::Code;
using edgeq::ParseArguments;
using edgeq::Shape;

int main() {
  CHECK(ParseArguments({"hello"}).command == Arguments::Command::kHello);
  CHECK(ParseArguments({"--version"}).command == Arguments::Command::kHello);
  CHECK(ParseArguments({"hash", "a", "b"}).files.size() == 2);

  const Arguments run = ParseArguments({"run", "--model", "m.pte", "--threads", "4", "--warmup", "2", "--repeats", "10",
                                        "--instructions", "--profile", "--sample-bytes", "12", "--shapes",
                                        "1x3,scalar"});
  CHECK(run.command == Arguments::Command::kRun);
  CHECK(run.run.load.path == "m.pte");
  CHECK(run.run.load.threads == 4);
  CHECK(run.run.load.count_instructions);
  CHECK(run.run.load.profile);
  CHECK(run.run.warmup == 2 && run.run.repeats == 10);
  CHECK(run.run.sample_bytes == 12u);
  CHECK((run.run.load.shapes == std::vector<Shape>{{1, 3}, {}}));

  CHECK(ParseArguments({"run", "--model", "m", "--require-signed", "keys"}).run.trusted == "keys");
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--require-signed", ""}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--require-signed"}), Code::kBadArguments);

  const auto paced = ParseArguments({"run", "--model", "m", "--rate", "29.97", "--arrivals", "even", "--seed", "7",
                                     "--most-ms", "1500", "--memory-every", "100", "--cpus", "0,4-6"}).run;
  CHECK(paced.pace.rate == 29.97 && paced.pace.arrivals == edgeq::Arrivals::kEven && paced.pace.seed == 7);
  CHECK(paced.most == std::chrono::milliseconds(1500) && paced.memory_every == 100);
  CHECK((paced.cpus == std::vector<int>{0, 4, 5, 6}));
  CHECK(ParseArguments({"run", "--model", "m", "--pause-ms", "250"}).run.pace.pause == std::chrono::milliseconds(250));
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--pause-ms", "1", "--rate", "1"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--arrivals", "odd"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--memory-every", "0"}), Code::kBadArguments);
  for (const char* rate : {"", "0", "-1", "0.0001", "1e3", "nan", "inf", "1.2.3", "2000000", " 1"}) {
    CHECK_FAILS(ParseArguments({"run", "--model", "m", "--rate", rate}), Code::kBadArguments);
  }
  for (const char* cpus : {"", "a", "1,", "3-1", "0-", "-1", "1-2-3", "1024", "0-99999999999"}) {
    CHECK_FAILS(ParseArguments({"run", "--model", "m", "--cpus", cpus}), Code::kBadArguments);
  }

  const std::vector<std::string> verify = {"verify", "--manifest", "m", "--signature", "s", "--trusted", "t"};
  CHECK(ParseArguments(verify).command == Arguments::Command::kVerify);
  CHECK(ParseArguments(verify).verify.signature == "s" && ParseArguments(verify).verify.not_before == 0);
  for (const char* serial : {"0", "1767323045", "999999999999999999"}) {
    std::vector<std::string> words = verify;
    words.insert(words.end(), {"--not-before", serial});
    CHECK(std::to_string(ParseArguments(words).verify.not_before) == serial);
  }
  for (const char* serial : {"", "-1", "1.5", "1000000000000000000", "yesterday"}) {
    std::vector<std::string> words = verify;
    words.insert(words.end(), {"--not-before", serial});
    CHECK_FAILS(ParseArguments(words), Code::kBadArguments);
  }
  CHECK_FAILS(ParseArguments({"verify"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"verify", "--manifest", "m", "--signature", "s"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"verify", "--manifest", "m", "--signature", "s", "--trusted"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"verify", "--manifest", "m", "--signature", "s", "--trusted", ""}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"verify", "--manifset", "m"}), Code::kBadArguments);

  const Arguments plain = ParseArguments({"run", "--model", "m"});
  CHECK(plain.run.load.threads == 1 && plain.run.repeats == 0 && !plain.run.sample_bytes && !plain.run.load.profile && plain.run.trusted.empty());

  CHECK_FAILS(ParseArguments({}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"walk"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"hello", "there"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run", "--model"}), Code::kBadArguments);
  CHECK_FAILS(ParseArguments({"run", "--modle", "m"}), Code::kBadArguments);
  for (const char* threads : {"0", "-1", "257", "four", "4x", "", " 4", "99999999999999999999"}) {
    CHECK_FAILS(ParseArguments({"run", "--model", "m", "--threads", threads}), Code::kBadArguments);
  }
  for (const char* shapes : {"", "1x", "x", "1x-3", "1,", "1x3x", "99999999999", "1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1x1"}) {
    CHECK_FAILS(ParseArguments({"run", "--model", "m", "--shapes", shapes}), Code::kBadArguments);
  }
  CHECK_FAILS(ParseArguments({"run", "--model", "m", "--repeats", "1000001"}), Code::kBadArguments);
  return edgeq::Failures();
}
