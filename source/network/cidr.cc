#include "nuncio/network/cidr.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <ostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "source/network/text.h"

namespace nuncio::network {

namespace {

constexpr absl::string_view kAllUnix = "unix:";

absl::Status badRange(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("bad range of addresses ", quoted(text), ": ", what,
                                                 "; a range is \"10.0.0.0/8\", \"2001:db8::/32\" or one address"));
}

int bitsOf(const Address& address) { return static_cast<int>(address.ipBytes().size()) * 8; }

// Of byte `index`, the bits that are among the first `length` of all.
uint8_t maskOf(std::size_t index, int length) {
  const int bits = std::clamp(length - static_cast<int>(index) * 8, 0, 8);
  return static_cast<uint8_t>(0xff00 >> bits);
}

}  // namespace

Cidr::Cidr(const Address& address, int prefix_length)
    : family_(address.family()), prefix_length_(static_cast<uint8_t>(prefix_length)) {
  const absl::Span<const uint8_t> ip = address.ipBytes();
  for (std::size_t i = 0; i < ip.size(); ++i) {
    prefix_[i] = ip[i] & maskOf(i, prefix_length);
  }
}

absl::StatusOr<Cidr> Cidr::parse(absl::string_view text) {
  const std::size_t slash = text.find('/');
  const absl::string_view host = text.substr(0, slash);
  if (absl::StrContains(host, '%')) {
    return badRange(text, "a range has no zone");
  }
  const absl::StatusOr<Address> address = Address::ip(host, 0);
  if (!address.ok()) {
    return badRange(text, absl::StrCat(quoted(host), " is not an IP address"));
  }
  if (slash == absl::string_view::npos) {
    return Cidr(*address, bitsOf(*address));
  }

  const bool ipv6_text = absl::StrContains(host, ':');
  const int most = ipv6_text ? 128 : 32;
  const std::optional<uint32_t> length = parseDecimal(text.substr(slash + 1), static_cast<uint32_t>(most));
  if (!length.has_value()) {
    return badRange(text, absl::StrCat("behind \"/\" comes a number of bits from 0 to ", most));
  }
  const int before = most - bitsOf(*address);  // of a mapped address, which is IPv4 by now
  if (static_cast<int>(*length) < before) {
    return badRange(text, absl::StrCat("of IPv4 mapped to IPv6 at least ", before, " bits are the prefix"));
  }
  const Cidr range(*address, static_cast<int>(*length) - before);
  if (range.prefix_ != Cidr(*address, bitsOf(*address)).prefix_) {
    return badRange(text, absl::StrCat("bits are set beyond its length (", range.toString(), "?)"));
  }
  return range;
}

bool Cidr::contains(const Address& address) const {
  if (address.family() != family_) {
    return false;
  }
  const absl::Span<const uint8_t> ip = address.ipBytes();
  for (std::size_t i = 0; i < ip.size(); ++i) {
    if ((ip[i] & maskOf(i, prefix_length_)) != prefix_[i]) {
      return false;
    }
  }
  return true;
}

std::string Cidr::toString() const {
  std::array<uint8_t, 4> ipv4 = {};
  std::copy_n(prefix_.begin(), ipv4.size(), ipv4.begin());
  const Address address = family_ == Address::Family::IPv4 ? Address::ipv4(ipv4, 0) : Address::ipv6(prefix_, 0);
  return absl::StrCat(address.host(), "/", prefix_length_);
}

std::ostream& operator<<(std::ostream& out, const Cidr& cidr) { return out << cidr.toString(); }

absl::StatusOr<CidrList> CidrList::parse(absl::Span<const std::string> texts) {
  CidrList list;
  for (const std::string& text : texts) {
    if (text == kAllUnix) {
      list.unix_ = true;
      continue;
    }
    const absl::StatusOr<Cidr> range = Cidr::parse(text);
    if (!range.ok()) {
      return range.status();
    }
    list.ranges_.push_back(*range);
  }
  return list;
}

bool CidrList::contains(const Address& address) const {
  if (address.isUnix()) {
    return unix_;
  }
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Cidr& range) { return range.contains(address); });
}

std::string CidrList::toString() const {
  const std::string ranges =
      absl::StrJoin(ranges_, ", ", [](std::string* out, const Cidr& range) { *out += range.toString(); });
  return absl::StrCat(ranges, unix_ && !ranges.empty() ? ", " : "", unix_ ? kAllUnix : "");
}

}  // namespace nuncio::network
