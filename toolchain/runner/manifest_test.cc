#include "manifest.h"

#include <random>
#include <string>

#include "check.h"
#include "failure.h"

using edgeq::Code;
using edgeq::DeviceManifest;
using edgeq::IsFileName;
using edgeq::ParseManifest;

namespace {

const std::string kSha = "527aa9f431539da8e151d5434d1d5e611d973f601d8e970790882624554146b0";
const std::string kRunner =
    "\"run ner\":{\"role\":\"runtime\",\"runner\":\"run ner\",\"sha256\":\"" + kSha + "\",\"size\":6}";

std::string File(const std::string& name) {
  return "\"" + name + "\":{\"role\":\"model\",\"runner\":\"run ner\",\"sha256\":\"" + kSha + "\",\"size\":1}";
}

std::string Manifest(const std::string& files) {
  return "{\"files\":{" + files + "},\"id\":\"0123\",\"model\":\"m\\\"\\\\\xc3\xbc\",\"schema\":1,\"serial\":1767323045," +
         "\"target\":\"rpi4\"}";
}

// `text` with the first `from` in it replaced.
std::string With(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

void TestWhatIsRead() {
  const DeviceManifest read = ParseManifest(Manifest(kRunner + "," + File("$(m) ü.pte")));
  CHECK(read.id == "0123" && read.model == "m\"\\\xc3\xbc" && read.target == "rpi4" && read.serial == 1767323045);
  CHECK(read.files.size() == 2);
  CHECK(read.files.at("run ner").size == 6 && !read.files.at("run ner").is_model);
  CHECK(read.files.at("$(m) ü.pte").sha256 == kSha && read.files.at("$(m) ü.pte").is_model);
  CHECK(ParseManifest(Manifest("")).files.empty());
}

void TestWhatIsRefused() {
  const std::string good = Manifest(kRunner + "," + File("m.pte"));
  ParseManifest(good);
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK_FAILS(ParseManifest(good.substr(0, size)), Code::kBadManifest);
  }
  const std::string changed[] = {
      good + "\n",
      " " + good,
      With(good, "\"schema\":1", "\"schema\":2"),
      With(good, "\"schema\":1,", ""),
      With(good, "\"schema\":1", "\"schema\":1,\"schema\":1"),
      With(good, "\"schema\":1", "\"schema\":1,\"more\":1"),
      With(good, "\"schema\":1", "\"schema\":true"),
      With(good, "\"schema\":1", "\"schema\":[1]"),
      With(good, "1767323045", "-1"),
      With(good, "1767323045", "01"),
      With(good, "1767323045", "1.5"),
      With(good, "1767323045", "1e3"),
      With(good, "1767323045", "\"1\""),
      With(good, "1767323045", "1000000000000000000"),
      With(good, "1767323045", "99999999999999999999999999"),
      With(good, "rpi4", "rpi4\n"),
      With(good, "rpi4", std::string("rpi4\0", 5)),
      With(good, "rpi4", "rpi4\\n"),
      With(good, "rpi4", "rpi4\\u0041"),
      With(good, kSha, kSha.substr(1)),
      With(good, kSha, "X" + kSha.substr(1)),
      With(good, "\"size\":6", "\"size\":6,\"size\":6"),
      With(good, ",\"size\":6", ""),
      With(good, "\"model\",\"runner\"", "\"other\",\"runner\""),
      With(good, "\"runner\":\"run ner\",\"sha256\":\"" + kSha + "\",\"size\":1", "\"runner\":\"m.pte\",\"sha256\":\"" +
           kSha + "\",\"size\":1"),
      With(good, "\"run ner\":{", "\"walker\":{"),
      Manifest(File("m.pte")),
      Manifest(kRunner + "," + kRunner),
      Manifest(kRunner + ","),
      Manifest("," + kRunner),
      std::string(100000, '{'),
      std::string(100000, '"'),
      "null",
      "[]",
  };
  for (const std::string& json : changed) {
    CHECK_FAILS(ParseManifest(json), Code::kBadManifest);
  }
  for (const char* name : {"", ".", "..", "../m.pte", "/etc/passwd", "a/b", "a\\n", "a\nb", "a\x7f", "a\\/b"}) {
    CHECK_FAILS(ParseManifest(Manifest(kRunner + "," + File(name))), Code::kBadManifest);
  }
}

void TestNames() {
  for (const char* name : {"m.pte", "..m", "a..b", "a b", "-rf", "$(x)", "ü", "a\\b", "'"}) {
    CHECK(IsFileName(name));
  }
  CHECK(IsFileName(std::string(255, 'a')) && !IsFileName(std::string(256, 'a')));
  CHECK(!IsFileName(std::string("a\0b", 3)));
  for (const char* name : {"", ".", "..", "/", "a/", "/a", "../a", "a\n", "\ta", "\x1b[0m"}) {
    CHECK(!IsFileName(name));
  }
}

// Whatever the bytes, they are either a manifest whose names stay in their folder, or refused with the one code.
void TestAnyBytes() {
  std::mt19937 random(20261125);
  const std::string good = Manifest(kRunner + "," + File("m.pte") + "," + File("n.pte"));
  const std::string telling = "{}\":,\\/.0123456789abcdef\n\x7f\xff\0";
  int read = 0;
  for (int round = 0; round < 100000; ++round) {
    std::string json = good;
    const std::size_t changes = 1 + random() % 4;
    for (std::size_t i = 0; i < changes && !json.empty(); ++i) {
      const std::size_t at = random() % json.size();
      const char c = random() % 2 == 0 ? telling[random() % telling.size()] : static_cast<char>(random());
      switch (random() % 5) {
        case 0:
          json[at] = c;
          break;
        case 1:
          json.insert(at, 1 + random() % 3, c);
          break;
        case 2:
          json.erase(at, 1 + random() % 8);
          break;
        case 3:
          json.insert(at, json.substr(random() % json.size(), random() % 100));
          break;
        default:
          json.resize(at);
      }
    }
    try {
      const DeviceManifest manifest = ParseManifest(json);
      ++read;
      CHECK(manifest.serial >= 0);
      for (const auto& [name, file] : manifest.files) {
        CHECK(IsFileName(name) && file.size >= 0 && file.sha256.size() == 64 && manifest.files.count(file.runner) == 1);
      }
    } catch (const edgeq::Failure& failure) {
      CHECK(failure.code() == Code::kBadManifest);
    }
  }
  CHECK(read > 1000);  // a change inside a text leaves a manifest: what is read was fuzzed as well
}

}  // namespace

int main() {
  TestWhatIsRead();
  TestWhatIsRefused();
  TestNames();
  TestAnyBytes();
  return edgeq::Failures();
}
