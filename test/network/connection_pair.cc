#include "test/network/connection_pair.h"

#include <sys/socket.h>

#include "source/network/socket_handle.h"

namespace nuncio::network::test {
namespace {

std::pair<IoHandlePtr, IoHandlePtr> makeTcpHandles() {
  const ListenHandlePtr listener = *systemNetwork().listen(Address::loopback(0), {});
  IoHandlePtr first = *systemNetwork().connect(listener->address(), {});
  IoHandlePtr second;
  while (second == nullptr) {
    second = listener->accept().handle;
  }
  return {std::move(first), std::move(second)};
}

std::pair<IoHandlePtr, IoHandlePtr> makeUnixHandles() {
  int fds[2];
  EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
  return {makeSocketHandle(FileDescriptor(fds[0]), Address()), makeSocketHandle(FileDescriptor(fds[1]), Address())};
}

}  // namespace

std::pair<IoHandlePtr, IoHandlePtr> ConnectionPairTest::makeHandles() {
  MemoryLinkOptions options{.time = &time_};
  switch (GetParam()) {
    case Medium::Tcp:
      return makeTcpHandles();
    case Medium::Unix:
      return makeUnixHandles();
    case Medium::Memory:
      break;
    case Medium::FaultyMemory:
      options.short_read = options.short_write = options.again = 0.3;
      break;
    case Medium::DelayedMemory:
      options.delay = std::chrono::milliseconds(10);
      break;
  }
  MemoryPair pair = makeMemoryPair(options);
  link_ = std::move(pair.link);
  return {std::move(pair.first), std::move(pair.second)};
}

bool ConnectionPairTest::runUntil(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (int round = 0; !done(); ++round) {
    if (simulated()) {
      time_.advanceTimeAndRun(std::chrono::milliseconds(1));
      if (round == 60'000) {
        return false;
      }
    } else {
      dispatcher_->run(RunType::NonBlock);
      if (std::chrono::steady_clock::now() > give_up) {
        return false;
      }
    }
  }
  return true;
}

void ConnectionPairTest::settle() {
  for (int i = 0; i < 20; ++i) {
    if (simulated()) {
      time_.advanceTimeAndRun(std::chrono::milliseconds(GetParam() == Medium::DelayedMemory ? 2 : 0));
    } else {
      dispatcher_->run(RunType::NonBlock);
    }
  }
}

}  // namespace nuncio::network::test
