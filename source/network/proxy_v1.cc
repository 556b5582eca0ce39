// Version 1 of the PROXY protocol, a line of text: "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "source/network/proxy_versions.h"
#include "source/network/text.h"

namespace nuncio::network {

namespace {

constexpr absl::string_view kEnd = "\r\n";
constexpr absl::string_view kTcp4 = "TCP4";
constexpr absl::string_view kTcp6 = "TCP6";
constexpr absl::string_view kUnknown = "UNKNOWN";

constexpr std::size_t kFields = 4;
constexpr std::array<absl::string_view, kFields> kFieldNames = {"source address", "destination address", "source port",
                                                                "destination port"};
constexpr bool isAddress(std::size_t field) { return field < 2; }

// The line behind "PROXY ", without its end, as far as it has come.
struct Line {
  absl::string_view text;
  bool whole = false;     // its end has come, or half of it: nothing can be added
  std::size_t bytes = 0;  // of all the header; 0: not known yet
};

absl::StatusOr<Line> findLine(absl::string_view bytes) {
  const std::size_t end = bytes.substr(0, kMaxProxyV1Bytes).find(kEnd);
  if (end == absl::string_view::npos && bytes.size() >= kMaxProxyV1Bytes) {
    return badProxyHeader(absl::StrCat("the line does not end by CR LF within ", kMaxProxyV1Bytes, " bytes"));
  }
  Line line;
  line.text = bytes.substr(0, end);
  absl::ConsumePrefix(&line.text, kProxyV1Start);
  if (end != absl::string_view::npos) {
    line.whole = true;
    line.bytes = end + kEnd.size();
  } else {
    line.whole = absl::ConsumeSuffix(&line.text, "\r");
  }
  return line;
}

absl::Status badField(std::size_t field, absl::string_view text, bool ipv6) {
  const absl::string_view right = !isAddress(field) ? "a port" : ipv6 ? "an IPv6 address" : "an IPv4 address";
  return badProxyHeader(absl::StrCat("the ", kFieldNames[field], " is ", quoted(text), ", not ", right));
}

// Whether more characters could make an address of it. (An address ends by its blank.)
bool mayBecomeAddress(absl::string_view text, bool ipv6) {
  constexpr std::size_t kLongestV4 = absl::string_view("255.255.255.255").size();
  constexpr std::size_t kLongestV6 = absl::string_view("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255").size();
  return text.size() <= (ipv6 ? kLongestV6 : kLongestV4) && std::all_of(text.begin(), text.end(), [ipv6](char c) {
           return c == '.' || absl::ascii_isdigit(c) || (ipv6 && (c == ':' || absl::ascii_isxdigit(c)));
         });
}

// The four fields of TCP4 and TCP6.
class FieldReader {
public:
  explicit FieldReader(bool ipv6) : ipv6_(ipv6) {}

  // Checks what is there of them; where `whole`, all are.
  absl::Status read(absl::string_view text, bool whole) {
    for (std::size_t field = 0; field < kFields; ++field) {
      const std::size_t blank = text.find(' ');
      const bool last = blank == absl::string_view::npos;
      if (!readField(field, text.substr(0, blank), !last || whole)) {
        return badField(field, text.substr(0, blank), ipv6_);
      }
      if (last) {
        return whole && field + 1 < kFields ? badProxyHeader("an address or a port is missing") : absl::OkStatus();
      }
      text.remove_prefix(blank + 1);
    }
    return badProxyHeader("there is more in the line than two addresses and two ports");
  }

  Address source() const { return addresses_[0].withPort(ports_[0]); }
  Address destination() const { return addresses_[1].withPort(ports_[1]); }

private:
  bool readField(std::size_t field, absl::string_view text, bool whole) {
    if (text.empty() && !whole) {
      return true;
    }
    return isAddress(field) ? readAddress(text, whole, addresses_[field]) : readPort(text, ports_[field - 2]);
  }

  bool readAddress(absl::string_view text, bool whole, Address& address) const {
    if (!mayBecomeAddress(text, ipv6_) || !whole) {
      return mayBecomeAddress(text, ipv6_);
    }
    const absl::StatusOr<Address> parsed = Address::ip(text, 0);
    if (!parsed.ok() || absl::StrContains(text, ':') != ipv6_) {
      return false;
    }
    address = *parsed;
    return true;
  }

  // The beginning of a port is one too.
  static bool readPort(absl::string_view text, uint16_t& port) {
    const std::optional<uint16_t> parsed = parsePort(text);
    port = parsed.value_or(0);
    return parsed.has_value();
  }

  const bool ipv6_;
  std::array<Address, 2> addresses_;
  std::array<uint16_t, 2> ports_ = {};
};

// What is there of the word for the protocol, of which more may come.
bool mayBecomeProtocol(absl::string_view word) {
  return absl::StartsWith(kTcp4, word) || absl::StartsWith(kTcp6, word) || absl::StartsWith(kUnknown, word);
}

ProxyParse parsed(std::size_t bytes, Address source, Address destination) {
  ProxyParse parse;
  if (bytes == 0) {
    return parse;  // the end has not come
  }
  parse.consumed = bytes;
  parse.header.version = ProxyVersion::V1;
  parse.header.source = std::move(source);
  parse.header.destination = std::move(destination);
  return parse;
}

// The zone is of this machine alone, and is left out.
std::string hostText(const Address& address, bool ipv6) {
  const std::string host = address.host();
  const bool mapped = ipv6 && address.family() == Address::Family::IPv4;
  return absl::StrCat(mapped ? "::ffff:" : "", host.substr(0, host.find('%')));
}

}  // namespace

absl::StatusOr<ProxyParse> parseProxyV1(absl::string_view bytes) {
  if (bytes.size() < kProxyV1Start.size()) {
    return ProxyParse();
  }
  const absl::StatusOr<Line> line = findLine(bytes);
  if (!line.ok()) {
    return line.status();
  }
  const std::size_t blank = line->text.find(' ');
  const absl::string_view protocol = line->text.substr(0, blank);
  if (blank == absl::string_view::npos && !line->whole && mayBecomeProtocol(protocol)) {
    return ProxyParse();
  }
  if (protocol == kUnknown) {
    return parsed(line->bytes, Address(), Address());
  }
  if (protocol != kTcp4 && protocol != kTcp6) {
    return badProxyHeader(absl::StrCat("the protocol is ", quoted(protocol), ", not TCP4, TCP6 or UNKNOWN"));
  }
  FieldReader fields(protocol == kTcp6);
  const absl::string_view text = blank != absl::string_view::npos ? line->text.substr(blank + 1) : "";
  if (absl::Status status = fields.read(text, line->whole); !status.ok()) {
    return status;
  }
  return parsed(line->bytes, fields.source(), fields.destination());
}

absl::StatusOr<std::string> encodeProxyV1(const ProxyHeader& header) {
  if (!header.tlvs.empty() || header.checksum) {
    return badProxyHeader("version 1 has no TLVs and no checksum");
  }
  if (!header.hasAddresses() || header.source.isUnix()) {
    return absl::StrCat(kProxyV1Start, kUnknown, kEnd);
  }
  const Address& source = header.source;
  const Address& destination = header.destination;
  const bool ipv6 = source.family() == Address::Family::IPv6 || destination.family() == Address::Family::IPv6;
  return absl::StrCat(kProxyV1Start, ipv6 ? kTcp6 : kTcp4, " ", hostText(source, ipv6), " ",
                      hostText(destination, ipv6), " ", source.port(), " ", destination.port(), kEnd);
}

}  // namespace nuncio::network
