// Any bytes as the beginning of a connection with a PROXY header: nothing crashes; what arrives in pieces is taken as
// what arrives at once, with no error before a header that is accepted in the end; and what is accepted can be written,
// and is then read as the same.

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

#include "nuncio/common/assert.h"
#include "nuncio/network/proxy_protocol.h"

namespace nuncio::network {
namespace {

absl::StatusOr<ProxyParse> parse(absl::string_view bytes) { return parseProxyHeader(bytes, ProxyVersions::V1AndV2); }

// As if the bytes came one by one.
absl::StatusOr<ProxyParse> parseByteByByte(absl::string_view bytes) {
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    absl::StatusOr<ProxyParse> result = parse(bytes.substr(0, size));
    if (!result.ok() || result->done()) {
      return result;
    }
  }
  return parse(bytes);
}

void checkPieces(absl::string_view bytes, const absl::StatusOr<ProxyParse>& at_once) {
  const absl::StatusOr<ProxyParse> in_pieces = parseByteByByte(bytes);
  NUNCIO_RELEASE_ASSERT(in_pieces.status().code() == at_once.status().code(), in_pieces.status().ToString());
  if (at_once.ok()) {
    NUNCIO_RELEASE_ASSERT(in_pieces->consumed == at_once->consumed, "another length in pieces");
    NUNCIO_RELEASE_ASSERT(in_pieces->header == at_once->header, "another header in pieces");
  }
}

void checkWrittenAgain(const ProxyHeader& header) {
  const absl::StatusOr<std::string> bytes = encodeProxyHeader(header);
  NUNCIO_RELEASE_ASSERT(bytes.ok(), bytes.status().ToString());
  const absl::StatusOr<ProxyParse> again = parse(*bytes);
  NUNCIO_RELEASE_ASSERT(again.ok(), again.status().ToString());
  NUNCIO_RELEASE_ASSERT(again->consumed == bytes->size(), "another length than was written");
  NUNCIO_RELEASE_ASSERT(again->header == header, "another header than was written");
}

void checkBytes(absl::string_view bytes) {
  const absl::StatusOr<ProxyParse> at_once = parse(bytes);
  checkPieces(bytes, at_once);
  if (at_once.ok() && at_once->done()) {
    NUNCIO_RELEASE_ASSERT(at_once->consumed <= bytes.size(), "more bytes than there are");
    checkWrittenAgain(at_once->header);
  }
}

}  // namespace
}  // namespace nuncio::network

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  nuncio::network::checkBytes(absl::string_view(reinterpret_cast<const char*>(data), size));
  return 0;
}
