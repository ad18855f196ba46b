#include "verify.h"

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "failure.h"
#include "sha256.h"

using edgeq::CheckFiles;
using edgeq::CheckSerial;
using edgeq::Code;
using edgeq::ReadSigned;
using edgeq::SealedModel;
using edgeq::SignedManifest;

namespace {

const std::string kRunner = "edgeq-runner-executorch";

// The first key of RFC 8032, section 7.1, and what it says of the two files of Folder.
const std::string kKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea ci\n";
const std::string kManifest =
    "{\"files\":{\"edgeq-runner-executorch\":{\"role\":\"runtime\",\"runner\":\"edgeq-runner-executorch\",\"sha256\":"
    "\"527aa9f431539da8e151d5434d1d5e611d973f601d8e970790882624554146b0\",\"size\":6},\"m.pte\":{\"role\":\"model\","
    "\"runner\":\"edgeq-runner-executorch\",\"sha256\":"
    "\"9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4\",\"size\":5}},\"id\":\"0123456789abcdef\","
    "\"model\":\"m\",\"schema\":1,\"serial\":1767323045,\"target\":\"rpi4\"}";
const char* const kSignature =
    "9e704599218df61fd8ea228b05115a42833fee0c80fbe016061ac1adee8bc06a04a789e087e9df055a334f664d66380a6d3d3c8b6ecfbed8"
    "79a12ffa28c4660d";

std::string Bytes(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

// A deployment of two files with its manifest, and a folder that trusts its key.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/edgeq-verify-test-XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    root_ = name;
    mkdir(trusted().c_str(), 0700);
    Restore();
  }
  ~Folder() {
    const std::string command = "rm -rf '" + root_ + "'";
    CHECK(std::system(command.c_str()) == 0);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void Restore() {
    Write("m.pte", "model");
    Write(kRunner, "runner");
    Write("deployment.json", kManifest);
    Write("deployment.json.sig", Bytes(kSignature));
    Write("trusted/ci.pub", kKey);
  }
  std::string path(const std::string& name) const { return root_ + "/" + name; }
  std::string trusted() const { return path("trusted"); }
  void Write(const std::string& name, const std::string& bytes) {
    unlink(path(name).c_str());
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  SignedManifest Read() const {
    return ReadSigned(path("deployment.json"), path("deployment.json.sig"), trusted());
  }
  void Verify() const { CheckFiles(Read()); }
  std::string Sealed(const std::string& name) const { return SealedModel(path(name), trusted(), kRunner); }

 private:
  std::string root_;
};

std::string Content(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

bool Verifies(const Folder& folder) {
  folder.Verify();
  return true;
}

void TestWhatIsSigned() {
  Folder folder;
  const SignedManifest from = folder.Read();
  CHECK(from.key == "ci.pub" && from.manifest.id == "0123456789abcdef" && from.manifest.serial == 1767323045);
  CheckFiles(from);
  CheckSerial(from.manifest, 0);
  CheckSerial(from.manifest, 1767323045);
  CHECK_FAILS((CheckSerial(from.manifest, 1767323046), 0), Code::kReplayed);
}

void TestKeys() {
  Folder folder;
  // Others beside it do not matter: one that is damaged, another kind, another's, a folder.
  folder.Write("trusted/a.pub", "ssh-ed25519 AAAA");
  folder.Write("trusted/b.pub", "ssh-rsa AAAAB3NzaC1yc2E=");
  folder.Write("trusted/c.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID1AF8PoQ4lakrcKp00bfrycmCzPLsSWjMDNVfEq9GYM");
  mkdir(folder.path("trusted/d.pub").c_str(), 0700);
  folder.Write("trusted/e.pub", std::string(1 << 20, 'x'));
  CHECK(folder.Read().key == "ci.pub");
  // Without it, or where its name says that it is no key, nothing is trusted.
  folder.Write("trusted/ci.pub", "");
  CHECK_FAILS(folder.Read(), Code::kNotSigned);
  folder.Write("trusted/ci.old", kKey);
  folder.Write("trusted/.ci.pub", kKey);
  CHECK_FAILS(folder.Read(), Code::kNotSigned);
  for (std::size_t i = 12; i < 12 + 68; ++i) {
    std::string changed = kKey;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    folder.Write("trusted/ci.pub", changed);
    CHECK_FAILS(folder.Read(), Code::kNotSigned);
  }
  for (const std::string key : {"AAAA", "=", "\n"}) {
    folder.Write("trusted/ci.pub", kKey.substr(0, 79) + key);
    CHECK_FAILS(folder.Read(), Code::kNotSigned);
  }
  CHECK_FAILS(ReadSigned(folder.path("deployment.json"), folder.path("deployment.json.sig"), folder.path("nowhere")),
              Code::kNotSigned);
}

void TestEveryByteCounts() {
  Folder folder;
  for (std::size_t i = 0; i < kManifest.size(); ++i) {
    std::string changed = kManifest;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    folder.Write("deployment.json", changed);
    CHECK_FAILS(Verifies(folder), Code::kNotSigned);
  }
  folder.Restore();
  const std::string model = "model";
  for (std::size_t i = 0; i < model.size(); ++i) {
    std::string changed = model;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    folder.Write("m.pte", changed);
    CHECK_FAILS(Verifies(folder), Code::kTampered);
    CHECK_FAILS(folder.Sealed("m.pte"), Code::kTampered);
  }
  for (const char* other : {"", "mode", "models"}) {
    folder.Write("m.pte", other);
    CHECK_FAILS(Verifies(folder), Code::kTampered);
  }
  folder.Restore();
  folder.Write(kRunner, "other!");
  CHECK_FAILS(Verifies(folder), Code::kTampered);
  CHECK_FAILS(folder.Sealed("m.pte"), Code::kTampered);
}

void TestFilesThatAreNone() {
  Folder folder;
  for (const char* name : {"m.pte", "deployment.json", "deployment.json.sig"}) {
    const Code code = std::string(name) == "m.pte" ? Code::kTampered : Code::kNotSigned;
    folder.Restore();
    unlink(folder.path(name).c_str());
    CHECK_FAILS(Verifies(folder), code);
    mkdir(folder.path(name).c_str(), 0700);
    CHECK_FAILS(Verifies(folder), code);
    rmdir(folder.path(name).c_str());
    CHECK(mkfifo(folder.path(name).c_str(), 0600) == 0);  // must not be waited for
    CHECK_FAILS(Verifies(folder), code);
  }
  folder.Restore();
  folder.Write("deployment.json", std::string((1 << 20) + 1, ' '));
  CHECK_FAILS(Verifies(folder), Code::kNotSigned);
  folder.Restore();
  for (const std::size_t size : {std::size_t{0}, std::size_t{63}}) {
    folder.Write("deployment.json.sig", Bytes(kSignature).substr(0, size));
    CHECK_FAILS(Verifies(folder), Code::kNotSigned);
  }
  folder.Write("deployment.json.sig", Bytes(kSignature) + "\n");
  CHECK_FAILS(Verifies(folder), Code::kNotSigned);
}

void TestTheSealedModelIsTheOneThatWasChecked() {
  Folder folder;
  const std::string path = folder.Sealed("m.pte");
  folder.Write("m.pte", "other");
  CHECK(Content(path) == "model");
  const std::string number = path.substr(path.rfind('/') + 1);
  CHECK(write(std::atoi(number.c_str()), "x", 1) < 0);
  CHECK(ftruncate(std::atoi(number.c_str()), 0) < 0);
  folder.Restore();
  folder.Write("n.pte", "model");
  CHECK_FAILS(folder.Sealed("n.pte"), Code::kNotSigned);     // the manifest does not name it
  CHECK_FAILS(folder.Sealed(kRunner), Code::kNotSigned);     // it is no model
  CHECK_FAILS(SealedModel(folder.path("m.pte"), folder.trusted(), "edgeq-runner-onnxruntime"), Code::kNotSigned);
}

void TestAnyBytes() {
  Folder folder;
  std::mt19937 random(20261125);
  for (int round = 0; round < 2000; ++round) {
    const char* name = round % 2 == 0 ? "deployment.json" : "deployment.json.sig";
    std::string bytes = round % 2 == 0 ? kManifest : Bytes(kSignature);
    const std::string before = bytes;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    if (random() % 4 == 0) {
      bytes.resize(random() % bytes.size());
    }
    folder.Restore();
    folder.Write(name, bytes);
    if (bytes == before) {
      CHECK(Verifies(folder));
    } else {
      CHECK_FAILS(Verifies(folder), Code::kNotSigned);
    }
  }
}

}  // namespace

int main() {
  TestWhatIsSigned();
  TestKeys();
  TestEveryByteCounts();
  TestFilesThatAreNone();
  TestTheSealedModelIsTheOneThatWasChecked();
  TestAnyBytes();
  return edgeq::Failures();
}
