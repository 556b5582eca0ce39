#pragma once

#include <cstddef>

#include "absl/types/span.h"

#include "nuncio/network/buffer.h"
#include "source/network/slice.h"

namespace nuncio::network {

// Scratch: 64 KiB to read into, shown to whoever handles the bytes as a part of a Buffer, without a copy.
//
//   Scratch scratch;                                  // of the thread's pool: no allocation
//   ssize_t n = recv(fd, scratch.memory().data(), scratch.memory().size(), 0);
//   scratch.lend(buffer, n);                          // `buffer` ends with these bytes
//   callbacks.onData(buffer);
//   scratch.takeBack();                               // what is left in `buffer` is a copy now
//
// The memory is a slice like others, and `buffer` has it in its chain: nobody can hold it after takeBack(). What the
// handler leaves is copied then; what it moves to another Buffer is copied as it is moved. Should there be no memory
// for a copy where nothing can fail (takeBack(), Buffer's move constructor), the buffer keeps the slice itself, and the
// scratch has to get another one.
//
//   read 1,000 B     handler drains 900            takeBack()
//   buffer: [1,000]  buffer: [100]                 buffer: [100]     of 4 KiB
//            lent             lent, the same slice  scratch: 64 KiB  to read into again
//
// Nested use is safe, too: a handler which runs a loop that reads, takes another slice from the pool.
//
// Threads: the buffer's. Lifetime: the buffer may be destroyed before. Destroying this takes back.
class Scratch final : private buffer_internal::Guest {
public:
  // Throws std::bad_alloc.
  Scratch() : Guest{.bars_changes = false}, slice_(&freshSlice()) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // To read into. Takes back first. Throws std::bad_alloc, where a buffer has kept it.
  absl::Span<char> memory();

  // Appends the first `bytes` of memory() to `to`, until takeBack(). `to` lends nothing, and is not reserved.
  void lend(Buffer& to, std::size_t bytes) noexcept;
  // Nothing when it is not lent, or not any more: drained, or gone with the buffer.
  void takeBack() noexcept;

private:
  friend class Buffer;

  static buffer_internal::Slice& freshSlice();
  // The buffer has done with it, and unlinked it.
  void comeBack() noexcept;

  buffer_internal::Slice* slice_;  // owned; null when a buffer has kept it
};

}  // namespace nuncio::network
