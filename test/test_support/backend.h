#pragma once

#include <cstdlib>
#include <string_view>

namespace nuncio::test {

// Whether dispatchers are on libevent's backend in this run, for what is different there: see BackendKind.
inline bool onLibevent() {
  const char* const backend = std::getenv("NUNCIO_BACKEND");
  return backend != nullptr && std::string_view(backend) == "libevent";
}

}  // namespace nuncio::test
