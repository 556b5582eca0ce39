// Ranges of addresses, and lists of them.

#include "nuncio/network/cidr.h"

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace nuncio::network {
namespace {

using testing::HasSubstr;

Address address(absl::string_view host) {
  const absl::StatusOr<Address> address = Address::ip(host, 80);
  EXPECT_TRUE(address.ok()) << address.status();
  return address.value_or(Address());
}

bool contains(absl::string_view range, absl::string_view host) {
  const absl::StatusOr<Cidr> cidr = Cidr::parse(range);
  EXPECT_TRUE(cidr.ok()) << cidr.status();
  return cidr.ok() && cidr->contains(address(host));
}

std::string reprinted(absl::string_view text) {
  const absl::StatusOr<Cidr> cidr = Cidr::parse(text);
  return cidr.ok() ? cidr->toString() : std::string(cidr.status().message());
}

void expectRefused(absl::string_view text, absl::string_view reason) {
  const absl::StatusOr<Cidr> cidr = Cidr::parse(text);
  ASSERT_FALSE(cidr.ok()) << text << " was taken for " << *cidr;
  EXPECT_EQ(cidr.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(cidr.status().message()), HasSubstr(std::string(reason)));
  EXPECT_THAT(std::string(cidr.status().message()), HasSubstr("\"10.0.0.0/8\""));
}

TEST(CidrTest, ContainsWhatBeginsWithItsBits) {
  EXPECT_TRUE(contains("10.0.0.0/8", "10.255.0.1"));
  EXPECT_FALSE(contains("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(contains("192.0.2.128/25", "192.0.2.128"));
  EXPECT_FALSE(contains("192.0.2.128/25", "192.0.2.127"));
  EXPECT_TRUE(contains("2001:db8::/33", "2001:db8:7fff::1"));
  EXPECT_FALSE(contains("2001:db8::/33", "2001:db8:8000::1"));
}

TEST(CidrTest, AnAddressIsARangeOfOne) {
  EXPECT_TRUE(contains("192.0.2.1", "192.0.2.1"));
  EXPECT_FALSE(contains("192.0.2.1", "192.0.2.2"));
  EXPECT_EQ(reprinted("192.0.2.1"), "192.0.2.1/32");
  EXPECT_EQ(reprinted("::1"), "::1/128");
}

TEST(CidrTest, LengthZeroIsAllOfOneFamily) {
  EXPECT_TRUE(contains("0.0.0.0/0", "255.255.255.255"));
  EXPECT_FALSE(contains("0.0.0.0/0", "::1"));
  EXPECT_TRUE(contains("::/0", "ffff::1"));
  EXPECT_FALSE(contains("::/0", "192.0.2.1"));
  EXPECT_FALSE(Cidr::parse("0.0.0.0/0")->contains(Address()));
}

TEST(CidrTest, MappedRangesAndAddressesAreIPv4) {
  EXPECT_TRUE(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
  EXPECT_FALSE(contains("::/0", "::ffff:10.1.2.3"));
  EXPECT_EQ(reprinted("::ffff:10.0.0.0/104"), "10.0.0.0/8");
  EXPECT_EQ(reprinted("::ffff:0:0/96"), "0.0.0.0/0");
  EXPECT_EQ(reprinted("::ffff:10.0.0.1"), "10.0.0.1/32");
  expectRefused("::ffff:10.0.0.0/95", "at least 96 bits");
}

TEST(CidrTest, PortsAndZonesDoNotCount) {
  EXPECT_TRUE(contains("fe80::/10", "fe80::1%lo"));
  EXPECT_TRUE(Cidr::parse("10.0.0.0/8")->contains(address("10.0.0.1").withPort(1)));
}

TEST(CidrTest, BitsBeyondTheLengthAreRefused) {
  expectRefused("10.1.2.3/8", "bits are set beyond its length (10.0.0.0/8?)");
  expectRefused("2001:db8::1/64", "bits are set beyond its length (2001:db8::/64?)");
  expectRefused("0.0.0.1/31", "(0.0.0.0/31?)");
  expectRefused("::ffff:10.0.0.1/104", "(10.0.0.0/8?)");
}

TEST(CidrTest, LengthsThatAreNoneAreRefused) {
  for (const char* length : {"", "33", "-1", "+1", "08", "8 ", "8/8", "x", "4294967296"}) {
    expectRefused(absl::StrCat("0.0.0.0/", length), "from 0 to 32");
  }
  expectRefused("::/129", "from 0 to 128");
}

TEST(CidrTest, HostsThatAreNoneAreRefused) {
  for (const char* host : {"", "10", "10.0.0", "[::1]", "10.0.0.0:80", "localhost", " 10.0.0.0", "unix:/a"}) {
    expectRefused(absl::StrCat(host, "/8"), "is not an IP address");
  }
  expectRefused("fe80::%lo/64", "a range has no zone");
}

TEST(CidrRandomTest, AgreesWithAComparisonBitByBit) {
  const char* given = std::getenv("NUNCIO_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int i = 0; i < 5000 && !HasFailure(); ++i) {
    const auto length = static_cast<uint32_t>(random() % 33);
    const auto mask = static_cast<uint32_t>(~uint64_t{0} << (32 - length));
    const uint32_t network = static_cast<uint32_t>(random()) & mask;
    const auto text = [](uint32_t ip) {
      return absl::StrCat(ip >> 24, ".", (ip >> 16) & 255, ".", (ip >> 8) & 255, ".", ip & 255);
    };
    const std::string range = absl::StrCat(text(network), "/", length);
    EXPECT_EQ(reprinted(range), range);
    const uint32_t near = network ^ (uint32_t{1} << (random() % 32));  // one bit differs
    EXPECT_EQ(contains(range, text(near)), (near & mask) == network) << range << " and " << text(near);
  }
}

TEST(CidrListTest, ContainsWhatOneOfItsRangesDoes) {
  const absl::StatusOr<CidrList> list = CidrList::parse({"10.0.0.0/8", "::1"});
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_TRUE(list->contains(address("10.1.2.3")));
  EXPECT_TRUE(list->contains(address("::1")));
  EXPECT_FALSE(list->contains(address("11.1.2.3")));
  EXPECT_FALSE(list->contains(address("::2")));
  EXPECT_FALSE(list->contains(*Address::unixPath("/a")));
  EXPECT_EQ(list->toString(), "10.0.0.0/8, ::1/128");
}

TEST(CidrListTest, UnixMeansAllUnixSockets) {
  const absl::StatusOr<CidrList> list = CidrList::parse({"unix:", "10.0.0.0/8"});
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_TRUE(list->contains(Address()));
  EXPECT_TRUE(list->contains(*Address::unixPath("/a")));
  EXPECT_TRUE(list->contains(*Address::unixAbstract("a")));
  EXPECT_TRUE(list->contains(address("10.0.0.1")));
  EXPECT_FALSE(list->contains(address("11.0.0.1")));
  EXPECT_EQ(list->toString(), "10.0.0.0/8, unix:");
  EXPECT_EQ(CidrList::parse({"unix:"})->toString(), "unix:");
}

TEST(CidrListTest, AnEmptyListContainsNothing) {
  const CidrList list;
  EXPECT_TRUE(list.empty());
  EXPECT_FALSE(list.contains(address("10.0.0.1")));
  EXPECT_FALSE(list.contains(Address()));
  EXPECT_EQ(list.toString(), "");
  EXPECT_EQ(*CidrList::parse({}), list);
  EXPECT_FALSE(CidrList::parse({"unix:"})->empty());
}

TEST(CidrListTest, AnEntryThatIsNoneIsNamed) {
  const absl::Status status = CidrList::parse({"10.0.0.0/8", "unix:/a", "::1"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"unix:/a\""));
}

}  // namespace
}  // namespace nuncio::network
