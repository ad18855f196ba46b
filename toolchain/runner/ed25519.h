// Verification of Ed25519 signatures (RFC 8032, section 5.1.7).
//
// Everything that is verified is public, so nothing here takes care to run in constant time. It is strict: S must be
// below the group's order, points must be encoded the one canonical way, and a key of small order, for which anybody
// can make signatures, verifies nothing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace edgeq {

using PublicKey = std::array<std::uint8_t, 32>;
using Signature = std::array<std::uint8_t, 64>;

bool VerifyEd25519(const PublicKey& key, std::string_view message, const Signature& signature);

}  // namespace edgeq
