// Addresses as texts: what parse() and its like take, and what toString() prints.

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstddef>
#include <net/if.h>
#include <optional>
#include <ostream>
#include <sys/un.h>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "nuncio/common/assert.h"
#include "nuncio/network/address.h"
#include "source/network/text.h"

namespace nuncio::network {

namespace {

constexpr std::size_t kMaxName = sizeof(sockaddr_un::sun_path);
constexpr absl::string_view kNul("\0", 1);
constexpr absl::string_view kUnixPrefix = "unix:";
constexpr absl::string_view kForms =
    "; an address is \"192.0.2.1:80\", \"[2001:db8::1]:80\", \"unix:/path\" or \"unix:@name\"";

// What is wrong, to which the outermost function adds the text that it was given.
absl::Status wrong(absl::string_view what) { return absl::InvalidArgumentError(what); }

absl::Status badAddress(absl::string_view text, const absl::Status& what, absl::string_view forms) {
  return {what.code(), absl::StrCat("bad address ", quoted(text), ": ", what.message(), forms)};
}

// inet_pton() for a text that ends anywhere. False also where a NUL would hide the rest.
template <std::size_t kBytes>
bool parseIp(int family, absl::string_view text, std::array<uint8_t, kBytes>& ip) {
  std::array<char, INET6_ADDRSTRLEN> terminated = {};
  if (text.size() >= terminated.size() || absl::StrContains(text, '\0')) {
    return false;
  }
  std::copy(text.begin(), text.end(), terminated.begin());
  return ::inet_pton(family, terminated.data(), ip.data()) == 1;
}

absl::StatusOr<uint32_t> interfaceOf(absl::string_view name) {
  errno = ENODEV;
  const uint32_t index = absl::StrContains(name, '\0') ? 0 : ::if_nametoindex(std::string(name).c_str());
  if (index != 0) {
    return index;
  }
  if (errno != ENODEV) {  // what the C library then says is not always the reason
    return absl::ResourceExhaustedError(absl::StrCat("no socket to look for the interface ", quoted(name), " with"));
  }
  return wrong(absl::StrCat("unknown zone: there is no interface ", quoted(name)));
}

// A number, also of an interface that is not there: toString() prints those.
absl::StatusOr<uint32_t> parseZone(absl::string_view zone) {
  if (zone.empty()) {
    return wrong("no zone after \"%\"");
  }
  if (std::all_of(zone.begin(), zone.end(), absl::ascii_isdigit)) {
    const std::optional<uint32_t> index = parseDecimal(zone, UINT32_MAX);
    if (!index.has_value() || *index == 0) {
      return wrong(absl::StrCat("zone ", quoted(zone), " is not the number of an interface"));
    }
    return *index;
  }
  return interfaceOf(zone);
}

absl::StatusOr<Address> parseIpv4(absl::string_view host, uint16_t port) {
  std::array<uint8_t, 4> ip = {};
  if (!parseIp(AF_INET, host, ip)) {
    return wrong(absl::StrCat(quoted(host),
                              " is not an IPv4 address, which is four numbers from 0 to 255 without leading zeros "
                              "(host names are for a resolver)"));
  }
  return Address::ipv4(ip, port);
}

absl::StatusOr<Address> parseIpv6(absl::string_view host, uint16_t port) {
  const std::size_t percent = host.find('%');
  const absl::string_view bare = host.substr(0, percent);
  std::array<uint8_t, 16> ip = {};
  if (!parseIp(AF_INET6, bare, ip)) {
    return wrong(absl::StrCat(quoted(bare), " is not an IPv6 address"));
  }
  if (percent == absl::string_view::npos) {
    return Address::ipv6(ip, port);
  }
  const absl::StatusOr<uint32_t> zone = parseZone(host.substr(percent + 1));
  if (!zone.ok()) {
    return zone.status();
  }
  Address address = Address::ipv6(ip, port, *zone);
  if (address.zone() == 0) {
    return wrong(absl::StrCat("a zone is for link-local addresses, and ", bare, " is none"));
  }
  return address;
}

struct HostAndPort {
  absl::string_view host;
  absl::string_view port;
  bool brackets = false;
};

absl::StatusOr<HostAndPort> splitBrackets(absl::string_view text) {
  const std::size_t close = text.rfind(']');
  if (close == absl::string_view::npos) {
    return wrong("\"[\" without \"]\"");
  }
  absl::string_view port = text.substr(close + 1);
  if (port.empty()) {
    return wrong("no port");
  }
  if (!absl::ConsumePrefix(&port, ":")) {
    return wrong("after \"]\" comes \":\" and the port");
  }
  return HostAndPort{.host = text.substr(1, close - 1), .port = port, .brackets = true};
}

absl::StatusOr<HostAndPort> splitHostAndPort(absl::string_view text) {
  if (absl::StartsWith(text, "[")) {
    return splitBrackets(text);
  }
  const std::size_t colon = text.find(':');
  if (colon == absl::string_view::npos) {
    return wrong("no port");
  }
  if (absl::StrContains(text.substr(colon + 1), ':')) {
    return wrong("an IPv6 address is in brackets");
  }
  return HostAndPort{.host = text.substr(0, colon), .port = text.substr(colon + 1)};
}

absl::StatusOr<Address> parseIpAndPort(absl::string_view text) {
  const absl::StatusOr<HostAndPort> parts = splitHostAndPort(text);
  if (!parts.ok()) {
    return parts.status();
  }
  if (parts->port.empty()) {
    return wrong("the port is empty");
  }
  const std::optional<uint16_t> port = parsePort(parts->port);
  if (!port.has_value()) {
    return wrong(absl::StrCat("port ", quoted(parts->port), " is not a number from 0 to 65535 without leading zeros"));
  }
  return parts->brackets ? parseIpv6(parts->host, *port) : parseIpv4(parts->host, *port);
}

// Blanks and control characters are mistakes in all forms; texts without them stand in a list or a log as they are.
absl::Status checkCharacters(absl::string_view text) {
  const auto bad = std::find_if(text.begin(), text.end(), [](char c) { return c == ' ' || absl::ascii_iscntrl(c); });
  if (bad == text.end()) {
    return absl::OkStatus();
  }
  return wrong(absl::StrCat("a blank or control character at byte ", bad - text.begin(),
                            "; in the name of a Unix socket it is written as \\x20"));
}

absl::Status checkPath(absl::string_view path) {
  if (path.empty()) {
    return wrong("the path is empty");
  }
  if (path.size() > kMaxName) {
    return wrong(absl::StrCat("the path has ", path.size(), " bytes, and may have ", kMaxName));
  }
  if (absl::StrContains(path, '\0')) {
    return wrong("a NUL in the path");
  }
  return absl::OkStatus();
}

absl::Status checkAbstract(absl::string_view name) {
  if (name.size() >= kMaxName) {
    return wrong(absl::StrCat("the abstract name has ", name.size(), " bytes, and may have ", kMaxName - 1));
  }
  return absl::OkStatus();
}

void appendEscaped(absl::string_view raw, std::string& text) {
  for (const char c : raw) {
    if (c == '\\') {
      text += "\\\\";
    } else if (absl::ascii_isgraph(c)) {
      text += c;
    } else {
      absl::StrAppend(&text, "\\x", absl::Hex(static_cast<uint8_t>(c), absl::kZeroPad2));
    }
  }
}

// The byte of an escape, which `text` begins with and loses.
std::optional<char> consumeEscape(absl::string_view& text) {
  if (absl::ConsumePrefix(&text, "\\\\")) {
    return '\\';
  }
  const bool is_byte = absl::StartsWith(text, "\\x") && text.size() >= 4 && absl::ascii_isxdigit(text[2]) &&
                       absl::ascii_isxdigit(text[3]);
  if (!is_byte) {
    return std::nullopt;
  }
  const std::string byte = absl::HexStringToBytes(text.substr(2, 2));
  text.remove_prefix(4);
  return byte[0];
}

absl::StatusOr<std::string> unescape(absl::string_view text) {
  std::string raw;
  while (!text.empty()) {
    if (text.front() != '\\') {
      raw += text.front();
      text.remove_prefix(1);
    } else if (const std::optional<char> byte = consumeEscape(text); byte.has_value()) {
      raw += *byte;
    } else {
      return wrong("after a backslash comes a backslash, or \"x\" and two hexadecimal digits");
    }
  }
  return raw;
}

absl::StatusOr<Address> parseUnix(absl::string_view name) {
  const bool abstract = absl::ConsumePrefix(&name, "@");
  const absl::StatusOr<std::string> raw = unescape(name);
  if (!raw.ok()) {
    return raw.status();
  }
  if (absl::Status status = abstract ? checkAbstract(*raw) : checkPath(*raw); !status.ok()) {
    return status;
  }
  return abstract ? Address::unixAbstract(*raw) : Address::unixPath(*raw);
}

absl::StatusOr<Address> parseAny(absl::string_view text) {
  if (absl::Status status = checkCharacters(text); !status.ok()) {
    return status;
  }
  return absl::ConsumePrefix(&text, kUnixPrefix) ? parseUnix(text) : parseIpAndPort(text);
}

// The name of the interface, or its number where there is none to be had, or it is one that could not be parsed.
std::string zoneText(uint32_t zone) {
  std::array<char, IF_NAMESIZE> buffer = {};
  const char* const found = ::if_indextoname(zone, buffer.data());
  const absl::string_view name = found != nullptr ? found : "";
  const bool plain = std::all_of(name.begin(), name.end(),
                                 [](char c) { return absl::ascii_isalnum(c) || absl::StrContains("-_.@", c); });
  const bool is_number = std::all_of(name.begin(), name.end(), absl::ascii_isdigit);  // also the empty one
  return plain && !is_number ? std::string(name) : absl::StrCat(zone);
}

// What stands behind "unix:".
std::string nameText(absl::string_view name) {
  std::string text;
  if (absl::ConsumePrefix(&name, kNul)) {
    text = "@";
  } else if (absl::ConsumePrefix(&name, "@")) {
    text = "\\x40";
  }
  appendEscaped(name, text);
  return text;
}

}  // namespace

absl::StatusOr<Address> Address::parse(absl::string_view text) {
  absl::StatusOr<Address> address = parseAny(text);
  if (!address.ok()) {
    return badAddress(text, address.status(), kForms);
  }
  return address;
}

absl::StatusOr<Address> Address::ip(absl::string_view host_literal, uint16_t port) {
  absl::StatusOr<Address> address =
      absl::StrContains(host_literal, ':') ? parseIpv6(host_literal, port) : parseIpv4(host_literal, port);
  if (!address.ok()) {
    return badAddress(host_literal, address.status(), "; an address is \"192.0.2.1\" or \"2001:db8::1\"");
  }
  return address;
}

absl::StatusOr<Address> Address::unixPath(absl::string_view path) {
  if (const absl::Status status = checkPath(path); !status.ok()) {
    return badAddress(path, status, "; right is \"/path\"");
  }
  return ofName(std::string(path));
}

absl::StatusOr<Address> Address::unixAbstract(absl::string_view name) {
  if (const absl::Status status = checkAbstract(name); !status.ok()) {
    return badAddress(name, status, "");
  }
  return ofName(absl::StrCat(kNul, name));
}

std::string Address::toString() const {
  if (isUnix()) {
    return absl::StrCat(kUnixPrefix, host());
  }
  return family_ == Family::IPv4 ? absl::StrCat(host(), ":", port_) : absl::StrCat("[", host(), "]:", port_);
}

std::string Address::host() const {
  if (isUnix()) {
    return nameText(name());
  }
  std::array<char, INET6_ADDRSTRLEN> text = {};
  const char* const done =
      ::inet_ntop(family_ == Family::IPv4 ? AF_INET : AF_INET6, ip_.data(), text.data(), text.size());
  NUNCIO_RELEASE_ASSERT(done != nullptr, "no room for an IP address as text");
  return zone_ == 0 ? std::string(text.data()) : absl::StrCat(text.data(), "%", zoneText(zone_));
}

std::ostream& operator<<(std::ostream& out, const Address& address) { return out << address.toString(); }

}  // namespace nuncio::network
