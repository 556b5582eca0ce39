#pragma once

#include <memory>

namespace nuncio {

template <auto kDelete>
struct CDeleter {
  template <class T>
  void operator()(T* object) const noexcept {
    (void)kDelete(object);
  }
};

// CSmartPtr: owns an object of a C library, with the library's delete function as a template argument.
//
//   using EventBasePtr = CSmartPtr<event_base, event_base_free>;
//   EventBasePtr base(event_base_new());
//
// It is a unique_ptr that is one word wide: the deleter costs no second word a pointer. `kDelete` is called with a
// non-null pointer, once; what it returns is ignored. Threads: those of the object it owns.
template <class T, auto kDelete>
using CSmartPtr = std::unique_ptr<T, CDeleter<kDelete>>;

}  // namespace nuncio
