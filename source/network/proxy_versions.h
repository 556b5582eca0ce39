#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/network/proxy_protocol.h"

// The two versions of the PROXY protocol, each for itself. See parseProxyHeader() and encodeProxyHeader().
namespace nuncio::network {

constexpr absl::string_view kProxyV1Start = "PROXY ";
constexpr absl::string_view kProxyV2Start("\r\n\r\n\0\r\nQUIT\n", 12);

// "bad PROXY header: <what>".
absl::Status badProxyHeader(absl::string_view what);

// Of bytes that begin with kProxyV1Start or kProxyV2Start, as far as they go.
absl::StatusOr<ProxyParse> parseProxyV1(absl::string_view bytes);
absl::StatusOr<ProxyParse> parseProxyV2(absl::string_view bytes, std::size_t max_bytes);

// Of two ends that are both IP addresses, or both Unix addresses.
absl::StatusOr<std::string> encodeProxyV1(const ProxyHeader& header);
absl::StatusOr<std::string> encodeProxyV2(const ProxyHeader& header);

}  // namespace nuncio::network
