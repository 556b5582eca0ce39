#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/network/address.h"

// The PROXY protocol: a few bytes at the beginning of a connection by which a proxy tells the server whose connection
// it passes on. Source: "The PROXY protocol, versions 1 & 2", haproxy.org/download/2.9/doc/proxy-protocol.txt.
//
//   absl::StatusOr<ProxyParse> parse = parseProxyHeader(received, ProxyVersions::V1AndV2);
//   if (!parse.ok()) { /* it is no header: close the connection */ }
//   if (!parse->done()) return;  // call again with more
//   received.remove_prefix(parse->consumed);
//   const Address peer = parse->header.hasAddresses() ? parse->header.source : connection.peer();
//
// Whoever sends a header says who he is and is believed: it is to be expected of trusted peers only (CidrList), and
// then always, not where it happens to be there.
//
// Threads: values: as an int. Without memory: std::bad_alloc.
namespace nuncio::network {

enum class ProxyVersion : uint8_t { V1 = 1, V2 = 2 };

// Something more about the connection, of version 2. Types are numbers, since there are those of one's own.
struct ProxyTlv {
  static constexpr uint8_t kAlpn = 0x01;
  static constexpr uint8_t kAuthority = 0x02;  // the name of the server that the client asked for (SNI)
  static constexpr uint8_t kCrc32c = 0x03;     // see ProxyHeader::checksum
  static constexpr uint8_t kNoop = 0x04;       // padding
  static constexpr uint8_t kUniqueId = 0x05;
  static constexpr uint8_t kSsl = 0x20;  // holds TLVs of its own, which are not looked into
  static constexpr uint8_t kNetns = 0x30;
  static constexpr uint8_t kCustomFirst = 0xe0;  // to kCustomLast: for one's own
  static constexpr uint8_t kCustomLast = 0xef;

  uint8_t type = 0;
  std::string value;  // any bytes

  friend bool operator==(const ProxyTlv&, const ProxyTlv&) = default;
};

struct ProxyHeader {
  // Whether it says whose connection it is. Else the connection's own ends are to be taken.
  bool hasAddresses() const { return !local && !(source.isUnnamed() && destination.isUnnamed()); }

  ProxyVersion version = ProxyVersion::V2;
  // Of version 2: the proxy speaks for itself, as for a health check.
  bool local = false;
  // The two ends of the connection that the proxy has accepted. Both unnamed, where it does not say.
  Address source;
  Address destination;
  // Of version 2, in their order; without padding and checksum.
  std::vector<ProxyTlv> tlvs;
  // Of version 2: it has a CRC-32C of itself, which was right, or is to be written.
  bool checksum = false;

  friend bool operator==(const ProxyHeader&, const ProxyHeader&) = default;
};

enum class ProxyVersions : uint8_t { V1, V2, V1AndV2 };

struct ProxyParse {
  // The header is there; else more bytes are needed.
  bool done() const { return consumed != 0; }

  std::size_t consumed = 0;  // bytes of the header; what is behind them is the client's
  ProxyHeader header;
};

constexpr std::size_t kMaxProxyV1Bytes = 107;
constexpr std::size_t kDefaultMaxProxyV2Bytes = 4096;

// Looks at all bytes of a connection that have come so far, from the first one on. InvalidArgument, with the reason, as
// soon as they cannot be, or become, a header of `allowed` versions. A header never takes more than kMaxProxyV1Bytes,
// or `max_v2_bytes` (its 16 first ones included; with all addresses of version 2 that is 232 and the TLVs).
//
// Version 1: "UNKNOWN" has no addresses, whatever else is in its line. Version 2: LOCAL, addresses that are
// unspecified, and those of datagrams, which are no connection's, make a header without addresses and TLVs: what comes
// with them is skipped, also addresses after LOCAL, which are nobody's. Families, transports, pairs of them and
// commands that the protocol does not know are refused, and so are TLVs that go beyond the end, and a wrong checksum.
// These are looked at when all of the header is there; the rest of version 2 with its 16 first bytes, and each field of
// version 1 as it comes. Abstract names are padded with NULs in the protocol: those at their end are not kept.
//
// Cost: begins anew with each call, which for parts of version 2 is nothing.
absl::StatusOr<ProxyParse> parseProxyHeader(absl::string_view bytes, ProxyVersions allowed,
                                            std::size_t max_v2_bytes = kDefaultMaxProxyV2Bytes);

// The bytes to send before all others. Where one end is IPv4 and the other one IPv6, both are written as IPv6; zones
// are not written. Version 1 says UNKNOWN of Unix addresses, and of LOCAL. Version 2 says LOCAL without addresses.
// InvalidArgument for what cannot be said: one end that is a Unix address and one that is not; TLVs or a checksum in
// version 1, or with LOCAL; kNoop and kCrc32c among the TLVs; more than 65,535 bytes behind the 16 first ones.
absl::StatusOr<std::string> encodeProxyHeader(const ProxyHeader& header);

}  // namespace nuncio::network
