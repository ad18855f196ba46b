// Signed deployments: whether a manifest is signed by a key that is trusted here, and whether files are what it says.
//
// Nothing of a manifest is read before its signature was found to be right.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "manifest.h"

namespace edgeq {

struct SignedManifest {
  DeviceManifest manifest;
  std::string key;     // the name of the trusted key's file
  std::string folder;  // of the manifest and its files, with its last slash
};

// Failure(kNotSigned) unless `signature`, 64 raw bytes, is one of a key in the folder `trusted` over the bytes of
// `manifest`. The keys are its files *.pub, each a line as OpenSSH writes it: ssh-ed25519 AAAA...
SignedManifest ReadSigned(const std::string& manifest, const std::string& signature, const std::string& trusted);

// Failure(kReplayed) if the manifest is older than what has been there.
void CheckSerial(const DeviceManifest& manifest, std::int64_t not_before);

// Failure(kTampered) unless every file that the manifest names is there and what it says.
void CheckFiles(const SignedManifest& from);

// For `runner` to load the model at `path`: checks the manifest beside the model, the model, and the files of the
// runner itself. The model's bytes come back as a file in memory that nobody can change any more, under the path that
// is returned, so that what is loaded is what was checked.
std::string SealedModel(const std::string& path, const std::string& trusted, const std::string& runner);

}  // namespace edgeq
