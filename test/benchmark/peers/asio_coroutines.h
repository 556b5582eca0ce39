#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <asio.hpp>

#include "test/benchmark/peers/asio_peer.h"

// The coroutines of the peer `asio`: awaitable, co_spawn and use_awaitable. It has no futures with then, and no promise
// that a coroutine could wait for: its completion handler is what stands for one.
namespace nuncio::bench {

template <class F>
asio::awaitable<int> runHere(F f) {
  co_return f();
}

template <class F, class Answer>
asio::awaitable<void> callsWhile(AsioLoop& to, F f, Answer answer) {
  bool go_on = true;
  while (go_on) {
    const int value = co_await asio::co_spawn(to.context(), runHere(f), asio::use_awaitable);
    go_on = answer(value);
  }
}
template <class F, class Answer>
void callWhile(AsioLoop& from, AsioLoop& to, F f, Answer answer) {
  asio::co_spawn(from.context(), callsWhile(to, f, answer), asio::detached);
}

template <class F>
std::future<int> callFromOutside(AsioLoop& to, F f) {
  return asio::co_spawn(to.context(), runHere(f), asio::use_future);
}
inline int answerOf(std::future<int>&& future) { return future.get(); }

inline asio::awaitable<void> awaitYields(AsioLoop& loop, std::size_t count, uint64_t* awaited) {
  for (std::size_t i = 0; i < count; ++i) {
    co_await asio::post(loop.context(), asio::use_awaitable);
    ++*awaited;
  }
  loop.stop();
}

// Waits for a completion handler that a posted task calls.
inline asio::awaitable<void> awaitPostedPromises(AsioLoop& loop, std::size_t count, uint64_t* awaited) {
  const auto initiate = [&loop](auto handler) {
    loop.post([handler = std::move(handler)]() mutable { std::move(handler)(1); });
  };
  for (std::size_t i = 0; i < count; ++i) {
    const int one =
        co_await asio::async_initiate<const asio::use_awaitable_t<>, void(int)>(initiate, asio::use_awaitable);
    *awaited += static_cast<uint64_t>(one);
  }
  loop.stop();
}

}  // namespace nuncio::bench
