// The PROXY protocol: what is taken for a header, in one piece and byte by byte, and what is written.

#include "nuncio/network/proxy_protocol.h"

#include <array>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace nuncio::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr ProxyVersions kBoth = ProxyVersions::V1AndV2;

Address address(absl::string_view text) {
  const absl::StatusOr<Address> address = Address::parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(Address());
}

// As if the bytes came one by one; `at_once` is then the result for all of them.
absl::StatusOr<ProxyParse> parseByteByByte(absl::string_view bytes, std::size_t max_v2_bytes) {
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    absl::StatusOr<ProxyParse> parse = parseProxyHeader(bytes.substr(0, size), kBoth, max_v2_bytes);
    if (!parse.ok() || parse->done()) {
      return parse;
    }
  }
  return parseProxyHeader(bytes, kBoth, max_v2_bytes);
}

// Parses in one piece, after a look that byte by byte it is the same.
absl::StatusOr<ProxyParse> parse(absl::string_view bytes, std::size_t max_v2_bytes = kDefaultMaxProxyV2Bytes) {
  absl::StatusOr<ProxyParse> at_once = parseProxyHeader(bytes, kBoth, max_v2_bytes);
  const absl::StatusOr<ProxyParse> in_pieces = parseByteByByte(bytes, max_v2_bytes);
  EXPECT_EQ(at_once.ok(), in_pieces.ok()) << at_once.status() << " and " << in_pieces.status();
  if (at_once.ok() && in_pieces.ok()) {
    EXPECT_EQ(at_once->consumed, in_pieces->consumed);
    EXPECT_EQ(at_once->header, in_pieces->header);
  }
  return at_once;
}

// Of what is a header as a whole.
ProxyHeader headerOf(absl::string_view bytes) {
  const absl::StatusOr<ProxyParse> result = parse(bytes);
  EXPECT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result.ok() ? result->consumed : 0, bytes.size());
  return result.ok() ? result->header : ProxyHeader();
}

void expectNeedsMore(absl::string_view bytes, ProxyVersions allowed = kBoth) {
  const absl::StatusOr<ProxyParse> result = parseProxyHeader(bytes, allowed);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->done());
  EXPECT_EQ(result->header, ProxyHeader());
}

void expectRefused(absl::string_view bytes, absl::string_view reason, std::size_t max_v2_bytes = 4096) {
  const absl::StatusOr<ProxyParse> result = parse(bytes, max_v2_bytes);
  ASSERT_FALSE(result.ok()) << "accepted: " << bytes;
  EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr(std::string(reason)));
}

// The last byte is the one that makes it wrong: all before it could still become a header.
void expectRefusedAtTheLastByte(absl::string_view bytes, absl::string_view reason) {
  expectNeedsMore(bytes.substr(0, bytes.size() - 1));
  expectRefused(bytes, reason);
}

std::string encoded(const ProxyHeader& header) {
  absl::StatusOr<std::string> bytes = encodeProxyHeader(header);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.ok() ? *std::move(bytes) : std::string();
}

void expectNotEncoded(const ProxyHeader& header, absl::string_view reason) {
  const absl::StatusOr<std::string> bytes = encodeProxyHeader(header);
  EXPECT_EQ(bytes.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bytes.status().message()), HasSubstr(std::string(reason)));
}

ProxyHeader between(ProxyVersion version, absl::string_view source, absl::string_view destination) {
  ProxyHeader header;
  header.version = version;
  header.source = address(source);
  header.destination = address(destination);
  return header;
}

TEST(ProxyV1Test, TcpOverIPv4) {
  const ProxyHeader header = headerOf("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
  EXPECT_EQ(header, between(ProxyVersion::V1, "192.0.2.1:56324", "192.0.2.2:443"));
  EXPECT_TRUE(header.hasAddresses());
  headerOf("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n");
  headerOf("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n");
}

TEST(ProxyV1Test, TcpOverIPv6) {
  EXPECT_EQ(headerOf("PROXY TCP6 2001:db8::1 2001:DB8::2 56324 443\r\n"),
            between(ProxyVersion::V1, "[2001:db8::1]:56324", "[2001:db8::2]:443"));
  const std::string longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  headerOf(absl::StrCat("PROXY TCP6 ", longest, " ", longest, " 65535 65535\r\n"));
}

TEST(ProxyV1Test, IPv4MappedToIPv6IsIPv4) {
  EXPECT_EQ(headerOf("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n"),
            between(ProxyVersion::V1, "192.0.2.1:1", "192.0.2.2:2"));
  EXPECT_EQ(headerOf("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), between(ProxyVersion::V1, "192.0.2.1:1", "[::1]:2"));
}

TEST(ProxyV1Test, UnknownHasNoAddressesWhateverFollows) {
  for (const char* line : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN \r\n", "PROXY UNKNOWN 192.0.2.1 192.0.2.2 56324 443\r\n",
                           "PROXY UNKNOWN anything \r or \n \x80\r\n"}) {
    const ProxyHeader header = headerOf(line);
    EXPECT_FALSE(header.hasAddresses());
    EXPECT_FALSE(header.local);
  }
}

TEST(ProxyV1Test, WhatIsBehindTheLineIsTheClients) {
  const absl::string_view line = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
  const absl::StatusOr<ProxyParse> result = parse(absl::StrCat(line, "GET / HTTP/1.1\r\n\r\n"));
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->consumed, line.size());
}

TEST(ProxyV1Test, EachPartOfALineNeedsMore) {
  const std::string line = "PROXY TCP6 2001:db8::1 ::2 56324 443\r\n";
  for (std::size_t size = 0; size < line.size(); ++size) {
    expectNeedsMore(line.substr(0, size));
    expectNeedsMore(line.substr(0, size), ProxyVersions::V1);
  }
}

TEST(ProxyV1Test, AnotherBeginningIsRefusedAtOnce) {
  expectRefusedAtTheLastByte("p", "the connection begins with \"p\", not with version 1 or 2");
  expectRefused("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "begins with \"proxy TCP4 192.0\"");
  expectRefusedAtTheLastByte("G", "begins with \"G\"");
  expectRefusedAtTheLastByte("\x16", "begins with \"\\x16\"");  // TLS
  expectRefusedAtTheLastByte(" ", "begins with \" \"");
  expectRefusedAtTheLastByte("PROXX", "begins with \"PROXX\"");
  expectRefusedAtTheLastByte("PROXY\t", "begins with");
}

TEST(ProxyV1Test, ProtocolsThatAreNoneAreRefusedAtOnce) {
  expectRefusedAtTheLastByte("PROXY TCP5", "the protocol is \"TCP5\", not TCP4, TCP6 or UNKNOWN");
  expectRefusedAtTheLastByte("PROXY t", "the protocol is \"t\"");
  expectRefusedAtTheLastByte("PROXY  ", "the protocol is \"\"");
  expectRefusedAtTheLastByte("PROXY TCP ", "the protocol is \"TCP\"");
  expectRefusedAtTheLastByte("PROXY UNKNOWNX", "the protocol is \"UNKNOWNX\"");
  expectRefusedAtTheLastByte("PROXY \r", "the protocol is \"\"");
  expectRefused("PROXY\r\n", "begins with");
}

TEST(ProxyV1Test, AddressesThatAreNoneAreRefusedAtTheirEnd) {
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.01 ", "the source address is \"192.0.2.01\", not an IPv4 address");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.256 ", "the source address is \"192.0.2.256\"");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2 ", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP4  ", "the source address is \"\"");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1 192.0.2. ", "the destination address is \"192.0.2.\"");
  expectRefusedAtTheLastByte("PROXY TCP6 2001:db8 ", "the source address is \"2001:db8\", not an IPv6 address");
  expectRefusedAtTheLastByte("PROXY TCP6 192.0.2.1 ", "the source address is \"192.0.2.1\", not an IPv6 address");
}

TEST(ProxyV1Test, CharactersOfNoAddressAreRefusedAtOnce) {
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1:", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP4 a", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1\t", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP6 fe80::1%", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP6 [", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP6 g", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP4 111.111.111.1111", "the source address");
  expectRefusedAtTheLastByte("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555", "the source address");
}

TEST(ProxyV1Test, PortsThatAreNoneAreRefusedAtOnce) {
  const std::string addresses = "PROXY TCP4 192.0.2.1 192.0.2.2 ";
  expectRefusedAtTheLastByte(addresses + "65536", "the source port is \"65536\", not a port");
  expectRefusedAtTheLastByte(addresses + "01", "the source port is \"01\"");
  expectRefusedAtTheLastByte(addresses + "-", "the source port is \"-\"");
  expectRefusedAtTheLastByte(addresses + "+", "the source port is \"+\"");
  expectRefusedAtTheLastByte(addresses + " ", "the source port is \"\"");
  expectRefusedAtTheLastByte(addresses + "1 65536", "the destination port is \"65536\"");
  expectRefusedAtTheLastByte(addresses + "1 00", "the destination port is \"00\"");
  expectRefusedAtTheLastByte(addresses + "1 \r", "the destination port is \"\"");
}

TEST(ProxyV1Test, MissingAndSurplusFieldsAreRefused) {
  expectRefusedAtTheLastByte("PROXY TCP4\r", "the source address is \"\"");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1\r", "an address or a port is missing");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1 192.0.2.2 1\r", "an address or a port is missing");
  expectRefusedAtTheLastByte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ", "more in the line");
}

TEST(ProxyV1Test, OnlyCrLfEndsTheLine) {
  const std::string line = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2";
  expectRefusedAtTheLastByte(line + "\n", "the destination port is \"2\\n\"");
  expectRefusedAtTheLastByte(line + "\rx", "the destination port is \"2\\rx\"");
  expectRefusedAtTheLastByte(line + "\r\r", "the destination port is \"2\\r\"");
  expectNeedsMore(line + "\r");
}

TEST(ProxyV1Test, ALineOf107BytesIsTakenAndALongerOneRefused) {
  const std::string start = "PROXY UNKNOWN ";
  headerOf(start + std::string(kMaxProxyV1Bytes - 2 - start.size(), 'x') + "\r\n");
  expectNeedsMore(start + std::string(kMaxProxyV1Bytes - 1 - start.size(), 'x'));
  expectRefusedAtTheLastByte(start + std::string(kMaxProxyV1Bytes - start.size(), 'x'), "within 107 bytes");
  expectRefused(start + std::string(kMaxProxyV1Bytes + 1 - start.size(), 'x'), "within 107 bytes");
  expectRefused(start + std::string(kMaxProxyV1Bytes - 1 - start.size(), 'x') + "\r\n", "within 107 bytes");
}

// Version 2, in bytes.
constexpr absl::string_view kStart("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr absl::string_view kAddresses4("\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb", 12);

std::string number16(std::size_t number) { return {static_cast<char>(number >> 8), static_cast<char>(number)}; }

std::string v2(int command, int family, absl::string_view rest) {
  return absl::StrCat(kStart, std::string(1, static_cast<char>(command)), std::string(1, static_cast<char>(family)),
                      number16(rest.size()), rest);
}

std::string tlv(uint8_t type, absl::string_view value) {
  return absl::StrCat(std::string(1, static_cast<char>(type)), number16(value.size()), value);
}

std::string padded(absl::string_view name) {
  std::string field(name);
  field.resize(108);
  return field;
}

TEST(ProxyV2Test, TcpOverIPv4) {
  EXPECT_EQ(headerOf(v2(0x21, 0x11, kAddresses4)), between(ProxyVersion::V2, "192.0.2.1:56324", "192.0.2.2:443"));
}

TEST(ProxyV2Test, TcpOverIPv6) {
  const std::string one = "\x20\x01\x0d\xb8" + std::string(11, '\0') + "\x01";
  const std::string two = "\x20\x01\x0d\xb8" + std::string(11, '\0') + "\x02";
  EXPECT_EQ(headerOf(v2(0x21, 0x21, one + two + number16(56324) + number16(443))),
            between(ProxyVersion::V2, "[2001:db8::1]:56324", "[2001:db8::2]:443"));
}

TEST(ProxyV2Test, UnixStreams) {
  EXPECT_EQ(headerOf(v2(0x21, 0x31, padded("/run/a") + padded(absl::string_view("\0a\0b", 4)))),
            between(ProxyVersion::V2, "unix:/run/a", R"(unix:@a\x00b)"));
  EXPECT_EQ(headerOf(v2(0x21, 0x31, padded("") + std::string(108, 'x'))).destination.path(), std::string(108, 'x'));
  EXPECT_EQ(headerOf(v2(0x21, 0x31, padded(absl::string_view("/a\0junk", 7)) + padded("/b"))).source.path(), "/a");
  EXPECT_FALSE(headerOf(v2(0x21, 0x31, padded("") + padded(""))).hasAddresses());
}

TEST(ProxyV2Test, LocalIsWithoutTheAddressesThatComeWithIt) {
  for (const std::string& bytes : {v2(0x20, 0x00, ""), v2(0x20, 0x11, kAddresses4), v2(0x20, 0x11, "short"),
                                   v2(0x20, 0xff, "of no family"), v2(0x20, 0x00, "\x01\xff")}) {
    const ProxyHeader header = headerOf(bytes);
    EXPECT_TRUE(header.local);
    EXPECT_FALSE(header.hasAddresses());
    EXPECT_EQ(header.source, Address());
    EXPECT_THAT(header.tlvs, IsEmpty());
  }
}

TEST(ProxyV2Test, UnspecifiedAddressesAndDatagramsAreSkipped) {
  for (const std::string& bytes :
       {v2(0x21, 0x00, ""), v2(0x21, 0x00, "anything"), v2(0x21, 0x12, kAddresses4),
        v2(0x21, 0x22, std::string(36, 'x')), v2(0x21, 0x32, std::string(216, 'x') + "\xff")}) {
    const ProxyHeader header = headerOf(bytes);
    EXPECT_FALSE(header.local);
    EXPECT_FALSE(header.hasAddresses());
    EXPECT_EQ(header.source, Address());
  }
}

TEST(ProxyV2Test, WhatIsBehindTheHeaderIsTheClients) {
  const std::string header = v2(0x21, 0x11, absl::StrCat(kAddresses4, tlv(0x02, "example.com")));
  const absl::StatusOr<ProxyParse> result = parse(header + "GET / HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->consumed, header.size());
  EXPECT_EQ(result->header.tlvs.size(), 1U);
}

TEST(ProxyV2Test, EachPartOfAHeaderNeedsMore) {
  const std::string header = v2(0x21, 0x11, absl::StrCat(kAddresses4, tlv(0x02, "example.com")));
  for (std::size_t size = 0; size < header.size(); ++size) {
    expectNeedsMore(header.substr(0, size));
    expectNeedsMore(header.substr(0, size), ProxyVersions::V2);
  }
}

TEST(ProxyV2Test, AnotherBeginningIsRefusedAtOnce) {
  expectRefusedAtTheLastByte("\r\n\r\nX", "the connection begins with");
  expectRefusedAtTheLastByte(absl::StrCat(kStart.substr(0, 11), "\r"), "the connection begins with");
}

TEST(ProxyV2Test, VersionsAndCommandsThatAreNoneAreRefusedAtOnce) {
  for (const int command : {0x22, 0x2f, 0x10, 0x11, 0x01, 0x31}) {
    expectRefusedAtTheLastByte(absl::StrCat(kStart, std::string(1, static_cast<char>(command))),
                               "version and command are 0x");
  }
}

TEST(ProxyV2Test, FamiliesAndTransportsThatAreNoneAreRefusedAtOnce) {
  for (const int family : {0x01, 0x02, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xff}) {
    expectRefusedAtTheLastByte(absl::StrCat(kStart, "\x21", std::string(1, static_cast<char>(family))),
                               "family and transport are 0x");
  }
}

TEST(ProxyV2Test, AddressesThatAreCutOffAreRefusedWithTheLength) {
  for (const auto& [family, bytes] : {std::pair(0x11, 12), std::pair(0x12, 12), std::pair(0x21, 36),
                                      std::pair(0x22, 36), std::pair(0x31, 216), std::pair(0x32, 216)}) {
    const std::string rest(static_cast<std::size_t>(bytes) - 1, 'x');
    expectRefusedAtTheLastByte(v2(0x21, family, rest).substr(0, 16),
                               absl::StrCat("it has ", bytes - 1, " bytes for addresses of ", bytes));
  }
}

TEST(ProxyV2Test, AHeaderBeyondTheBoundIsRefusedWithTheLength) {
  const std::string at_bound = v2(0x21, 0x00, std::string(100 - 16, 'x'));
  EXPECT_EQ(parse(at_bound, 100)->consumed, 100U);
  const std::string beyond = v2(0x21, 0x00, std::string(101 - 16, 'x'));
  expectRefused(beyond.substr(0, 16), "it has 101 bytes, and may have 100", 100);
  expectRefused(v2(0x20, 0x00, std::string(101 - 16, 'x')), "it has 101 bytes", 100);  // LOCAL too
  expectRefusedAtTheLastByte(absl::StrCat(kStart, "\x21\x11\xff\xff"), "it has 65551 bytes, and may have 4096");
  EXPECT_TRUE(parse(v2(0x21, 0x00, std::string(65535, 'x')).substr(0, 16), 65551).ok());
}

TEST(ProxyV2Test, TlvsAreKeptInTheirOrderAndPaddingIsNot) {
  const std::string tlvs = tlv(0x02, "example.com") + tlv(0x04, "padding") + tlv(0xe0, "") + tlv(0x04, "") +
                           tlv(0x77, absl::string_view("\0\xff", 2)) + tlv(0x02, "again");
  EXPECT_THAT(headerOf(v2(0x21, 0x11, absl::StrCat(kAddresses4, tlvs))).tlvs,
              ElementsAre(ProxyTlv{0x02, "example.com"}, ProxyTlv{0xe0, ""}, ProxyTlv{0x77, std::string("\0\xff", 2)},
                          ProxyTlv{0x02, "again"}));
}

TEST(ProxyV2Test, TlvsThatAreCutOffAreRefused) {
  const std::string whole = tlv(0x02, "example.com");
  for (std::size_t size = 1; size < whole.size(); ++size) {
    expectRefusedAtTheLastByte(v2(0x21, 0x11, absl::StrCat(kAddresses4, whole.substr(0, size))),
                               size < 3 ? "cut off in its type" : absl::StrCat("a TLV of 11 bytes, where ", size - 3));
  }
}

TEST(ProxyV2Test, AChecksumIsVerified) {
  ProxyHeader header = between(ProxyVersion::V2, "192.0.2.1:56324", "192.0.2.2:443");
  header.checksum = true;
  header.tlvs = {{ProxyTlv::kAuthority, "example.com"}};
  const std::string good = encoded(header);
  EXPECT_EQ(headerOf(good), header);
  const std::size_t its_type = good.size() - 7;  // without which it is no checksum
  for (std::size_t i = 16; i < good.size(); ++i) {
    if (i == its_type) {
      continue;
    }
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(parse(bad).ok() && parse(bad)->done()) << "byte " << i;
  }
  std::string bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 0x80);
  expectRefusedAtTheLastByte(bad, "its checksum is wrong");
}

TEST(ProxyV2Test, AChecksumThatIsNoneIsRefused) {
  expectRefused(v2(0x21, 0x11, absl::StrCat(kAddresses4, tlv(0x03, "abc"))), "a checksum of 3 bytes");
  expectRefused(v2(0x21, 0x11, absl::StrCat(kAddresses4, tlv(0x03, "abcde"))), "a checksum of 5 bytes");
}

TEST(ProxyVersionsTest, OnlyTheVersionsThatAreAllowedAreTaken) {
  const std::string v1 = "PROXY UNKNOWN\r\n";
  const std::string v2_local = v2(0x20, 0x00, "");
  EXPECT_TRUE(parseProxyHeader(v1, ProxyVersions::V1)->done());
  EXPECT_TRUE(parseProxyHeader(v2_local, ProxyVersions::V2)->done());
  EXPECT_TRUE(parseProxyHeader(v1, ProxyVersions::V1AndV2)->done());
  EXPECT_TRUE(parseProxyHeader(v2_local, ProxyVersions::V1AndV2)->done());
  EXPECT_THAT(std::string(parseProxyHeader("P", ProxyVersions::V2).status().message()),
              HasSubstr("not with version 2"));
  EXPECT_THAT(std::string(parseProxyHeader("\r", ProxyVersions::V1).status().message()), HasSubstr("version 1"));
}

TEST(ProxyEncodeTest, Version1) {
  EXPECT_EQ(encoded(between(ProxyVersion::V1, "192.0.2.1:56324", "192.0.2.2:443")),
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n");
  EXPECT_EQ(encoded(between(ProxyVersion::V1, "[2001:db8::1]:56324", "[::1]:443")),
            "PROXY TCP6 2001:db8::1 ::1 56324 443\r\n");
  EXPECT_EQ(encoded(between(ProxyVersion::V1, "192.0.2.1:56324", "[fe80::1%lo]:443")),
            "PROXY TCP6 ::ffff:192.0.2.1 fe80::1 56324 443\r\n");
  EXPECT_EQ(encoded(between(ProxyVersion::V1, "unix:/a", "unix:/b")), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(encoded({.version = ProxyVersion::V1}), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(encoded({.version = ProxyVersion::V1, .local = true}), "PROXY UNKNOWN\r\n");
}

TEST(ProxyEncodeTest, Version2) {
  EXPECT_EQ(encoded(between(ProxyVersion::V2, "192.0.2.1:56324", "192.0.2.2:443")), v2(0x21, 0x11, kAddresses4));
  EXPECT_EQ(encoded(between(ProxyVersion::V2, "unix:/a", "unix:@b")),
            v2(0x21, 0x31, padded("/a") + padded(absl::string_view("\0b", 2))));
  EXPECT_EQ(encoded({}), v2(0x21, 0x00, ""));
  EXPECT_EQ(encoded({.local = true}), v2(0x20, 0x00, ""));
  ProxyHeader local = between(ProxyVersion::V2, "192.0.2.1:56324", "unix:/a");
  local.local = true;
  EXPECT_EQ(encoded(local), v2(0x20, 0x00, ""));
}

TEST(ProxyEncodeTest, FamiliesThatDifferAreIPv6) {
  const ProxyHeader header = between(ProxyVersion::V2, "192.0.2.1:1", "[::1]:2");
  const std::string mapped = std::string(10, '\0') + "\xff\xff\xc0" + std::string(1, '\0') + "\x02\x01";
  EXPECT_EQ(encoded(header), v2(0x21, 0x21, mapped + std::string(15, '\0') + "\x01" + number16(1) + number16(2)));
  EXPECT_EQ(headerOf(encoded(header)), header);
}

TEST(ProxyEncodeTest, TlvsAreSentWithoutAddressesToo) {
  ProxyHeader header;
  header.tlvs = {{ProxyTlv::kUniqueId, "id"}};
  EXPECT_EQ(headerOf(encoded(header)), header);
  header = {};
  header.checksum = true;
  EXPECT_EQ(headerOf(encoded(header)), header);
}

// The expected one was computed by another program, bit by bit.
TEST(ProxyEncodeTest, TheChecksumIsCrc32cOfAllBytesInTheOrderOfTheNetwork) {
  ProxyHeader header = between(ProxyVersion::V2, "127.0.0.1:1", "127.0.0.1:2");
  header.checksum = true;
  const std::string bytes = encoded(header);
  EXPECT_EQ(bytes.substr(bytes.size() - 7), tlv(ProxyTlv::kCrc32c, "\xe9\x16\x6d\x07"));
}

TEST(ProxyEncodeTest, WhatCannotBeSaidIsRefused) {
  expectNotEncoded(between(ProxyVersion::V2, "192.0.2.1:1", "unix:/a"), "from 192.0.2.1:1 to unix:/a");
  ProxyHeader one_end;
  one_end.source = Address::loopback(1);
  expectNotEncoded(one_end, "from 127.0.0.1:1 to unix:");
  expectNotEncoded({.version = ProxyVersion::V1, .tlvs = {{0xe0, ""}}}, "version 1 has no TLVs");
  expectNotEncoded({.version = ProxyVersion::V1, .checksum = true}, "version 1 has no TLVs and no checksum");
  expectNotEncoded({.local = true, .tlvs = {{0xe0, ""}}}, "LOCAL has no TLVs");
  expectNotEncoded({.local = true, .checksum = true}, "LOCAL has no TLVs and no checksum");
  expectNotEncoded({.tlvs = {{ProxyTlv::kNoop, ""}}}, "padding and checksum are not for its TLVs");
  expectNotEncoded({.tlvs = {{ProxyTlv::kCrc32c, "abcd"}}}, "padding and checksum are not for its TLVs");
}

TEST(ProxyEncodeTest, MoreThanTheLengthCanSayIsRefused) {
  ProxyHeader header = between(ProxyVersion::V2, "192.0.2.1:1", "192.0.2.2:2");
  header.tlvs = {{0xe0, std::string(65535 - 12 - 3, 'x')}};
  EXPECT_EQ(encoded(header).size(), 16U + 65535U);
  header.tlvs[0].value += 'x';
  expectNotEncoded(header, "more than 65535 bytes");
  header.tlvs[0].value.resize(65536);
  expectNotEncoded(header, "more than 65535 bytes");
  header.tlvs[0].value.resize(65535 - 12 - 3);
  header.checksum = true;
  expectNotEncoded(header, "more than 65535 bytes");
}

class RandomHeaders {
public:
  explicit RandomHeaders(uint64_t seed) : random_(seed) {}

  ProxyHeader next() {
    ProxyHeader header;
    header.version = below(2) == 0 ? ProxyVersion::V1 : ProxyVersion::V2;
    if (header.version == ProxyVersion::V2 && below(10) == 0) {
      header.local = true;
      return header;
    }
    setAddresses(header);
    if (header.version == ProxyVersion::V2) {
      for (std::size_t left = below(4); left > 0; --left) {
        header.tlvs.push_back({static_cast<uint8_t>(5 + below(251)), bytes(below(300), 0)});
      }
      header.checksum = below(2) == 0;
    }
    return header;
  }

  // Of one that may be wrong.
  std::string changed(std::string header) {
    header[below(header.size())] = static_cast<char>(random_());
    return header;
  }

private:
  void setAddresses(ProxyHeader& header) {
    const uint64_t kind = below(10);
    if (kind < 7) {
      header.source = ip();
      header.destination = ip();
    } else if (kind < 9 && header.version == ProxyVersion::V2) {
      header.source = *Address::unixPath(bytes(1 + below(108), 1));
      header.destination = *Address::unixAbstract(bytes(below(106), 0) + "x");
    }
  }

  Address ip() {
    if (below(2) == 0) {
      return Address::ipv4({byte(), byte(), byte(), byte()}, port());
    }
    std::array<uint8_t, 16> ip = {};
    for (uint8_t& part : ip) {
      part = below(2) == 0 ? 0 : byte();
    }
    return Address::ipv6(ip, port());
  }

  std::string bytes(std::size_t count, uint8_t lowest) {
    std::string bytes;
    while (bytes.size() < count) {
      bytes += static_cast<char>(lowest + below(256U - lowest));
    }
    return bytes;
  }

  uint64_t below(uint64_t end) { return random_() % end; }
  uint8_t byte() { return static_cast<uint8_t>(random_()); }
  uint16_t port() { return static_cast<uint16_t>(random_()); }

  std::mt19937_64 random_;
};

TEST(ProxyRandomTest, WhatIsWrittenIsRead) {
  const char* given = std::getenv("NUNCIO_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  RandomHeaders headers(seed);
  for (int i = 0; i < 500 && !HasFailure(); ++i) {
    const ProxyHeader header = headers.next();
    const std::string bytes = encoded(header);
    EXPECT_EQ(headerOf(bytes), header);
    static_cast<void>(parse(headers.changed(bytes) + "payload"));  // whether byte by byte it is the same
  }
}

}  // namespace
}  // namespace nuncio::network
