// What a deployment consists of, as its manifest says: a small JSON text of edgeq. README.md specifies it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace edgeq {

struct ManifestFile {
  std::string sha256;  // 64 lower-case hexadecimal digits
  std::int64_t size = 0;
  bool is_model = false;  // else the runner itself or a library of it
  std::string runner;     // the name of the program that it belongs to
};

struct DeviceManifest {
  std::string id;
  std::string model;
  std::string target;
  std::int64_t serial = 0;
  std::map<std::string, ManifestFile> files;  // by their names in the folder of the manifest
};

// Failure(kBadManifest) for anything else than a manifest of this schema: an unknown, missing or repeated key, a name
// that could lead out of the folder, a number or text out of bounds.
DeviceManifest ParseManifest(std::string_view json);

// Whether a name is that of a file inside a folder, and of nothing else.
bool IsFileName(std::string_view name);

}  // namespace edgeq
