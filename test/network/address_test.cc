// Addresses: texts, native forms, and what they say of themselves.

#include "nuncio/network/address.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <net/if.h>
#include <netinet/in.h>
#include <random>
#include <sstream>
#include <string>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/descriptors.h"

namespace nuncio::network {
namespace {

using test::Descriptor;
using testing::HasSubstr;

constexpr std::size_t kMaxPath = sizeof(sockaddr_un::sun_path);

Address parsed(absl::string_view text) {
  const absl::StatusOr<Address> address = Address::parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(Address());
}

std::string reprinted(absl::string_view text) { return parsed(text).toString(); }

Address fromNative(const Address::Native& native) {
  const absl::StatusOr<Address> address = Address::fromNative(native.data(), native.length);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(Address());
}

// The name by which a socket that is bound to `address` goes.
Address nameOf(int fd) {
  Address::Native name;
  name.length = sizeof(name.storage);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&name.storage), &name.length), 0);
  return fromNative(name);
}
Address nameOfBound(const Address& address) {
  const Address::Native native = address.native();
  const Descriptor socket(::socket(native.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(socket.get(), native.data(), native.length), 0) << address << ": " << std::strerror(errno);
  return nameOf(socket.get());
}

void expectRefused(absl::string_view text, absl::string_view reason) {
  const absl::StatusOr<Address> address = Address::parse(text);
  ASSERT_FALSE(address.ok()) << text << " was taken for " << *address;
  EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(address.status().message()), HasSubstr(std::string(reason))) << "for: " << text;
  EXPECT_THAT(std::string(address.status().message()), HasSubstr("\"192.0.2.1:80\""));
}

TEST(AddressTest, IPv4TextsAreTakenAndPrinted) {
  const Address address = parsed("192.0.2.1:80");
  EXPECT_EQ(address.family(), Address::Family::IPv4);
  EXPECT_EQ(address.host(), "192.0.2.1");
  EXPECT_EQ(address.port(), 80);
  EXPECT_EQ(address.toString(), "192.0.2.1:80");
  EXPECT_THAT(address.ipBytes(), testing::ElementsAre(192, 0, 2, 1));
  EXPECT_EQ(reprinted("0.0.0.0:0"), "0.0.0.0:0");
  EXPECT_EQ(reprinted("255.255.255.255:65535"), "255.255.255.255:65535");
}

TEST(AddressTest, IPv6TextsAreTakenAndPrinted) {
  const Address address = parsed("[2001:db8::1]:443");
  EXPECT_EQ(address.family(), Address::Family::IPv6);
  EXPECT_EQ(address.host(), "2001:db8::1");
  EXPECT_EQ(address.port(), 443);
  EXPECT_EQ(address.toString(), "[2001:db8::1]:443");
  EXPECT_EQ(address.ipBytes().size(), 16U);
}

// RFC 5952, section 4.
TEST(AddressTest, IPv6IsPrintedCompressed) {
  EXPECT_EQ(reprinted("[2001:0DB8:0:0:0:0:0:0001]:1"), "[2001:db8::1]:1");
  EXPECT_EQ(reprinted("[2001:db8:0:1:1:1:1:1]:1"), "[2001:db8:0:1:1:1:1:1]:1");  // a single group is not left out
  EXPECT_EQ(reprinted("[2001:0:0:1:0:0:0:1]:1"), "[2001:0:0:1::1]:1");           // the longest run is
  EXPECT_EQ(reprinted("[2001:db8:0:0:1:0:0:1]:1"), "[2001:db8::1:0:0:1]:1");     // the first of equal ones
  EXPECT_EQ(reprinted("[0:0:0:0:0:0:0:0]:1"), "[::]:1");
  EXPECT_EQ(reprinted("[1:0:0:0:0:0:0:0]:1"), "[1::]:1");
}

TEST(AddressTest, IPv4MappedToIPv6IsIPv4) {
  EXPECT_EQ(parsed("[::ffff:192.0.2.1]:80"), parsed("192.0.2.1:80"));
  EXPECT_EQ(parsed("[::ffff:c000:201]:80"), parsed("192.0.2.1:80"));
  EXPECT_EQ(Address::ip("::ffff:192.0.2.1", 80).value_or(Address()), parsed("192.0.2.1:80"));
}

TEST(AddressTest, ZonesAreNamesOrNumbersOfInterfaces) {
  const uint32_t loopback = ::if_nametoindex("lo");
  ASSERT_NE(loopback, 0U);
  const Address named = parsed("[fe80::1%lo]:80");
  EXPECT_EQ(named.zone(), loopback);
  EXPECT_EQ(named.toString(), "[fe80::1%lo]:80");
  EXPECT_EQ(named.host(), "fe80::1%lo");
  EXPECT_EQ(parsed(absl::StrCat("[fe80::1%", loopback, "]:80")), named);
  EXPECT_EQ(Address::ip("fe80::1%lo", 80).value_or(Address()), named);
  EXPECT_FALSE(parsed("[fe80::1]:80") == named);
}

TEST(AddressTest, ZonesOfInterfacesThatAreGoneArePrintedAsNumbers) {
  constexpr uint32_t kGone = 4294967295;
  std::array<char, IF_NAMESIZE> name;
  ASSERT_EQ(::if_indextoname(kGone, name.data()), nullptr);
  EXPECT_EQ(reprinted("[fe80::1%4294967295]:80"), "[fe80::1%4294967295]:80");
}

// No descriptor can be opened while it lives.
class NoDescriptors {
public:
  NoDescriptors() {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit none = {.rlim_cur = 0, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoDescriptors() { EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0); }

private:
  rlimit before_ = {};
};

TEST(AddressTest, WithoutDescriptorsZonesAreNumbersAlone) {
  const Address named = parsed("[fe80::1%lo]:80");
  const NoDescriptors no_descriptors;
  EXPECT_EQ(Address::parse("[fe80::1%lo]:80").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(parsed(named.toString()), named);
}

TEST(AddressTest, AZoneIsKeptOnLinkLocalAddressesOnly) {
  EXPECT_EQ(Address::ipv6({0xfe, 0xbf, 1}, 1, 7).zone(), 7U);
  EXPECT_EQ(Address::ipv6({0xff, 0x02, 1}, 1, 7).zone(), 7U);
  EXPECT_EQ(Address::ipv6({0xfe, 0xc0, 1}, 1, 7).zone(), 0U);
  EXPECT_EQ(Address::ipv6({0xff, 0x0e, 1}, 1, 7).zone(), 0U);
  expectRefused("[2001:db8::1%lo]:80", "a zone is for link-local addresses, and 2001:db8::1 is none");
}

TEST(AddressTest, UnixTextsAreTakenAndPrinted) {
  const Address path = parsed("unix:/run/app/socket");
  EXPECT_TRUE(path.isUnix());
  EXPECT_EQ(path.path(), "/run/app/socket");
  EXPECT_FALSE(path.isAbstract());
  EXPECT_EQ(path.host(), "/run/app/socket");
  EXPECT_EQ(path.toString(), "unix:/run/app/socket");
  EXPECT_EQ(path.port(), 0);
  EXPECT_TRUE(path.ipBytes().empty());

  const Address abstract = parsed("unix:@app");
  EXPECT_TRUE(abstract.isAbstract());
  EXPECT_EQ(abstract.path(), "");
  EXPECT_EQ(abstract.host(), "@app");
  EXPECT_EQ(abstract.toString(), "unix:@app");
  EXPECT_EQ(abstract, *Address::unixAbstract("app"));
}

TEST(AddressTest, UnixNamesAreEscapedWhereTheyDoNotPrint) {
  EXPECT_EQ(Address::unixPath("/a b\n\\\xc3\xa9")->toString(), R"(unix:/a\x20b\x0a\\\xc3\xa9)");
  EXPECT_EQ(Address::unixPath("@file")->toString(), R"(unix:\x40file)");
  EXPECT_EQ(Address::unixAbstract(absl::string_view("a\0", 2))->toString(), R"(unix:@a\x00)");
  EXPECT_EQ(Address::unixAbstract("@a")->toString(), "unix:@@a");
  EXPECT_EQ(parsed(R"(unix:/\x4a\x4A)").path(), "/JJ");
  EXPECT_EQ(parsed("unix:/\xc3\xa9").path(), "/\xc3\xa9");  // taken as it is, too
}

TEST(AddressTest, TextsWithoutAPortAreRefused) {
  expectRefused("", "no port");
  expectRefused("1.2.3.4", "no port");
  expectRefused("[::1]", "no port");
  expectRefused("1.2.3.4:", "the port is empty");
  expectRefused("[::1]:", "the port is empty");
}

TEST(AddressTest, PortsThatAreNoneAreRefused) {
  for (const char* port : {"65536", "-1", "+1", "99999999999999999999", "0x10", "80/", "01", "00", "1.0", "http"}) {
    expectRefused(absl::StrCat("1.2.3.4:", port), absl::StrCat("port \"", port, "\" is not a number from 0 to 65535"));
    expectRefused(absl::StrCat("[::1]:", port), absl::StrCat("port \"", port, "\" is not a number from 0 to 65535"));
  }
}

TEST(AddressTest, HostsThatAreNoIPv4AddressesAreRefused) {
  for (const char* host : {"1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.04", "1..2.3", "1.2.3.", "",
                           "-1.2.3.4", "0x1.2.3.4", "16909060", "localhost", "*"}) {
    expectRefused(absl::StrCat(host, ":80"), absl::StrCat("\"", host, "\" is not an IPv4 address"));
  }
}

TEST(AddressTest, HostsThatAreNoIPv6AddressesAreRefused) {
  for (const char* host : {"", "1", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9",
                           "12345::", "g::", "1.2.3.4", "::1.2.3", "::01.2.3.4", "[::1]", "::1/128"}) {
    expectRefused(absl::StrCat("[", host, "]:80"), "is not an IPv6 address");
  }
}

TEST(AddressTest, MisplacedBracketsAreRefused) {
  expectRefused("::1:1", "an IPv6 address is in brackets");
  expectRefused("::1", "an IPv6 address is in brackets");
  expectRefused("[::1:80", "\"[\" without \"]\"");
  expectRefused("[::1]80", "after \"]\" comes \":\" and the port");
  expectRefused("[1.2.3.4]:80", "is not an IPv6 address");
  expectRefused("x[::1]:80", "an IPv6 address is in brackets");
}

TEST(AddressTest, BlanksAndControlCharactersAreRefused) {
  for (const char* text : {" 1.2.3.4:80", "1.2.3.4:80 ", "1.2.3.4: 80", "1.2.3.4 :80", "1.2.3.4:80\n", "\t1.2.3.4:80",
                           "[::1 ]:80", "unix:/a b", "unix: /a", "unix:@a\x7f", " "}) {
    expectRefused(text, "a blank or control character at byte ");
  }
  expectRefused("1.2.3.4 :80", "at byte 7;");
  expectRefused(absl::string_view("1.2.3.4:80\0", 11), "at byte 10;");
  expectRefused(absl::string_view("unix:/a\0b", 9), "at byte 7;");
}

TEST(AddressTest, ZonesThatAreNoneAreRefused) {
  expectRefused("[fe80::1%]:80", "no zone after \"%\"");
  expectRefused("[fe80::1%no-such-interface-here]:80", "there is no interface \"no-such-interface-here\"");
  expectRefused("[fe80::1%0]:80", "zone \"0\" is not the number of an interface");
  expectRefused("[fe80::1%4294967296]:80", "is not the number of an interface");
  expectRefused("[fe80::1%-1]:80", "there is no interface \"-1\"");
  expectRefused("[fe80::1%a-name-longer-than-names-of-interfaces]:80", "there is no interface");
  expectRefused("1.2.3.4%lo:80", "is not an IPv4 address");
}

TEST(AddressTest, UnixNamesThatCannotBeAreRefused) {
  expectRefused("unix:", "the path is empty");
  expectRefused(R"(unix:/a\x00)", "a NUL in the path");
  expectRefused(R"(unix:/a\)", "after a backslash");
  expectRefused(R"(unix:/a\x4)", "after a backslash");
  expectRefused(R"(unix:/a\xg0)", "after a backslash");
  expectRefused(R"(unix:/a\n)", "after a backslash");
  expectRefused(absl::StrCat("unix:", std::string(kMaxPath + 1, 'a')), "the path has 109 bytes, and may have 108");
  expectRefused(absl::StrCat("unix:@", std::string(kMaxPath, 'a')),
                "the abstract name has 108 bytes, and may have 107");
  expectRefused("UNIX:/a", "port \"/a\" is not a number");
}

TEST(AddressTest, UnixFactoriesRefuseTheSame) {
  EXPECT_EQ(Address::unixPath("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Address::unixPath(absl::string_view("/a\0", 3)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Address::unixPath(std::string(kMaxPath + 1, 'a')).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Address::unixAbstract(std::string(kMaxPath, 'a')).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(AddressTest, LongTextsAreCutShortInErrors) {
  const std::string message(Address::parse(std::string(100000, '1')).status().message());
  EXPECT_LT(message.size(), 1000U);
  EXPECT_THAT(message, HasSubstr("111...\""));
}

TEST(AddressTest, LiteralsAreTakenWithoutBracketsAndPort) {
  EXPECT_EQ(*Address::ip("192.0.2.1", 80), parsed("192.0.2.1:80"));
  EXPECT_EQ(*Address::ip("2001:db8::1", 80), parsed("[2001:db8::1]:80"));
  for (const char* host : {"", "[::1]", "1.2.3.4:80", "localhost", " 1.2.3.4", "::1 ", "fe80::1%", "unix:/a"}) {
    const absl::Status status = Address::ip(host, 80).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << host;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"2001:db8::1\""));
  }
  EXPECT_FALSE(Address::ip(absl::string_view("1.2.3.4\0x", 9), 80).ok());
  EXPECT_FALSE(Address::ip(absl::string_view("::1\0", 4), 80).ok());
  EXPECT_FALSE(Address::ip(absl::string_view("fe80::1%lo\0x", 12), 80).ok());
}

TEST(AddressTest, WellKnownAddresses) {
  EXPECT_EQ(Address::loopback(80).toString(), "127.0.0.1:80");
  EXPECT_EQ(Address::loopbackV6(80).toString(), "[::1]:80");
  EXPECT_EQ(Address::any(80).toString(), "0.0.0.0:80");
  EXPECT_EQ(Address::anyV6(80).toString(), "[::]:80");
}

TEST(AddressTest, LoopbackAndAnyAreKnown) {
  EXPECT_TRUE(Address::loopback(1).isLoopback());
  EXPECT_TRUE(parsed("127.255.0.9:1").isLoopback());
  EXPECT_TRUE(Address::loopbackV6(1).isLoopback());
  EXPECT_TRUE(parsed("[::ffff:127.0.0.1]:1").isLoopback());
  EXPECT_TRUE(Address::any(1).isAny());
  EXPECT_TRUE(Address::anyV6(1).isAny());
  for (const Address& other : {parsed("128.0.0.1:1"), parsed("[::2]:1"), parsed("unix:/a"), Address()}) {
    EXPECT_FALSE(other.isLoopback()) << other;
    EXPECT_FALSE(other.isAny()) << other;
  }
  EXPECT_FALSE(Address::any(1).isLoopback());
  EXPECT_FALSE(Address::loopback(1).isAny());
}

TEST(AddressTest, WithPortChangesThePortAlone) {
  EXPECT_EQ(parsed("192.0.2.1:80").withPort(81), parsed("192.0.2.1:81"));
  EXPECT_EQ(parsed("[fe80::1%lo]:80").withPort(0), parsed("[fe80::1%lo]:0"));
  EXPECT_EQ(parsed("unix:/a").withPort(81), parsed("unix:/a"));
}

TEST(AddressTest, DefaultIsTheUnnamedUnixAddress) {
  const Address address;
  EXPECT_TRUE(address.isUnix());
  EXPECT_TRUE(address.isUnnamed());
  EXPECT_FALSE(address.isAbstract());
  EXPECT_EQ(address.path(), "");
  EXPECT_EQ(address.host(), "");
  EXPECT_EQ(address.toString(), "unix:");
  EXPECT_EQ(address.native().length, sizeof(sa_family_t));
  EXPECT_EQ(fromNative(address.native()), address);
}

TEST(AddressTest, EqualAddressesAreEqualAndHashAlike) {
  const std::vector<std::string> texts = {"192.0.2.1:80",   "192.0.2.1:81", "192.0.2.2:80",    "[::1]:80",
                                          "[fe80::1]:80",   "[::]:80",      "[fe80::1%lo]:80", "0.0.0.0:80",
                                          "[fe80::1%9]:80", "unix:/a",      "unix:@/a",        "unix:/b"};
  for (const std::string& a : texts) {
    for (const std::string& b : texts) {
      EXPECT_EQ(parsed(a) == parsed(b), a == b) << a << " and " << b;
      EXPECT_EQ(absl::HashOf(parsed(a)) == absl::HashOf(parsed(b)), a == b) << a << " and " << b;
    }
  }
  EXPECT_FALSE(Address() == parsed("unix:@"));
  EXPECT_FALSE(Address() == Address::any(0));
}

TEST(AddressTest, CopiesOutliveTheirOriginals) {
  Address copy;
  {
    const Address original = parsed("unix:/run/some/longer/path/than/fits/inline");
    copy = original;
  }
  EXPECT_EQ(copy.path(), "/run/some/longer/path/than/fits/inline");
  const Address moved = std::move(copy);
  EXPECT_EQ(moved.path(), "/run/some/longer/path/than/fits/inline");
}

TEST(AddressTest, IsPrintedToStreams) {
  std::ostringstream out;
  out << Address::loopback(80);
  EXPECT_EQ(out.str(), "127.0.0.1:80");
  EXPECT_EQ(testing::PrintToString(Address::loopback(80)), "127.0.0.1:80");
}

TEST(AddressNativeTest, BoundSocketsHaveTheAddress) {
  const Address v4 = nameOfBound(Address::loopback(0));
  EXPECT_NE(v4.port(), 0);
  EXPECT_EQ(v4, Address::loopback(v4.port()));
  const Address v6 = nameOfBound(Address::loopbackV6(0));
  EXPECT_EQ(v6, Address::loopbackV6(v6.port()));
}

TEST(AddressNativeTest, LengthsOfAbstractNamesAreExact) {
  const std::string unique = absl::StrCat("nuncio-address-test-", ::getpid());
  for (const std::string& name : {unique, unique + '\0', unique + std::string(kMaxPath - 1 - unique.size(), '\0')}) {
    const Address address = *Address::unixAbstract(name);
    EXPECT_EQ(address.native().length, sizeof(sa_family_t) + 1 + name.size());
    EXPECT_EQ(nameOfBound(address), address);
  }
}

// Within a directory of temporary files, whose own name does not count.
class InTempDir {
public:
  InTempDir() : before_(std::filesystem::current_path()) { std::filesystem::current_path(testing::TempDir()); }
  ~InTempDir() { std::filesystem::current_path(before_); }

private:
  const std::filesystem::path before_;
};

TEST(AddressNativeTest, PathsOfEveryLengthAreTaken) {
  const InTempDir in_temp_dir;
  for (const std::size_t length : {std::size_t{1}, std::size_t{50}, kMaxPath - 1, kMaxPath}) {
    const std::string path(length, 'p');
    const Address address = *Address::unixPath(path);
    EXPECT_EQ(nameOfBound(address), address);
    EXPECT_EQ(::unlink(path.c_str()), 0);
  }
}

TEST(AddressNativeTest, EndsOfASocketPairAreUnnamed) {
  const test::Pair pair = test::makeSocketPair();
  EXPECT_TRUE(nameOf(pair.peer.get()).isUnnamed());
}

TEST(AddressNativeTest, LinuxChoosesANameForWhoBindsToTheUnnamed) {
  const Address chosen = nameOfBound(Address());
  EXPECT_TRUE(chosen.isAbstract()) << chosen;
}

TEST(AddressNativeTest, PeersOfADualStackListenerAreIPv4) {
  const Descriptor listener(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int off = 0;
  ASSERT_EQ(::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
  const Address::Native any = Address::anyV6(0).native();
  ASSERT_EQ(::bind(listener.get(), any.data(), any.length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);

  const Descriptor client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Address::Native target = Address::loopback(nameOf(listener.get()).port()).native();
  ASSERT_EQ(::connect(client.get(), target.data(), target.length), 0);

  Address::Native peer;
  peer.length = sizeof(peer.storage);
  const Descriptor accepted(
      ::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.length, SOCK_CLOEXEC));
  ASSERT_EQ(peer.storage.ss_family, AF_INET6);
  EXPECT_EQ(fromNative(peer), nameOf(client.get()));
  EXPECT_EQ(fromNative(peer).family(), Address::Family::IPv4);
}

TEST(AddressNativeTest, WhatDoesNotFitIsRefused) {
  const Address::Native v4 = Address::loopback(80).native();
  const Address::Native v6 = Address::loopbackV6(80).native();
  EXPECT_FALSE(Address::fromNative(nullptr, sizeof(sockaddr_in)).ok());
  EXPECT_FALSE(Address::fromNative(v4.data(), 0).ok());
  EXPECT_FALSE(Address::fromNative(v4.data(), 1).ok());
  EXPECT_FALSE(Address::fromNative(v4.data(), v4.length - 1).ok());
  EXPECT_FALSE(Address::fromNative(v6.data(), v6.length - 1).ok());
  Address::Native too_long = Address::unixAbstract("a")->native();
  too_long.length = sizeof(sockaddr_un) + 1;
  EXPECT_FALSE(Address::fromNative(too_long.data(), too_long.length).ok());
  Address::Native other = v4;
  other.storage.ss_family = AF_NETLINK;
  const absl::Status status = Address::fromNative(other.data(), other.length).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("family 16"));
}

// Random addresses of all kinds, with a liking for zeros and for bytes that mean something in texts.
class RandomAddresses {
public:
  explicit RandomAddresses(uint64_t seed) : random_(seed) {}

  Address next() {
    switch (random_() % 5) {
      case 0:
        return Address::ipv4(ip<4>(), port());
      case 1:
        return Address::ipv6(ip<16>(), port());
      case 2:
        return Address::ipv6(linkLocal(), port(), static_cast<uint32_t>(random_() % 8));
      case 3:
        return *Address::unixAbstract(name(0, kMaxPath - 1, 0));
      default:
        return *Address::unixPath(name(1, kMaxPath, 1));
    }
  }

private:
  template <std::size_t kBytes>
  std::array<uint8_t, kBytes> ip() {
    std::array<uint8_t, kBytes> bytes = {};
    for (uint8_t& byte : bytes) {
      byte = random_() % 2 == 0 ? 0 : static_cast<uint8_t>(random_());
    }
    return bytes;
  }
  std::array<uint8_t, 16> linkLocal() {
    std::array<uint8_t, 16> bytes = ip<16>();
    bytes[0] = 0xfe;
    bytes[1] = 0x80;
    return bytes;
  }
  uint16_t port() { return static_cast<uint16_t>(random_()); }
  std::string name(std::size_t shortest, std::size_t longest, uint8_t lowest) {
    static constexpr absl::string_view kSpecial = "@\\x:/ []%4";
    std::string bytes;
    for (std::size_t left = shortest + random_() % (longest - shortest + 1); left > 0; --left) {
      bytes += random_() % 2 == 0 ? kSpecial[random_() % kSpecial.size()]
                                  : static_cast<char>(lowest + random_() % (256U - lowest));
    }
    return bytes;
  }

  std::mt19937_64 random_;
};

TEST(AddressRandomTest, TextsAndNativeFormsMakeTheSameAddressAgain) {
  const char* given = std::getenv("NUNCIO_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  RandomAddresses addresses(seed);
  for (int i = 0; i < 5000 && !HasFailure(); ++i) {
    const Address address = addresses.next();
    EXPECT_EQ(parsed(address.toString()), address);
    EXPECT_EQ(fromNative(address.native()), address);
  }
}

}  // namespace
}  // namespace nuncio::network
