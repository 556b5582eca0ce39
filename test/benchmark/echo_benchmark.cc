#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "test/benchmark/peers/asio_peer.h"
#include "test/benchmark/peers/envoy_peer.h"
#include "test/benchmark/peers/epoll_limit.h"
#include "test/benchmark/peers/libuv_peer.h"
#include "test/benchmark/peers/nuncio_peer.h"
#include "test/benchmark/rss.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kMessageBytes = 64;
constexpr std::size_t kIdleDescriptors = 10000;

// Raises the limit of open descriptors as far as the system lets us, and returns it.
std::size_t raiseDescriptorLimit() {
  rlimit limit{};
  require(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
  limit.rlim_cur = limit.rlim_max;
  require(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
  return limit.rlim_cur;
}

// Both ends of connected TCP sockets over 127.0.0.1.
class Connections {
public:
  explicit Connections(std::size_t count) {
    raiseDescriptorLimit();
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    require(bind(listener, any, length) == 0 && listen(listener, 16) == 0, "listen");
    require(getsockname(listener, any, &length) == 0, "getsockname");
    for (std::size_t i = 0; i < count; ++i) {
      const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      require(connect(client, any, length) == 0, "connect");
      const int server = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      require(server >= 0, "accept4");
      for (const int fd : {client, server}) {
        const int on = 1;
        require(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
      }
      clients.push_back(client);
      servers.push_back(server);
    }
    close(listener);
  }
  ~Connections() {
    for (const auto& fds : {clients, servers}) {
      for (const int fd : fds) {
        close(fd);
      }
    }
  }
  Connections(const Connections&) = delete;
  Connections& operator=(const Connections&) = delete;

  std::vector<int> clients;
  std::vector<int> servers;
};

// One bare epoll loop that keeps one message outstanding on each connection, and checks what comes back.
class Client {
public:
  explicit Client(const std::vector<int>& fds) : fds_(fds), sent_(fds.size()) {
    require(epoll_ >= 0, "epoll_create1");
    for (std::size_t i = 0; i < fds.size(); ++i) {
      epoll_event interest{};
      interest.events = EPOLLIN;
      interest.data.u64 = i;
      require(epoll_ctl(epoll_, EPOLL_CTL_ADD, fds[i], &interest) == 0, "epoll_ctl");
    }
  }
  ~Client() { close(epoll_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Returns the number of right answers to `requests` messages.
  std::size_t run(std::size_t requests) {
    std::size_t to_send = requests;
    std::size_t answers = 0;
    std::size_t right = 0;
    for (std::size_t i = 0; i < fds_.size() && to_send > 0; ++i, --to_send) {
      send(i, to_send);
    }
    std::array<epoll_event, 256> events;
    while (answers < requests) {
      const int ready = epoll_wait(epoll_, events.data(), events.size(), -1);
      for (int i = 0; i < ready; ++i) {
        const std::size_t index = events[i].data.u64;
        Message answer;
        require(recv(fds_[index], answer.data(), kMessageBytes, 0) == kMessageBytes, "recv");
        ++answers;
        right += answer == sent_[index] ? 1U : 0U;
        if (to_send > 0) {
          send(index, to_send--);
        }
      }
    }
    return right;
  }

private:
  using Message = std::array<uint64_t, kMessageBytes / sizeof(uint64_t)>;

  void send(std::size_t index, uint64_t number) {
    sent_[index].fill(number);
    require(::send(fds_[index], sent_[index].data(), kMessageBytes, MSG_NOSIGNAL) == kMessageBytes, "send");
  }

  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const std::vector<int>& fds_;
  std::vector<Message> sent_;
};

// A peer's loop with its echo server, on one thread.
template <class Loop, class Echo>
class Server {
public:
  explicit Server(const std::vector<int>* fds) : echo_(loop_, *fds) {}
  void run() { loop_.run(); }
  void stop() { loop_.stop(); }
  template <class F>
  void post(F&& callback) {
    loop_.post(std::forward<F>(callback));
  }

private:
  Loop loop_;
  Echo echo_;
};

template <class Loop, class Echo>
void echo(::benchmark::State& state) {
  const auto connections = static_cast<std::size_t>(state.range(0));
  const std::size_t requests = sized(connections == 1 ? 60000 : 200000, connections);
  const ScopedCpu bound(1);
  while (state.KeepRunningBatch(static_cast<int64_t>(requests))) {
    const Connections sockets(connections);
    Client client(sockets.clients);
    LoopThread<Server<Loop, Echo>> server(0, &sockets.servers);
    client.run(connections);  // each connection once, before it counts
    const auto start = Clock::now();
    const std::size_t right = client.run(requests);
    state.SetIterationTime(secondsSince(start));
    server.loop().post([&server] { server.loop().stop(); });
    server.join();
    expectCount(state, requests, right);
  }
  state.SetItemsProcessed(state.iterations());
}

// Resident memory of watching an idle connection: the file event with its callback, and what the loop keeps for it. The
// sockets are open before: neither the kernel's memory nor the user's connection object counts, nor its handle (a
// pointer, for peers that hand one out). Unconnected UDP sockets, because 10,000 pairs exceed usual limits.
template <class Loop, class FileEvents>
void connectionRss(::benchmark::State& state) {
  const std::size_t count = std::min(sized(kIdleDescriptors, 100), raiseDescriptorLimit() - 100);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    std::vector<int> fds(count);
    for (int& fd : fds) {
      fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      require(fd >= 0, "socket");
    }
    uint64_t ready = 0;
    {
      Loop loop;
      loop.runIterations(1, [] {});
      const std::size_t handles = count * sizeof(void*) * (sizeof(FileEvents) == sizeof(std::vector<void*>) ? 1 : 0);
      const RssGrowth growth;
      const auto start = Clock::now();
      const FileEvents events(loop, fds, &ready);
      loop.runIterations(1, [] {});
      state.SetIterationTime(secondsSince(start));
      state.counters["bytes"] = (growth.bytes() - static_cast<double>(handles)) / static_cast<double>(count);
    }
    for (const int fd : fds) {
      close(fd);
    }
    expectCount(state, 0, ready);
  }
}

#define NUNCIO_ECHO_BENCHMARK(peer, Loop, Echo) \
  BENCHMARK(echo<Loop, Echo>)->Name("echo/" peer)->Arg(1)->Arg(64)->Arg(1000)->UseManualTime()

NUNCIO_ECHO_BENCHMARK("nuncio", NuncioLoop, NuncioEcho);
NUNCIO_ECHO_BENCHMARK("limit", EpollEchoLoop, EpollEcho);
NUNCIO_ECHO_BENCHMARK("envoy", EnvoyLoop, EnvoyEcho);
NUNCIO_ECHO_BENCHMARK("asio", AsioLoop, AsioEcho);
NUNCIO_ECHO_BENCHMARK("libuv", LibuvLoop, LibuvEcho);

BENCHMARK(connectionRss<NuncioLoop, NuncioFileEvents>)->Name("connection_rss/nuncio")->UseManualTime();
BENCHMARK(connectionRss<EnvoyLoop, EnvoyFileEvents>)->Name("connection_rss/envoy")->UseManualTime();
BENCHMARK(connectionRss<AsioLoop, AsioFileEvents>)->Name("connection_rss/asio")->UseManualTime();
BENCHMARK(connectionRss<LibuvLoop, LibuvFileEvents>)->Name("connection_rss/libuv")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
