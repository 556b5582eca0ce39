#pragma once

#include <exception>

namespace nuncio {

// The exception that a catch (...) has caught, to be kept. What unwinds a thread that calls pthread_exit(), or that is
// cancelled, is none: it is thrown on, as glibc demands.
inline std::exception_ptr caughtException() {
  std::exception_ptr caught = std::current_exception();
  if (caught == nullptr) {
    throw;
  }
  return caught;
}

}  // namespace nuncio
