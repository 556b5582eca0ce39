#include "nuncio/network/proxy_protocol.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "source/network/proxy_versions.h"
#include "source/network/text.h"

namespace nuncio::network {

namespace {

// Begins with `start`, or is the beginning of it.
bool mayBeginWith(absl::string_view bytes, absl::string_view start) {
  return absl::StartsWith(bytes, start.substr(0, bytes.size()));
}

absl::string_view nameOf(ProxyVersions versions) {
  switch (versions) {
    case ProxyVersions::V1:
      return "version 1";
    case ProxyVersions::V2:
      return "version 2";
    case ProxyVersions::V1AndV2:
      break;
  }
  return "version 1 or 2";
}

}  // namespace

absl::Status badProxyHeader(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("bad PROXY header: ", what));
}

absl::StatusOr<ProxyParse> parseProxyHeader(absl::string_view bytes, ProxyVersions allowed, std::size_t max_v2_bytes) {
  if (allowed != ProxyVersions::V2 && mayBeginWith(bytes, kProxyV1Start)) {
    return parseProxyV1(bytes);
  }
  if (allowed != ProxyVersions::V1 && mayBeginWith(bytes, kProxyV2Start)) {
    return parseProxyV2(bytes, max_v2_bytes);
  }
  return badProxyHeader(
      absl::StrCat("the connection begins with ", quoted(bytes.substr(0, 16)), ", not with ", nameOf(allowed)));
}

absl::StatusOr<std::string> encodeProxyHeader(const ProxyHeader& header) {
  if (header.hasAddresses() && header.source.isUnix() != header.destination.isUnix()) {
    return badProxyHeader(absl::StrCat("it cannot say that a connection goes from ", header.source.toString(), " to ",
                                       header.destination.toString()));
  }
  return header.version == ProxyVersion::V1 ? encodeProxyV1(header) : encodeProxyV2(header);
}

}  // namespace nuncio::network
