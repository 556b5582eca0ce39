#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace nuncio::network {

// Address: where a socket is, or is to be: an IP address with a port, or the name of a Unix socket.
//
//   absl::StatusOr<Address> address = Address::parse("[::1]:8080");
//   if (!address.ok()) return address.status();  // says what is wrong with the text, and what is right
//   const Address::Native native = address->native();
//   ::bind(fd, native.data(), native.length);
//
// One address has one form: what is IPv4 mapped to IPv6, "::ffff:192.0.2.1", is that IPv4 address, wherever it comes
// from, so that the IPv4 peers of a dual-stack listener are IPv4. Equal are addresses of the same bytes, port and zone,
// or name; two names of one file are not. The flow label of IPv6 is not kept.
//
// Threads: a value: as an int. Cost: 40 bytes; the name of a Unix socket is a shared string that never changes, so that
// a copy allocates nothing. Texts and names need memory: std::bad_alloc.
class Address {
public:
  enum class Family : uint8_t { IPv4, IPv6, Unix };

  // As the system's calls want it.
  struct Native {
    const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage); }

    sockaddr_storage storage = {};
    socklen_t length = 0;  // bytes; exact for names of Unix sockets
  };

  // The unnamed Unix address: what a socket has that was bound to nothing, as the ends of a socketpair(). To bind to it
  // is to have Linux choose a name.
  Address() = default;

  // Takes what toString() prints, and nothing looser:
  //   "192.0.2.1:80"           four numbers without leading zeros
  //   "[2001:db8::1]:80"       IPv6 in brackets
  //   "[fe80::1%eth0]:80"      with a zone: an interface of this machine by its name, or the number of any. Only for
  //                            addresses that mean nothing without one: link-local ones. They may lack it here.
  //   "unix:/run/app/socket"   a path, 1 to 108 bytes
  //   "unix:@name"             an abstract name, 0 to 107 bytes
  // The port is always there. In paths and names \xHH is a byte and \\ a backslash; what is no printing character, and
  // a blank, is written so, and an "@" that begins a path: \x40. The unnamed address has no text that is taken.
  // InvalidArgument for anything else: host names are for a resolver. ResourceExhausted where the system lacks what it
  // takes to look for an interface, which is a socket.
  static absl::StatusOr<Address> parse(absl::string_view text);

  // The same without brackets and port, "192.0.2.1", "2001:db8::1" or "fe80::1%eth0", and the port beside it.
  static absl::StatusOr<Address> ip(absl::string_view host_literal, uint16_t port);
  // Of bytes in the order of the network. The zone is the index of an interface, or 0 for none; it is dropped where the
  // address is not link-local.
  static Address ipv4(const std::array<uint8_t, 4>& bytes, uint16_t port);
  static Address ipv6(const std::array<uint8_t, 16>& bytes, uint16_t port, uint32_t zone = 0);

  static Address loopback(uint16_t port) { return ipv4({127, 0, 0, 1}, port); }
  static Address loopbackV6(uint16_t port);
  static Address any(uint16_t port) { return ipv4({}, port); }       // 0.0.0.0
  static Address anyV6(uint16_t port) { return ipv6({}, port, 0); }  // ::, both families unless SocketOptions::v6_only

  // The path of a socket in the file system, as it is, 1 to 108 bytes without NUL. InvalidArgument otherwise. With 108
  // it has no NUL behind it, which Linux takes, and most programs do not.
  static absl::StatusOr<Address> unixPath(absl::string_view path);
  // A name beside the file system, 0 to 107 bytes of any kind; a NUL at its end is a part of it. InvalidArgument for
  // more.
  static absl::StatusOr<Address> unixAbstract(absl::string_view name);

  // What accept(), getpeername() and the like have written. InvalidArgument for null, other families, and lengths that
  // do not fit.
  static absl::StatusOr<Address> fromNative(const sockaddr* address, socklen_t length);
  Native native() const;

  Family family() const { return family_; }
  bool isUnix() const { return family_ == Family::Unix; }

  // 0 for Unix addresses, of which withPort() returns a copy.
  uint16_t port() const { return port_; }
  Address withPort(uint16_t port) const;

  // 127.0.0.0/8 and ::1; 0.0.0.0 and ::. No Unix address is one.
  bool isLoopback() const;
  bool isAny() const;

  // The bytes of an IP address in the order of the network: 4, 16, or none for a Unix address. Valid while this lives
  // and is not assigned to.
  absl::Span<const uint8_t> ipBytes() const;
  // The index of the interface that a link-local IPv6 address is on; 0: none.
  uint32_t zone() const { return zone_; }

  // The path as it is; empty for what has none. Valid while this, or a copy, lives.
  absl::string_view path() const;
  bool isAbstract() const;
  bool isUnnamed() const { return isUnix() && name_ == nullptr; }

  // "192.0.2.1:80", "[fe80::1%eth0]:80", "unix:/path"; "unix:" for the unnamed address. parse() makes the same address
  // of it, but for that one. No blank nor control character is in it, so that it is one field of a log. IPv6 is printed
  // by RFC 5952, the zone as its number where the interface is gone, or cannot be asked for its name. Cost: a zone
  // takes a few system calls.
  std::string toString() const;
  // The same without port and brackets, or without "unix:".
  std::string host() const;

  friend bool operator==(const Address& a, const Address& b);

  template <class H>
  friend H AbslHashValue(H state, const Address& address) {
    return H::combine(std::move(state), address.family_, address.port_, address.zone_, address.ip_, address.name());
  }

private:
  Address(Family family, absl::Span<const uint8_t> ip, uint16_t port);

  // As in sun_path: a path, or NUL and an abstract name; empty for the unnamed and for IP addresses.
  absl::string_view name() const;
  static Address ofName(std::string name);

  std::shared_ptr<const std::string> name_;  // shared by copies; null: no name
  std::array<uint8_t, 16> ip_ = {};          // the first 4 for IPv4
  uint32_t zone_ = 0;
  uint16_t port_ = 0;
  Family family_ = Family::Unix;
};

static_assert(sizeof(Address) <= 40);

std::ostream& operator<<(std::ostream& out, const Address& address);

}  // namespace nuncio::network
