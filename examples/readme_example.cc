// The example on the README's first screen.

#include <chrono>
#include <cstdio>
#include <thread>

#include "nuncio/event/dispatcher.h"

int main() {
  nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});

  nuncio::TimerPtr timer = dispatcher->createTimer([&] {
    std::puts("a timer fired: good bye");
    dispatcher->exit();
  });
  timer->enableTimer(std::chrono::milliseconds(100));

  std::thread thread([&] { dispatcher->post([] { std::puts("posted by another thread, run by the loop"); }); });

  dispatcher->run(nuncio::RunType::RunUntilExit);
  thread.join();
}
