// What each snippet begins with: included once, and compiled beforehand.

#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/semi_future.h"

using namespace nuncio;  // NOLINT(google-build-using-namespace)

struct Widget {
  int size() const;
  void resize(int size);
};
