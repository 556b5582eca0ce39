// What the values of this layer allocate, and what becomes of them when there is no memory.

#include <functional>
#include <new>
#include <string>
#include <utility>

#include "gtest/gtest.h"

#include "nuncio/network/address.h"
#include "nuncio/network/cidr.h"
#include "nuncio/network/proxy_protocol.h"
#include "nuncio/network/socket_options.h"
#include "source/network/apply_socket_options.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

using test::allocationsOf;

// `work` gives its result, which is as it should be, or throws std::bad_alloc, whichever of its allocations fails, and
// leaves nothing behind. (Under a sanitizer none can fail, and only the results are seen to.)
void expectResultOrBadAlloc(const std::function<bool()>& work) {
  ASSERT_TRUE(work());  // whatever is allocated once only
  bool failed = true;
  for (int64_t n = 0; failed; ++n) {
    ASSERT_LT(n, 1000);
    const int64_t before = test::allocations - test::frees;
    bool good = false;
    test::failAllocation(n, test::Fails::One);
    try {
      good = work();
      failed = test::stopFailing();
    } catch (const std::bad_alloc&) {
      failed = test::stopFailing();
      good = failed;
    }
    EXPECT_TRUE(good) << "allocation " << n;
    if (!test::kSanitizer) {
      EXPECT_EQ(test::allocations - test::frees, before) << "allocation " << n << " leaks";
    }
  }
}

TEST(ValuesAllocationTest, IpAddressesAllocateNothing) {
  EXPECT_EQ(allocationsOf([] {
              const absl::StatusOr<Address> address = Address::parse("[2001:db8::1]:443");
              const Address copy = *address;
              EXPECT_EQ(Address::fromNative(copy.native().data(), copy.native().length)->port(), 443);
            }),
            0);
}

TEST(ValuesAllocationTest, CopiesOfUnixAddressesAllocateNothing) {
  const Address address = *Address::unixPath(std::string(100, 'p'));
  EXPECT_EQ(allocationsOf([&] {
              const Address copy = address;
              EXPECT_EQ(copy, address);
              EXPECT_EQ(copy.native().length, address.native().length);
            }),
            0);
}

TEST(ValuesAllocationTest, RangesAndOptionsAllocateNothing) {
  const CidrList list = *CidrList::parse({"10.0.0.0/8", "::1", "unix:"});
  const Address peer = Address::loopback(1);
  EXPECT_EQ(allocationsOf([&] {
              EXPECT_FALSE(list.contains(peer));
              EXPECT_TRUE(check({}).ok());
            }),
            0);
}

TEST(ValuesAllocationTest, HeadersOfIpConnectionsAllocateNothing) {
  const ProxyHeader header = {.source = Address::loopback(1), .destination = Address::loopback(2)};
  const std::string bytes = *encodeProxyHeader(header);
  EXPECT_EQ(allocationsOf([&] {
              EXPECT_FALSE(parseProxyHeader(bytes.substr(0, 12), ProxyVersions::V1AndV2)->done());
              EXPECT_TRUE(parseProxyHeader(bytes, ProxyVersions::V1AndV2)->done());
            }),
            0);
}

TEST(ValuesNoMemoryTest, Addresses) {
  const std::string path(90, 'p');
  expectResultOrBadAlloc([&] {
    const absl::StatusOr<Address> address = Address::unixPath(path);
    return address.ok() && address->path() == path && Address::parse(address->toString()) == address;
  });
  expectResultOrBadAlloc([] { return absl::IsInvalidArgument(Address::parse("1.2.3:80").status()); });
}

TEST(ValuesNoMemoryTest, Ranges) {
  expectResultOrBadAlloc([] { return CidrList::parse({"10.0.0.0/8", "unix:"})->contains(Address()); });
  expectResultOrBadAlloc([] { return absl::IsInvalidArgument(CidrList::parse({"10.0.0.1/8"}).status()); });
}

TEST(ValuesNoMemoryTest, ProxyHeaders) {
  ProxyHeader header = {.source = *Address::unixPath("/a"), .destination = *Address::unixAbstract("b")};
  header.tlvs = {{ProxyTlv::kAuthority, std::string(100, 'x')}};
  header.checksum = true;
  expectResultOrBadAlloc([&] {
    const absl::StatusOr<std::string> bytes = encodeProxyHeader(header);
    return bytes.ok() && parseProxyHeader(*bytes, ProxyVersions::V1AndV2)->header == header;
  });
  expectResultOrBadAlloc(
      [] { return absl::IsInvalidArgument(parseProxyHeader("GET", ProxyVersions::V1AndV2).status()); });
}

TEST(ValuesNoMemoryTest, SocketOptions) {
  expectResultOrBadAlloc([] { return absl::IsInvalidArgument(check({.traffic_class = 256})); });
  expectResultOrBadAlloc([] {
    return absl::IsInvalidArgument(applySocketOptions(-1, Address::Family::IPv4, {}, SocketPhase::Connection));
  });
}

}  // namespace
}  // namespace nuncio::network
