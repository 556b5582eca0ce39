#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "nuncio/network/address.h"

namespace nuncio::network {

// Cidr: all IP addresses that begin with the same bits, "10.0.0.0/8".
//
//   absl::StatusOr<Cidr> inside = Cidr::parse("10.0.0.0/8");
//   if (inside.ok() && inside->contains(peer)) ...
//
// Ports and zones do not count. A range of one family has no address of the other: "::/0" is all of IPv6, and no IPv4.
// Threads: a value: as an int. Cost: 18 bytes; contains() compares up to 16 bytes.
class Cidr {
public:
  // "10.0.0.0/8", "2001:db8::/32", or one address, "::1", without brackets, port and zone. Bits that are set beyond the
  // length are an error, which names the range that was probably meant: they are a mistake in one of the two numbers. A
  // range of IPv4 mapped to IPv6, "::ffff:10.0.0.0/104", is that range of IPv4. InvalidArgument, with what is wrong.
  static absl::StatusOr<Cidr> parse(absl::string_view text);

  bool contains(const Address& address) const;

  // In bits, up to 32 or 128.
  int prefixLength() const { return prefix_length_; }

  // "10.0.0.0/8", also for one address: "::1/128". parse() makes the same of it.
  std::string toString() const;

  friend bool operator==(const Cidr&, const Cidr&) = default;

private:
  Cidr(const Address& address, int prefix_length);

  std::array<uint8_t, 16> prefix_ = {};  // the first 4 for IPv4
  Address::Family family_;
  uint8_t prefix_length_;
};

std::ostream& operator<<(std::ostream& out, const Cidr& cidr);

// CidrList: peers that are trusted, or let in.
//
//   absl::StatusOr<CidrList> trusted = CidrList::parse({"10.0.0.0/8", "::1", "unix:"});
//   if (!trusted.ok()) return trusted.status();  // names the entry
//   if (!trusted->contains(peer)) ...
//
// Threads: as Cidr. Cost: contains() looks at one entry after the other: meant for tens, not for a table of countries.
class CidrList {
public:
  // Empty: contains nothing.
  CidrList() = default;

  // Texts as Cidr takes them, and "unix:" for all Unix sockets, named or not: who may use those is a matter of the file
  // system's rights.
  static absl::StatusOr<CidrList> parse(absl::Span<const std::string> texts);

  bool contains(const Address& address) const;
  bool empty() const { return ranges_.empty() && !unix_; }

  // Separated by ", ", in their order, "unix:" last.
  std::string toString() const;

  friend bool operator==(const CidrList&, const CidrList&) = default;

private:
  std::vector<Cidr> ranges_;
  bool unix_ = false;
};

}  // namespace nuncio::network
