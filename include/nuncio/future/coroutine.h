#pragma once

#include <coroutine>
#include <type_traits>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/coroutine_promise.h"

// Coroutines that complete on a dispatcher: functions that return a Future and use co_await.
//
//   Future<std::string> greet(Dispatcher& dispatcher, Connection& connection) {
//     std::string name = co_await connection.read();     // a Future<std::string>
//     co_await std::chrono::milliseconds(10);            // sleeps, with nuncio/future/time.h
//     co_return "hello, " + name;
//   }
//
// A coroutine belongs to the dispatcher that its first parameter of type Dispatcher&, const or not, names, or else to
// the one whose loop runs on the thread that calls it; failing both, to that of the first future it waits for. It
// starts at once, on the caller's thread, and after a wait goes on on its dispatcher's. To be awaited: Future,
// SemiFuture (both only as rvalues), yield(), resumeOn(), durations. What is ready does not suspend.
//
// A failure that is awaited is thrown: its exception, or a StatusError with its status; asTry(future) gives the Try
// instead. What escapes from the coroutine is its result; a StatusError is its Status, too. co_return takes a value,
// and for other types than void also a Status, a StatusOr or a Try.
//
// Cancelling the future cancels what the coroutine waits for, and destroys its frame where it stands, with all its
// variables; one that is running ends at its next co_await. A dispatcher that shuts down does the same. Dropping the
// future does not: the coroutine goes on.
//
// g++ before 13 breaks an expression that awaits and makes a closure with captures, or an object from braces: put the
// future into a variable first, and await that. No function that takes the closure can help; see docs/pitfalls.md.
//
// Parameters live as long as the frame, when they are taken by value; a reference is as good as what it refers to. The
// captures of a lambda are not parameters: see keepAlive(), and docs/pitfalls.md.
//
// Cost: the frame, and one block for the future, which is reused; a wait allocates nothing.
namespace nuncio {

// co_await yield(): lets what is ready run first, and goes on in this iteration, or the next when this has done enough.
inline future_internal::Yield yield() { return {}; }

// co_await resumeOn(other): goes on on the thread of `other`. The coroutine's own future stays with its first
// dispatcher. When `other` has been shut down before: throws Cancelled, as a StatusError, and goes on where it is.
inline future_internal::ResumeOn resumeOn(Dispatcher& other) { return {other}; }

// co_await asTry(future): the result as a Try, failed or not.
template <class T>
future_internal::AsTry<T> asTry(Future<T>&& future) {
  return {std::move(future)};
}
template <class T>
future_internal::SemiAsTry<T> asTry(SemiFuture<T>&& future) {
  return {std::move(future)};
}

// Calls `f`, a lambda that is a coroutine, and keeps it, with its captures, until the coroutine is done.
//
//   keepAlive([connection = std::move(connection)]() -> Future<void> { co_await connection->close(); }).detach();
template <class F, class... Args>
auto keepAlive(F f, Args... args) -> std::invoke_result_t<F&, Args...> {
  co_return co_await f(std::move(args)...);
}

}  // namespace nuncio

template <class T, class... Args>
struct std::coroutine_traits<nuncio::Future<T>, Args...> {
  using promise_type = nuncio::future_internal::CoroutinePromise<T>;
};
