// Version 2 of the PROXY protocol, in bytes: 16 that say what follows and how much, addresses, TLVs.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <sys/un.h>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "source/network/crc32c.h"
#include "source/network/proxy_versions.h"

namespace nuncio::network {

namespace {

constexpr std::size_t kCommandAt = 12;
constexpr std::size_t kFamilyAt = 13;
constexpr std::size_t kLengthAt = 14;
constexpr std::size_t kStartBytes = 16;
constexpr std::size_t kTlvStartBytes = 3;
constexpr std::size_t kUnixBytes = sizeof(sockaddr_un::sun_path);
constexpr absl::string_view kNoChecksum("\0\0\0\0", 4);

constexpr uint8_t kLocal = 0x20;
constexpr uint8_t kProxy = 0x21;

// The address family in the upper half, the transport in the lower one.
constexpr uint8_t kUnspecified = 0x00;
constexpr uint8_t kTcp4 = 0x11;
constexpr uint8_t kUdp4 = 0x12;
constexpr uint8_t kTcp6 = 0x21;
constexpr uint8_t kUdp6 = 0x22;
constexpr uint8_t kUnixStream = 0x31;
constexpr uint8_t kUnixDatagram = 0x32;

uint8_t byteAt(absl::string_view bytes, std::size_t index) { return static_cast<uint8_t>(bytes[index]); }

uint16_t read16(absl::string_view bytes) { return static_cast<uint16_t>(byteAt(bytes, 0) << 8 | byteAt(bytes, 1)); }

std::string write16(std::size_t number) { return {static_cast<char>(number >> 8), static_cast<char>(number)}; }

std::string write32(uint32_t number) { return write16(number >> 16) + write16(number & 0xffff); }

// The first `count`, which `bytes` loses.
absl::string_view take(absl::string_view& bytes, std::size_t count) {
  const absl::string_view taken = bytes.substr(0, count);
  bytes.remove_prefix(taken.size());
  return taken;
}

template <std::size_t kBytes>
std::array<uint8_t, kBytes> takeArray(absl::string_view& bytes) {
  std::array<uint8_t, kBytes> array;
  const absl::string_view taken = take(bytes, kBytes);
  std::copy(taken.begin(), taken.end(), array.begin());
  return array;
}

// How many bytes the two ends take; none for a family that the protocol does not have.
std::optional<std::size_t> bytesOfAddresses(uint8_t family) {
  switch (family) {
    case kUnspecified:
      return 0;
    case kTcp4:
    case kUdp4:
      return 2 * (4 + 2);
    case kTcp6:
    case kUdp6:
      return 2 * (16 + 2);
    case kUnixStream:
    case kUnixDatagram:
      return 2 * kUnixBytes;
    default:
      return std::nullopt;
  }
}

// A path ends at its first NUL; an abstract name, which may have some, at the last byte that is none.
Address readUnix(absl::string_view field) {
  if (field.front() != '\0') {
    return Address::unixPath(field.substr(0, field.find('\0'))).value_or(Address());
  }
  const std::size_t last = field.find_last_not_of('\0');
  return last == absl::string_view::npos ? Address() : Address::unixAbstract(field.substr(1, last)).value_or(Address());
}

// The two ends, which `rest` loses. False for those of no connection, of which nothing more is looked at.
bool takeAddresses(uint8_t family, absl::string_view& rest, ProxyHeader& header) {
  switch (family) {
    case kTcp4: {
      const auto source = takeArray<4>(rest);
      const auto destination = takeArray<4>(rest);
      header.source = Address::ipv4(source, read16(take(rest, 2)));
      header.destination = Address::ipv4(destination, read16(take(rest, 2)));
      return true;
    }
    case kTcp6: {
      const auto source = takeArray<16>(rest);
      const auto destination = takeArray<16>(rest);
      header.source = Address::ipv6(source, read16(take(rest, 2)));
      header.destination = Address::ipv6(destination, read16(take(rest, 2)));
      return true;
    }
    case kUnixStream:
      header.source = readUnix(take(rest, kUnixBytes));
      header.destination = readUnix(take(rest, kUnixBytes));
      return true;
    default:
      return false;
  }
}

// `value` is the part of `whole` that holds the checksum, which is of all bytes, with zeros in its own place.
absl::Status checkChecksum(absl::string_view whole, absl::string_view value) {
  if (value.size() != kNoChecksum.size()) {
    return badProxyHeader(absl::StrCat("a checksum of ", value.size(), " bytes"));
  }
  const auto at = static_cast<std::size_t>(value.data() - whole.data());
  uint32_t crc = extendCrc32c(0, whole.substr(0, at));
  crc = extendCrc32c(crc, kNoChecksum);
  crc = extendCrc32c(crc, whole.substr(at + value.size()));
  return write32(crc) == value ? absl::OkStatus() : badProxyHeader("its checksum is wrong");
}

// `tlvs` is what remains of `whole`.
absl::Status readTlvs(absl::string_view whole, absl::string_view tlvs, ProxyHeader& header) {
  while (!tlvs.empty()) {
    if (tlvs.size() < kTlvStartBytes) {
      return badProxyHeader("a TLV is cut off in its type and length");
    }
    const uint8_t type = byteAt(tlvs, 0);
    const std::size_t length = read16(tlvs.substr(1));
    tlvs.remove_prefix(kTlvStartBytes);
    if (length > tlvs.size()) {
      return badProxyHeader(absl::StrCat("a TLV of ", length, " bytes, where ", tlvs.size(), " are left"));
    }
    const absl::string_view value = take(tlvs, length);
    if (type == ProxyTlv::kCrc32c) {
      if (absl::Status status = checkChecksum(whole, value); !status.ok()) {
        return status;
      }
      header.checksum = true;
    } else if (type != ProxyTlv::kNoop) {
      header.tlvs.push_back({.type = type, .value = std::string(value)});
    }
  }
  return absl::OkStatus();
}

// What the first 16 bytes say, as far as they have come.
absl::Status checkStart(absl::string_view bytes) {
  if (bytes.size() <= kCommandAt) {
    return absl::OkStatus();
  }
  const uint8_t command = byteAt(bytes, kCommandAt);
  if (command != kLocal && command != kProxy) {
    return badProxyHeader(absl::StrCat("version and command are 0x", absl::Hex(command, absl::kZeroPad2),
                                       ", not 0x20 (LOCAL) or 0x21 (PROXY)"));
  }
  if (command == kProxy && bytes.size() > kFamilyAt && !bytesOfAddresses(byteAt(bytes, kFamilyAt)).has_value()) {
    return badProxyHeader(absl::StrCat("family and transport are 0x",
                                       absl::Hex(byteAt(bytes, kFamilyAt), absl::kZeroPad2), ", which are none"));
  }
  return absl::OkStatus();
}

absl::Status checkLength(absl::string_view bytes, std::size_t max_bytes) {
  const std::size_t length = read16(bytes.substr(kLengthAt));
  if (kStartBytes + length > max_bytes) {
    return badProxyHeader(absl::StrCat("it has ", kStartBytes + length, " bytes, and may have ", max_bytes));
  }
  const bool local = byteAt(bytes, kCommandAt) == kLocal;
  const std::size_t addresses = local ? 0 : bytesOfAddresses(byteAt(bytes, kFamilyAt)).value_or(0);
  if (length < addresses) {
    return badProxyHeader(absl::StrCat("it has ", length, " bytes for addresses of ", addresses));
  }
  return absl::OkStatus();
}

// Of all of its bytes.
absl::StatusOr<ProxyHeader> readHeader(absl::string_view bytes) {
  ProxyHeader header;
  header.version = ProxyVersion::V2;
  header.local = byteAt(bytes, kCommandAt) == kLocal;
  absl::string_view rest = bytes.substr(kStartBytes);
  if (!header.local && takeAddresses(byteAt(bytes, kFamilyAt), rest, header)) {
    if (absl::Status status = readTlvs(bytes, rest, header); !status.ok()) {
      return status;
    }
  }
  return header;
}

void appendIpv6(const Address& address, std::string& bytes) {
  const absl::Span<const uint8_t> ip = address.ipBytes();
  if (address.family() == Address::Family::IPv4) {
    bytes.append(10, '\0').append(2, '\xff');
  }
  bytes.append(ip.begin(), ip.end());
}

void appendUnix(const Address& address, std::string& bytes) {
  const std::size_t end = bytes.size() + kUnixBytes;
  const Address::Native native = address.native();
  const std::size_t name_bytes = native.length - offsetof(sockaddr_un, sun_path);
  bytes.append(reinterpret_cast<const sockaddr_un*>(&native.storage)->sun_path, name_bytes);
  bytes.resize(end);
}

// Family, and the two ends as bytes.
std::pair<uint8_t, std::string> encodeAddresses(const ProxyHeader& header) {
  const Address& source = header.source;
  const Address& destination = header.destination;
  std::string bytes;
  // Two unnamed ends take the place of none where TLVs follow, which receivers may skip if there is no family.
  const bool nothing_follows = header.tlvs.empty() && !header.checksum;
  if (header.local || (!header.hasAddresses() && nothing_follows)) {
    return {kUnspecified, bytes};
  }
  if (source.isUnix()) {
    appendUnix(source, bytes);
    appendUnix(destination, bytes);
    return {kUnixStream, bytes};
  }
  const bool ipv4 = source.family() == destination.family() && source.family() == Address::Family::IPv4;
  for (const Address* const end : {&source, &destination}) {
    if (ipv4) {
      bytes.append(end->ipBytes().begin(), end->ipBytes().end());
    } else {
      appendIpv6(*end, bytes);
    }
  }
  bytes += write16(source.port()) + write16(destination.port());
  return {ipv4 ? kTcp4 : kTcp6, bytes};
}

std::string tlvStart(uint8_t type, std::size_t length) {
  return absl::StrCat(std::string(1, static_cast<char>(type)), write16(length));
}

absl::Status checkTlvs(const ProxyHeader& header) {
  if (header.local && (!header.tlvs.empty() || header.checksum)) {
    return badProxyHeader("LOCAL has no TLVs and no checksum");
  }
  const bool reserved = std::any_of(header.tlvs.begin(), header.tlvs.end(), [](const ProxyTlv& tlv) {
    return tlv.type == ProxyTlv::kNoop || tlv.type == ProxyTlv::kCrc32c;
  });
  return reserved ? badProxyHeader("padding and checksum are not for its TLVs") : absl::OkStatus();
}

}  // namespace

absl::StatusOr<ProxyParse> parseProxyV2(absl::string_view bytes, std::size_t max_bytes) {
  if (absl::Status status = checkStart(bytes); !status.ok()) {
    return status;
  }
  if (bytes.size() < kStartBytes) {
    return ProxyParse();
  }
  if (absl::Status status = checkLength(bytes, max_bytes); !status.ok()) {
    return status;
  }
  const std::size_t size = kStartBytes + read16(bytes.substr(kLengthAt));
  if (bytes.size() < size) {
    return ProxyParse();
  }
  absl::StatusOr<ProxyHeader> header = readHeader(bytes.substr(0, size));
  if (!header.ok()) {
    return header.status();
  }
  return ProxyParse{.consumed = size, .header = *std::move(header)};
}

absl::StatusOr<std::string> encodeProxyV2(const ProxyHeader& header) {
  if (absl::Status status = checkTlvs(header); !status.ok()) {
    return status;
  }
  auto [family, rest] = encodeAddresses(header);
  for (const ProxyTlv& tlv : header.tlvs) {
    absl::StrAppend(&rest, tlvStart(tlv.type, tlv.value.size()), tlv.value);
    if (rest.size() > UINT16_MAX) {
      break;
    }
  }
  if (header.checksum) {
    absl::StrAppend(&rest, tlvStart(ProxyTlv::kCrc32c, kNoChecksum.size()), kNoChecksum);
  }
  if (rest.size() > UINT16_MAX) {
    return badProxyHeader(absl::StrCat("addresses and TLVs of more than ", UINT16_MAX, " bytes"));
  }
  const std::string start = {static_cast<char>(header.local ? kLocal : kProxy), static_cast<char>(family)};
  std::string bytes = absl::StrCat(kProxyV2Start, start, write16(rest.size()), rest);
  if (header.checksum) {
    const std::string checksum = write32(extendCrc32c(0, bytes));
    bytes.replace(bytes.size() - checksum.size(), checksum.size(), checksum);
  }
  return bytes;
}

}  // namespace nuncio::network
