#pragma once

#include <bit>
#include <cstdint>
#include <source_location>
#include <string>
#include <typeinfo>

#include "nuncio/common/inline_function.h"

namespace nuncio {

// CallbackId: which code a loop runs, as one word that costs nothing to make: the address of something constant that
// the callback has anyway. What is behind it is looked up only when someone asks for its text.
//
// Threads: any. Lifetime: that of the code which it names.
class CallbackId {
public:
  // None.
  constexpr CallbackId() = default;
  static constexpr CallbackId fromWord(uintptr_t word) { return CallbackId(word); }

  static CallbackId ofCallable(const CallableType& type) { return tagged(&type, kCallable); }
  // A continuation, or where a coroutine waited.
  static CallbackId ofPlace(const std::source_location& place) {
    return tagged(std::bit_cast<const void*>(place), kPlace);
  }
  // The destructor of an object whose deletion was deferred.
  static CallbackId ofDestroyed(const std::type_info& type) { return tagged(&type, kDestroyed); }
  // Some task of futures, which is none of a user's.
  static constexpr CallbackId ofTask() { return CallbackId(kTask); }

  uintptr_t word() const { return word_; }
  bool none() const { return word_ == 0; }
  friend bool operator==(CallbackId, CallbackId) = default;

  // For people: "Server::accept(int)::{lambda()#2}", "client.cc:40 in void Client::connect()", "~Connection"; empty for
  // none.
  std::string text() const;

private:
  static_assert(alignof(CallableType) > 3 && alignof(std::type_info) > 3, "the tag has to fit beside an address");
  enum Tag : uintptr_t { kCallable = 0, kPlace = 1, kDestroyed = 2, kTask = 3, kTags = 3 };

  explicit constexpr CallbackId(uintptr_t word) : word_(word) {}
  static CallbackId tagged(const void* constant, Tag tag) {
    return CallbackId(reinterpret_cast<uintptr_t>(constant) | tag);
  }

  uintptr_t word_ = 0;  // the constant's address, whose lowest bits are the tag
};

}  // namespace nuncio
