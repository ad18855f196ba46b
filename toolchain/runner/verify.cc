#include "verify.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "ed25519.h"
#include "failure.h"
#include "sha256.h"

namespace edgeq {
namespace {

constexpr const char* kManifestName = "deployment.json";
constexpr std::size_t kMostManifestBytes = 1 << 20;
constexpr std::size_t kMostKeyBytes = 4096;
constexpr std::size_t kMostKeys = 64;

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) {
      close(number_);
    }
  }
  int number() const { return number_; }
  int Release() { return std::exchange(number_, -1); }

 private:
  int number_;
};

// Opens a regular file, and no device, pipe or folder that would block or never end; errno says why not.
Descriptor OpenFile(const std::string& path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (file.number() < 0 || fstat(file.number(), &status) < 0) {
    return Descriptor(-1);
  }
  if (!S_ISREG(status.st_mode)) {
    errno = EINVAL;
    return Descriptor(-1);
  }
  return Descriptor(file.Release());
}

// The next bytes of a file, 0 at its end; -1 with errno.
ssize_t ReadSome(int file, char* buffer, std::size_t size) {
  for (;;) {
    const ssize_t count = read(file, buffer, size);
    if (count >= 0 || errno != EINTR) {
      return count;
    }
  }
}

// A whole file of at most `most` bytes; nothing, with errno, if it cannot be read or is longer.
std::optional<std::string> ReadSmall(const std::string& path, std::size_t most) {
  const Descriptor file = OpenFile(path);
  if (file.number() < 0) {
    return std::nullopt;
  }
  std::string bytes(most + 1, '\0');
  std::size_t filled = 0;
  while (filled <= most) {
    const ssize_t size = ReadSome(file.number(), bytes.data() + filled, bytes.size() - filled);
    if (size < 0) {
      return std::nullopt;
    }
    if (size == 0) {
      bytes.resize(filled);
      return bytes;
    }
    filled += static_cast<std::size_t>(size);
  }
  errno = EFBIG;
  return std::nullopt;
}

[[noreturn]] void NotSigned(const std::string& sentence) { throw Failure(Code::kNotSigned, sentence); }

std::string Needed(const std::string& path, std::size_t most, const char* what) {
  const std::optional<std::string> bytes = ReadSmall(path, most);
  if (!bytes) {
    NotSigned(std::string("the ") + what + " " + path + " cannot be read: " + std::strerror(errno));
  }
  return *bytes;
}

// -1 for a character that is none of base64's.
int Base64Value(char c) {
  constexpr const char* kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char* found = c == '\0' ? nullptr : std::strchr(kAlphabet, c);
  return found == nullptr ? -1 : static_cast<int>(found - kAlphabet);
}

// `ssh-ed25519 BASE64 comment`, where the base64 is of the kind's name and of the key, each after its length.
std::optional<PublicKey> ParseKey(std::string_view line) {
  constexpr std::string_view kKind = "ssh-ed25519 ";
  constexpr std::string_view kHead("\0\0\0\x0bssh-ed25519\0\0\0\x20", 19);
  constexpr std::size_t kDigits = 68;  // of 51 bytes, without padding
  if (line.substr(0, kKind.size()) != kKind) {
    return std::nullopt;
  }
  line.remove_prefix(kKind.size());
  const std::string_view digits = line.substr(0, line.find_first_of(" \t\r\n"));
  if (digits.size() != kDigits) {
    return std::nullopt;
  }
  std::string blob;
  for (std::size_t i = 0; i < kDigits; i += 4) {
    unsigned group = 0;
    for (const char digit : digits.substr(i, 4)) {
      const int value = Base64Value(digit);
      if (value < 0) {
        return std::nullopt;
      }
      group = group << 6 | static_cast<unsigned>(value);
    }
    for (const int shift : {16, 8, 0}) {
      blob += static_cast<char>(group >> shift & 0xff);
    }
  }
  PublicKey key;
  if (blob.compare(0, kHead.size(), kHead) != 0 || blob.size() != kHead.size() + key.size()) {
    return std::nullopt;
  }
  std::memcpy(key.data(), blob.data() + kHead.size(), key.size());
  return key;
}

// The names of the files *.pub in a folder, in order.
std::vector<std::string> KeyNames(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open_folder(opendir(folder.c_str()), closedir);
  if (!open_folder) {
    NotSigned("the folder of trusted keys " + folder + " cannot be read: " + std::strerror(errno));
  }
  std::vector<std::string> names;
  while (const dirent* entry = readdir(open_folder.get())) {
    const std::string name = entry->d_name;
    if (name.size() > 4 && name[0] != '.' && name.compare(name.size() - 4, 4, ".pub") == 0) {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  if (names.size() > kMostKeys) {
    NotSigned("the folder of trusted keys " + folder + " holds more than " + std::to_string(kMostKeys));
  }
  return names;
}

// The name of the trusted key that made the signature.
std::string Signer(const std::string& trusted, std::string_view manifest, const Signature& signature) {
  std::size_t keys = 0;
  for (const std::string& name : KeyNames(trusted)) {
    // A key that cannot be read vouches for nothing, and another one may do so all the same.
    const std::optional<std::string> line = ReadSmall(trusted + "/" + name, kMostKeyBytes);
    const std::optional<PublicKey> key = line ? ParseKey(*line) : std::nullopt;
    if (key) {
      ++keys;
      if (VerifyEd25519(*key, manifest, signature)) {
        return name;
      }
    }
  }
  NotSigned("the manifest is signed by none of the " + std::to_string(keys) + " keys in " + trusted +
            ", or was changed since");
}

[[noreturn]] void Tampered(const std::string& path, const std::string& problem) {
  throw Failure(Code::kTampered, path + " is not the file that was signed: " + problem);
}

void WriteAll(int file, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = write(file, data, size);
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw Failure(Code::kOutOfMemory, std::string("the model cannot be held in memory: ") + std::strerror(errno));
    }
    data += written;
    size -= static_cast<std::size_t>(written);
  }
}

// Reads a file once and checks it against the manifest; what was read is written to `copy`, if there is one.
void CheckFile(const std::string& path, const ManifestFile& said, int copy = -1) {
  const Descriptor file = OpenFile(path);
  if (file.number() < 0) {
    Tampered(path, std::strerror(errno));
  }
  Sha256 hash;
  std::int64_t total = 0;
  std::vector<char> buffer(1 << 16);
  while (const ssize_t size = ReadSome(file.number(), buffer.data(), buffer.size())) {
    if (size < 0) {
      throw Failure(Code::kCannotRead, "cannot read " + path + ": " + std::strerror(errno));
    }
    total += size;
    if (total > said.size) {
      Tampered(path, "it is longer");
    }
    hash.Update(buffer.data(), static_cast<std::size_t>(size));
    if (copy >= 0) {
      WriteAll(copy, buffer.data(), static_cast<std::size_t>(size));
    }
  }
  if (total != said.size) {
    Tampered(path, "it is shorter");
  }
  if (hash.Hex() != said.sha256) {
    Tampered(path, "its sha256 differs");
  }
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

}  // namespace

SignedManifest ReadSigned(const std::string& manifest, const std::string& signature, const std::string& trusted) {
  const std::string json = Needed(manifest, kMostManifestBytes, "manifest");
  Signature raw;
  const std::string bytes = Needed(signature, raw.size(), "signature");
  if (bytes.size() != raw.size()) {
    NotSigned("the signature " + signature + " is cut short");
  }
  std::memcpy(raw.data(), bytes.data(), raw.size());
  std::string key = Signer(trusted, json, raw);
  return {ParseManifest(json), std::move(key), FolderOf(manifest)};
}

void CheckSerial(const DeviceManifest& manifest, std::int64_t not_before) {
  if (manifest.serial < not_before) {
    throw Failure(Code::kReplayed, "the manifest is of an older version: its serial is " +
                                       std::to_string(manifest.serial) + ", and " + std::to_string(not_before) +
                                       " was there already");
  }
}

void CheckFiles(const SignedManifest& from) {
  for (const auto& [name, file] : from.manifest.files) {
    CheckFile(from.folder + name, file);
  }
}

std::string SealedModel(const std::string& path, const std::string& trusted, const std::string& runner) {
  const std::string folder = FolderOf(path);
  const std::string manifest = folder + kManifestName;
  const SignedManifest from = ReadSigned(manifest, manifest + ".sig", trusted);
  const auto model = from.manifest.files.find(path.substr(folder.size()));
  if (model == from.manifest.files.end() || !model->second.is_model || model->second.runner != runner) {
    NotSigned("the signed manifest " + manifest + " names no model " + path + " for " + runner);
  }
  Descriptor copy(memfd_create("model", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (copy.number() < 0) {
    throw Failure(Code::kCannotLoad, std::string("no file can be made in memory: ") + std::strerror(errno));
  }
  CheckFile(path, model->second, copy.number());
  if (fcntl(copy.number(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0) {
    throw Failure(Code::kCannotLoad, std::string("the model cannot be sealed in memory: ") + std::strerror(errno));
  }
  for (const auto& [name, file] : from.manifest.files) {
    if (!file.is_model && file.runner == runner) {
      CheckFile(from.folder + name, file);
    }
  }
  // Stays open: the path is of the descriptor.
  return "/proc/self/fd/" + std::to_string(copy.Release());
}

}  // namespace edgeq
