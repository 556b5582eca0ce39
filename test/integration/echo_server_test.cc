// Drives //examples:echo_server from outside, with clients that are not ours (nc, socat) and with rude ones.

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <poll.h>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/integration/subprocess.h"
#include "test/integration/tcp_client.h"

namespace nuncio {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

constexpr size_t kMiB = 1024 * 1024;

std::vector<std::string> command(std::vector<std::string> flags) {
  const char* const path = std::getenv("ECHO_SERVER");
  flags.insert(flags.begin(), path != nullptr ? path : "examples/echo_server");
  return flags;
}

// What a command of the shell prints.
std::string shell(const std::string& text) {
  std::string output;
  if (FILE* const pipe = ::popen(text.c_str(), "r"); pipe != nullptr) {
    char buffer[4096];
    size_t size;
    while ((size = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0) {
      output.append(buffer, size);
    }
    ::pclose(pipe);
  }
  return output;
}

class EchoServerTest : public testing::Test {
protected:
  void start(std::vector<std::string> flags = {}, unsigned max_descriptors = 0) {
    flags.insert(flags.begin(), {"--port=0", "--workers=2"});
    server_ = std::make_unique<Subprocess>(command(std::move(flags)), max_descriptors);
    // "listening on 127.0.0.1:PORT with ..."
    const std::string line = server_->readLine().value_or("");
    const size_t colon = line.find(':');
    ASSERT_NE(colon, std::string::npos) << line << server_->output();
    port_ = static_cast<uint16_t>(std::atoi(line.c_str() + colon + 1));
    ASSERT_GT(port_, 0) << line;
  }

  void TearDown() override {
    // Whatever a test did to it, the server still stops as it should.
    if (server_ != nullptr && !stopped_) {
      server_->signal(SIGTERM);
      expectCleanExit();
    }
    if (HasFailure() && server_ != nullptr) {
      std::fprintf(stderr, "The server printed:\n%s\n", server_->output().c_str());
    }
  }

  void expectCleanExit() {
    stopped_ = true;
    EXPECT_EQ(server_->waitForExit(), 0);
  }

  void expectEcho() const {
    TcpClient client(port_);
    EXPECT_TRUE(client.send("are you there?"));
    EXPECT_EQ(client.receive(14), "are you there?");
  }

  std::string address() const { return absl::StrCat("127.0.0.1 ", port_); }

  std::unique_ptr<Subprocess> server_;
  uint16_t port_ = 0;
  bool stopped_ = false;
};

TEST_F(EchoServerTest, SaysWhereItListensAndHowToTryIt) {
  start();
  EXPECT_EQ(server_->readLine(), absl::StrCat("try: printf 'hello\\n' | nc -q1 ", address()));
}

TEST_F(EchoServerTest, AnswersNetcatAsTheReadmePromises) {
  start();
  std::string answer;
  for (int attempt = 0; attempt < 10 && answer != "hello\n";
       ++attempt) {  // nc waits one second, which may be too short
    answer = shell(absl::StrCat("printf 'hello\\n' | nc -q1 ", address()));
  }
  EXPECT_EQ(answer, "hello\n");
}

TEST_F(EchoServerTest, NetcatThatHalfClosesGetsTheWholeOfALargeEcho) {
  start();
  EXPECT_EQ(shell(absl::StrCat("head -c 20000000 /dev/zero | nc -N ", address(), " | wc -c")), "20000000\n");
}

TEST_F(EchoServerTest, SocatThatHalfClosesGetsBackWhatItSentUnchanged) {
  start();
  EXPECT_EQ(shell(absl::StrCat("seq 1000000 | socat -t60 - TCP:127.0.0.1:", port_, " | cksum")),
            shell("seq 1000000 | cksum"));
}

TEST_F(EchoServerTest, ManySocatsAtOnce) {
  start();
  const std::string clients =
      absl::StrCat("for i in $(seq 20); do seq 50000 | socat -t60 - TCP:127.0.0.1:", port_, " | cksum & done; wait");
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    expected += shell("seq 50000 | cksum");
  }
  EXPECT_EQ(shell(clients), expected);
}

TEST_F(EchoServerTest, ServesAThousandConnectionsAtOnce) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  start();
  std::vector<TcpClient> clients;
  for (int i = 0; i < 1000; ++i) {
    clients.emplace_back(port_);
    ASSERT_TRUE(clients.back().connected()) << i;
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < clients.size(); ++i) {
      ASSERT_TRUE(clients[i].send(absl::StrCat("round ", round, " client ", 1000 + i)));
    }
    for (size_t i = 0; i < clients.size(); ++i) {
      const std::string expected = absl::StrCat("round ", round, " client ", 1000 + i);
      ASSERT_EQ(clients[i].receive(expected.size()), expected);
    }
  }
}

TEST_F(EchoServerTest, ReportsWhatItServed) {
  start();
  TcpClient client(port_);
  ASSERT_TRUE(client.send("hello"));
  EXPECT_EQ(client.receive(5), "hello");
  EXPECT_TRUE(server_->waitForLineWith("clients: 1 now, 1 in all; echoed 5 bytes"));
  client.reset();
  EXPECT_TRUE(server_->waitForLineWith("clients: 0 now, 1 in all; echoed 5 bytes"));
}

TEST_F(EchoServerTest, ClientsThatVanishHarmNobody) {
  start();
  for (int i = 0; i < 200; ++i) {
    TcpClient client(port_);
    client.sendUntilStuck('x', i % 2 == 0 ? 1 : kMiB);  // with an echo on its way that nobody takes
    client.reset();
  }
  expectEcho();
  EXPECT_TRUE(server_->waitForLineWith("clients: 0 now, 201 in all"));
}

TEST_F(EchoServerTest, AClientThatNeverReadsCostsLittleMemoryAndHarmsNobody) {
  start();
  constexpr size_t kLimit = 64 * kMiB;
  const size_t before = server_->residentBytes();
  std::vector<TcpClient> clients;
  std::vector<size_t> sent;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back(port_);
    sent.push_back(clients.back().sendUntilStuck('x', kLimit));
    EXPECT_LT(sent.back(), kLimit);  // the server stopped reading
  }
  EXPECT_LT(server_->residentBytes(), before + 16 * kMiB);
  expectEcho();
  // When they do read, they get all of it.
  for (int i = 0; i < 4; ++i) {
    clients[i].shutdownWrite();
    EXPECT_EQ(clients[i].countUntilEnd(), static_cast<int64_t>(sent[i]));
  }
}

TEST_F(EchoServerTest, OneByteOfBufferIsEnough) {
  start({"--max_buffer=1"});
  EXPECT_EQ(shell(absl::StrCat("seq 10000 | socat -t60 - TCP:127.0.0.1:", port_, " | cksum")),
            shell("seq 10000 | cksum"));
}

TEST_F(EchoServerTest, OutOfDescriptorsItPausesWithoutSpinningAndServesEverybodyInTheEnd) {
  start({}, 48);
  std::vector<TcpClient> clients;
  for (int i = 0; i < 150; ++i) {
    clients.emplace_back(port_);
    ASSERT_TRUE(clients.back().connected()) << i;
    ASSERT_TRUE(clients.back().send("x"));
  }
  // The reports come a second apart. From the second one on there is nothing but pauses.
  ASSERT_TRUE(server_->waitForLineWith(" pauses for want of descriptors"));
  ASSERT_TRUE(server_->waitForLineWith(" pauses for want of descriptors"));
  const auto start_time = steady_clock::now();
  const milliseconds start_cpu = server_->cpuTime();
  ASSERT_TRUE(server_->waitForLineWith(" pauses for want of descriptors"));
  ASSERT_TRUE(server_->waitForLineWith(" pauses for want of descriptors"));
  EXPECT_LT(server_->cpuTime() - start_cpu, (steady_clock::now() - start_time) / 2);

  // Who is served leaves, and makes room for the next.
  while (!clients.empty()) {
    std::vector<pollfd> waiting;
    waiting.reserve(clients.size());
    for (const TcpClient& client : clients) {
      waiting.push_back({client.fd(), POLLIN, 0});
    }
    ASSERT_GT(::poll(waiting.data(), waiting.size(), milliseconds(kTestPatience).count()), 0) << clients.size();
    std::vector<TcpClient> unserved;
    for (size_t i = 0; i < clients.size(); ++i) {
      if (waiting[i].revents == 0) {
        unserved.push_back(std::move(clients[i]));
      } else {
        ASSERT_EQ(clients[i].receive(1), "x");
      }
    }
    clients.swap(unserved);
  }
  expectEcho();
}

TEST_F(EchoServerTest, ClosesWhoIsIdleAndKeepsWhoIsNot) {
  start({"--idle_timeout=2s"});
  TcpClient silent(port_);
  TcpClient never_reading(port_);
  never_reading.sendUntilStuck('x', 64 * kMiB);
  TcpClient active(port_);
  pollfd closed{silent.fd(), POLLIN, 0};
  while (::poll(&closed, 1, 10) == 0) {
    ASSERT_TRUE(active.send("ping"));
    ASSERT_EQ(active.receive(4), "ping");
  }
  EXPECT_EQ(silent.countUntilEnd(), 0);
  EXPECT_TRUE(server_->waitForLineWith("clients: 1 now"));
  EXPECT_TRUE(active.send("ping"));
  EXPECT_EQ(active.receive(4), "ping");
  EXPECT_TRUE(never_reading.waitForEnd());
}

TEST_F(EchoServerTest, SigtermLetsEchoesOnTheirWayFinish) {
  start({"--drain_timeout=10m"});
  TcpClient client(port_);
  const size_t sent = client.sendUntilStuck('x', 64 * kMiB);
  ASSERT_GT(sent, 0);
  server_->signal(SIGTERM);
  ASSERT_TRUE(waitUntilRefused(port_));
  client.shutdownWrite();
  EXPECT_EQ(client.countUntilEnd(), static_cast<int64_t>(sent));
  expectCleanExit();
  EXPECT_THAT(server_->output(), HasSubstr(absl::StrCat("echoed ", sent, " bytes")));
}

TEST_F(EchoServerTest, SigintDoesNotWaitForWhoIsSilent) {
  start({"--drain_timeout=10m"});
  TcpClient silent(port_);
  ASSERT_TRUE(silent.send("hello"));
  ASSERT_EQ(silent.receive(5), "hello");
  server_->signal(SIGINT);
  EXPECT_EQ(silent.countUntilEnd(), 0);
  expectCleanExit();
}

TEST_F(EchoServerTest, DrainEndsAtItsDeadline) {
  start({"--drain_timeout=500ms"});
  TcpClient never_reading(port_);
  never_reading.sendUntilStuck('x', 64 * kMiB);
  server_->signal(SIGTERM);
  expectCleanExit();
  EXPECT_TRUE(never_reading.waitForEnd());
}

TEST_F(EchoServerTest, ASecondSignalEndsTheDrain) {
  start({"--drain_timeout=10m"});
  TcpClient never_reading(port_);
  never_reading.sendUntilStuck('x', 64 * kMiB);
  server_->signal(SIGTERM);
  ASSERT_TRUE(waitUntilRefused(port_));
  server_->signal(SIGINT);
  expectCleanExit();
}

TEST_F(EchoServerTest, StopsWhileClientsComeAndGo) {
  start();
  std::FILE* const clients = ::popen(
      absl::StrCat("for i in $(seq 300); do echo hello | nc -N ", address(), " >/dev/null 2>&1; done").c_str(), "r");
  ASSERT_NE(clients, nullptr);
  ASSERT_TRUE(server_->waitForLineWith(" in all"));
  server_->signal(SIGTERM);
  expectCleanExit();
  ::pclose(clients);
}

TEST_F(EchoServerTest, APortInUseIsNamedWithWhatToDo) {
  start();
  Subprocess second(command({absl::StrCat("--port=", port_)}));
  EXPECT_EQ(second.waitForExit(), 1);
  EXPECT_THAT(second.output(), HasSubstr(absl::StrCat("port ", port_, ": Address already in use")));
  EXPECT_THAT(second.output(), HasSubstr("choose another with --port"));
  expectEcho();
}

TEST_F(EchoServerTest, TooFewDescriptorsToStartIsAnError) {
  Subprocess server(command({"--port=0", "--workers=20"}), 24);
  EXPECT_EQ(server.waitForExit(), 1);
  EXPECT_THAT(server.output(), HasSubstr("echo_server: "));
}

struct WrongFlag {
  std::string name;
  std::string flag;
  std::string complaint;
};

class EchoServerFlagTest : public testing::TestWithParam<WrongFlag> {};

TEST_P(EchoServerFlagTest, IsRefusedWithAReason) {
  Subprocess server(command({GetParam().flag}));
  EXPECT_EQ(server.waitForExit(), 1);
  EXPECT_THAT(server.output(), HasSubstr(GetParam().complaint));
}

INSTANTIATE_TEST_SUITE_P(
    , EchoServerFlagTest,
    testing::Values(WrongFlag{"PortOutOfRange", "--port=70000", "'70000' specified for flag 'port'"},
                    WrongFlag{"PortByName", "--port=http", "'http' specified for flag 'port'"},
                    WrongFlag{"NegativeWorkers", "--workers=-1", "'-1' specified for flag 'workers'"},
                    WrongFlag{"TooManyWorkers", "--workers=5000", "4096"},
                    WrongFlag{"NoBuffer", "--max_buffer=0", "max_buffer"},
                    WrongFlag{"NoIdleTimeout", "--idle_timeout=0", "idle_timeout"},
                    WrongFlag{"NegativeDrainTimeout", "--drain_timeout=-1s", "drain_timeout"},
                    WrongFlag{"HostName", "--address=localhost", "--address=localhost is not an IPv4 address"},
                    WrongFlag{"UnknownLogLevel", "--log_level=loud", "loud"},
                    WrongFlag{"Argument", "9000", "unexpected argument 9000"},
                    WrongFlag{"UnknownFlag", "--prot=1", "Unknown command line flag 'prot'"}),
    [](const auto& wrong) { return wrong.param.name; });

}  // namespace
}  // namespace nuncio
