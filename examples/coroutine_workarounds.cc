// What to write instead of the lines that some compilers break, see docs/pitfalls.md.
//
//   tools/bazelw run //examples:coroutine_workarounds

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <utility>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/loops.h"

using nuncio::Dispatcher;
using nuncio::Future;

Future<std::string> fetch(std::string name) {
  co_await std::chrono::milliseconds(1);
  co_return "page of " + name;
}
Future<bool> exists(std::string name) {
  co_await nuncio::yield();
  co_return !name.empty();
}

// [variable]
Future<void> greetTwice(Dispatcher& dispatcher, std::string name) {
  Future<void> greetings = nuncio::repeat(dispatcher, [name, times = 0]() mutable {
    std::printf("hello, %s\n", name.c_str());
    return ++times < 2;
  });
  co_await std::move(greetings);  // not: co_await nuncio::repeat(...)
}
// [variable]

// [function]
Future<void> printLength(std::string name) {
  const auto length = [&] {  // no coroutine, so that it may make closures
    return fetch(name).then([name](const std::string& page) { return name.size() + page.size(); });
  };
  const std::size_t bytes = co_await length();
  std::printf("%zu bytes\n", bytes);
}
// [function]

// [branch]
struct Request {
  std::string name;
  int attempts = 1;
};
Future<std::string> answer(Request request) { return fetch(std::move(request.name)); }

Future<std::string> answerIfKnown(std::string name) {
  const bool known = co_await exists(name);  // not: if (co_await exists(name))
  if (!known) {
    co_return "nobody";  // not: co_return known ? co_await answer(...) : "nobody"
  }
  Request request{.name = std::move(name)};
  std::string page = co_await answer(std::move(request));  // not: co_await answer({.name = name})
  co_return page;
}
// [branch]

// [parts]
struct Pages {
  std::string first;
  std::string second;
};

Future<Pages> fetchBoth() {
  std::string first = co_await fetch("Ada");
  std::string second = co_await fetch("Bob");
  co_return Pages{std::move(first), std::move(second)};  // not: Pages{co_await fetch("Ada"), co_await fetch("Bob")}
}
// [parts]

Future<void> all(Dispatcher& dispatcher) {
  Future<void> greetings = greetTwice(dispatcher, "a name that needs memory of its own");
  co_await std::move(greetings);
  co_await printLength("Ada, by a longer name");
  const std::string known = co_await answerIfKnown("Carol");
  const std::string unknown = co_await answerIfKnown("");
  const Pages pages = co_await fetchBoth();
  std::printf("%s, %s, %s, %s\n", known.c_str(), unknown.c_str(), pages.first.c_str(), pages.second.c_str());
}

int main() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});
  if (dispatcher == nullptr) {
    return 1;
  }
  all(*dispatcher).ensure([&] { dispatcher->exit(); }).detach();
  dispatcher->run(nuncio::RunType::RunUntilExit);
  return 0;
}
