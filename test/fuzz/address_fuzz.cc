// Any text as an address, and as a range of addresses: nothing crashes, and what is accepted is printed so that it is
// accepted again and means the same.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

#include "nuncio/common/assert.h"
#include "nuncio/network/address.h"
#include "nuncio/network/cidr.h"

namespace nuncio::network {
namespace {

void checkAddress(absl::string_view text) {
  const absl::StatusOr<Address> address = Address::parse(text);
  if (!address.ok()) {
    NUNCIO_RELEASE_ASSERT(absl::IsInvalidArgument(address.status()), "another error");
    return;
  }
  const std::string printed = address->toString();
  NUNCIO_RELEASE_ASSERT(Address::parse(printed) == address, printed);
  const Address::Native native = address->native();
  NUNCIO_RELEASE_ASSERT(Address::fromNative(native.data(), native.length) == address, printed);
  if (!address->isUnix()) {
    NUNCIO_RELEASE_ASSERT(Address::ip(address->host(), address->port()) == address, printed);
  }
}

void checkRange(absl::string_view text) {
  const absl::StatusOr<Cidr> range = Cidr::parse(text);
  if (range.ok()) {
    NUNCIO_RELEASE_ASSERT(Cidr::parse(range->toString()) == range, range->toString());
    const std::string first = range->toString().substr(0, range->toString().find('/'));
    NUNCIO_RELEASE_ASSERT(range->contains(Address::ip(first, 0).value()), range->toString());
  }
}

}  // namespace
}  // namespace nuncio::network

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  nuncio::network::checkAddress(text);
  nuncio::network::checkRange(text);
  return 0;
}
