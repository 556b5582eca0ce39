// A program outside nuncio's workspace: it depends on @nuncio//:nuncio and nothing else.

#include <cstdio>

#include "nuncio/event/dispatcher.h"

int main() {
  bool ran = false;
  nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});
  dispatcher->post([&ran] { ran = true; });
  dispatcher->run(nuncio::RunType::Block);
  std::puts(ran ? "hello from nuncio" : "the callback did not run");
  return ran ? 0 : 1;
}
