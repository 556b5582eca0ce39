#include "nuncio/network/address.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <netinet/in.h>
#include <optional>
#include <sys/un.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace nuncio::network {

namespace {

using Ip4 = std::array<uint8_t, 4>;
using Ip6 = std::array<uint8_t, 16>;

constexpr std::size_t kMaxName = sizeof(sockaddr_un::sun_path);
constexpr std::size_t kNameOffset = offsetof(sockaddr_un, sun_path);
constexpr std::size_t kMappedBytes = 12;
constexpr std::array<uint8_t, kMappedBytes> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

constexpr absl::string_view kNul("\0", 1);

// Those for which Linux wants to know the interface: link-local ones, and multicast within an interface or a link.
bool hasZone(const Ip6& ip) {
  const bool link_local = ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
  const bool local_multicast = ip[0] == 0xff && ((ip[1] & 0x0f) == 1 || (ip[1] & 0x0f) == 2);
  return link_local || local_multicast;
}

// The structure of the family, where as many bytes are there.
template <class T>
std::optional<T> readAs(const sockaddr* address, socklen_t length) {
  if (length < sizeof(T)) {
    return std::nullopt;
  }
  T native;
  std::memcpy(&native, address, sizeof(native));  // which may be an object of another type, sockaddr_storage
  return native;
}

template <class Bytes, class T>
Bytes bytesOf(const T& address) {
  Bytes bytes = {};
  static_assert(sizeof(bytes) == sizeof(address));
  std::memcpy(bytes.data(), &address, sizeof(bytes));
  return bytes;
}

// As in sun_path: a path without the NUL behind it, an abstract name, of which every byte counts, or nothing.
absl::string_view nativeName(const sockaddr* address, socklen_t length) {
  const absl::string_view name = absl::string_view(reinterpret_cast<const char*>(address), length).substr(kNameOffset);
  return absl::StartsWith(name, kNul) ? name : name.substr(0, name.find('\0'));
}

template <class T>
Address::Native toNative(const T& address, std::size_t length = sizeof(T)) {
  Address::Native native;
  std::memcpy(&native.storage, &address, sizeof(address));
  native.length = static_cast<socklen_t>(length);
  return native;
}

}  // namespace

Address::Address(Family family, absl::Span<const uint8_t> ip, uint16_t port) : port_(port), family_(family) {
  std::copy(ip.begin(), ip.end(), ip_.begin());
}

Address Address::ipv4(const std::array<uint8_t, 4>& bytes, uint16_t port) { return {Family::IPv4, bytes, port}; }

Address Address::ipv6(const std::array<uint8_t, 16>& bytes, uint16_t port, uint32_t zone) {
  if (std::equal(kMapped.begin(), kMapped.end(), bytes.begin())) {
    return {Family::IPv4, absl::MakeConstSpan(bytes).subspan(kMappedBytes), port};
  }
  Address address(Family::IPv6, bytes, port);
  address.zone_ = hasZone(bytes) ? zone : 0;
  return address;
}

Address Address::loopbackV6(uint16_t port) { return ipv6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, port); }

Address Address::ofName(std::string name) {
  Address address;
  address.name_ = std::make_shared<const std::string>(std::move(name));
  return address;
}

absl::StatusOr<Address> Address::fromNative(const sockaddr* address, socklen_t length) {
  const std::optional<sa_family_t> family = address != nullptr ? readAs<sa_family_t>(address, length) : std::nullopt;
  if (!family.has_value()) {
    return absl::InvalidArgumentError("a native address without a family");
  }
  if (*family == AF_INET) {
    if (const std::optional<sockaddr_in> in = readAs<sockaddr_in>(address, length); in.has_value()) {
      return ipv4(bytesOf<Ip4>(in->sin_addr), ntohs(in->sin_port));
    }
  } else if (*family == AF_INET6) {
    if (const std::optional<sockaddr_in6> in = readAs<sockaddr_in6>(address, length); in.has_value()) {
      return ipv6(bytesOf<Ip6>(in->sin6_addr), ntohs(in->sin6_port), in->sin6_scope_id);
    }
  } else if (*family == AF_UNIX) {
    const absl::string_view name = nativeName(address, length);
    if (name.empty()) {
      return Address();
    }
    if (name.size() <= kMaxName) {
      return ofName(std::string(name));
    }
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("a native address of family ", *family, ", which is not IP or Unix"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a native address of family ", *family, " does not have ", length, " bytes"));
}

Address::Native Address::native() const {
  if (family_ == Family::IPv4) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(port_);
    std::memcpy(&in.sin_addr, ip_.data(), sizeof(in.sin_addr));
    return toNative(in);
  }
  if (family_ == Family::IPv6) {
    sockaddr_in6 in = {};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port_);
    in.sin6_scope_id = zone_;
    std::memcpy(&in.sin6_addr, ip_.data(), sizeof(in.sin6_addr));
    return toNative(in);
  }
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  const absl::string_view name = this->name();
  std::copy(name.begin(), name.end(), un.sun_path);
  // A path is followed by a NUL where there is room for it, so that programs which read it as a C string can.
  const bool terminated = !path().empty() && path().size() < kMaxName;
  return toNative(un, kNameOffset + name.size() + (terminated ? 1 : 0));
}

Address Address::withPort(uint16_t port) const {
  Address address = *this;
  address.port_ = isUnix() ? 0 : port;
  return address;
}

bool Address::isLoopback() const {
  return (family_ == Family::IPv4 && ip_[0] == 127) || (family_ == Family::IPv6 && ip_ == loopbackV6(0).ip_);
}

bool Address::isAny() const { return !isUnix() && ip_ == Ip6{}; }

absl::Span<const uint8_t> Address::ipBytes() const {
  return absl::MakeConstSpan(ip_).first(isUnix() ? 0 : family_ == Family::IPv4 ? sizeof(Ip4) : sizeof(Ip6));
}

absl::string_view Address::name() const { return name_ != nullptr ? absl::string_view(*name_) : absl::string_view(); }

absl::string_view Address::path() const { return isAbstract() ? absl::string_view() : name(); }

bool Address::isAbstract() const { return absl::StartsWith(name(), kNul); }

bool operator==(const Address& a, const Address& b) {
  return a.family_ == b.family_ && a.port_ == b.port_ && a.zone_ == b.zone_ && a.ip_ == b.ip_ && a.name() == b.name();
}

}  // namespace nuncio::network
