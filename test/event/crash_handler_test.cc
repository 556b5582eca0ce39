// What the crash handler prints, in processes that die for it.

#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

class NamedObject : public TrackedObject {
public:
  explicit NamedObject(std::string name) : name_(std::move(name)) {}
  void dumpState(CrashOutput& out) const override { out << "object <" << name_ << "> number " << uint64_t{1234567}; }

private:
  const std::string name_;
};

// A sanitizer has handlers of its own, which end the process their way.
class Died {
public:
  explicit Died(int signal) : signal_(signal) {}
  bool operator()(int status) const {
    if (kSanitizer) {
      return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == signal_;
  }

private:
  const int signal_;
};

// Sends `signal` within a callback of a dispatcher that works on an outer and an inner object.
void crashInACallback(int signal) {
  installCrashHandler();
  DispatcherPtr dispatcher = createDispatcher({.name = "doomed"});
  dispatcher->post([&] {
    NamedObject outer("the connection");
    NamedObject inner("the stream");
    TrackedObjectScope track_outer(*dispatcher, outer);
    TrackedObjectScope track_inner(*dispatcher, inner);
    raise(signal);
  });
  dispatcher->run(RunType::Block);
}

class CrashHandlerTest : public testing::TestWithParam<int> {
protected:
  CrashHandlerTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

INSTANTIATE_TEST_SUITE_P(Signals, CrashHandlerTest, testing::Values(SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL),
                         [](const auto& test) { return std::string("SIG") + sigabbrev_np(test.param); });

TEST_P(CrashHandlerTest, PrintsTheDispatcherAndWhatItWorkedOnInnermostFirst) {
  EXPECT_EXIT(crashInACallback(GetParam()), Died(GetParam()),
              ContainsRegex("doomed(.|\n)*object <the stream> number 1234567(.|\n)*object <the connection>"));
}

class CrashDumpTest : public testing::Test {
protected:
  CrashDumpTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(CrashDumpTest, OfARealSegmentationFaultIsPrintedToo) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        DispatcherPtr dispatcher = createDispatcher({.name = "doomed"});
        NamedObject object("the pointer");
        dispatcher->post([&] {
          TrackedObjectScope track(*dispatcher, object);
          volatile uintptr_t address = 8;
          *reinterpret_cast<volatile int*>(address) = 1;  // NOLINT: this is the crash
        });
        dispatcher->run(RunType::Block);
      },
      Died(SIGSEGV), ContainsRegex("doomed(.|\n)*the pointer"));
}

TEST_F(CrashDumpTest, OfAnAbortOnAnotherThreadNamesThatThreadsDispatcher) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        DispatcherPtr innocent = createDispatcher({.name = "innocent"});
        DispatcherPtr guilty = createDispatcher({.name = "guilty"});
        NamedObject innocents("an innocent object");
        NamedObject guiltys("a guilty object");
        Notification ready;
        DispatcherThread thread(*guilty);
        innocent->post([&] {
          TrackedObjectScope track(*innocent, innocents);
          guilty->post([&] {
            TrackedObjectScope track_guilty(*guilty, guiltys);
            abort();
          });
          (void)ready.wait();  // never comes
        });
        innocent->run(RunType::Block);
      },
      Died(SIGABRT), AllOf(ContainsRegex("guilty(.|\n)*a guilty object"), Not(HasSubstr("innocent"))));
}

TEST_F(CrashDumpTest, OfAWorkerNamesTheWorker) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        auto pool = WorkerPool::create({.threads = 2});
        (*pool)->dispatcher(1).post([] { abort(); });
        (*pool)->stop();
      },
      Died(SIGABRT), AllOf(HasSubstr("worker_1"), Not(HasSubstr("worker_0"))));
}

TEST_F(CrashDumpTest, OutsideOfAnyDispatcherDoesNotHang) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        raise(SIGSEGV);
      },
      Died(SIGSEGV), "");
}

TEST_F(CrashDumpTest, ShowsNoObjectThatIsNoLongerTracked) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        DispatcherPtr dispatcher = createDispatcher({.name = "doomed"});
        dispatcher->post([&] {
          NamedObject kept("kept");
          TrackedObjectScope track(*dispatcher, kept);
          {
            NamedObject gone("gone");
            TrackedObjectScope track_gone(*dispatcher, gone);
          }
          abort();
        });
        dispatcher->run(RunType::Block);
      },
      Died(SIGABRT), AllOf(HasSubstr("<kept>"), Not(HasSubstr("<gone>"))));
}

TEST_F(CrashDumpTest, ShowsSixteenObjectsAndCountsTheDeeperOnes) {
  EXPECT_EXIT(
      {
        installCrashHandler();
        DispatcherPtr dispatcher = createDispatcher({.name = "doomed"});
        dispatcher->post([&] {
          std::vector<std::unique_ptr<NamedObject>> objects;
          for (int i = 1; i <= 19; ++i) {
            objects.push_back(std::make_unique<NamedObject>(absl::StrCat("level ", i)));
            dispatcher->pushTrackedObject(objects.back().get());
          }
          abort();
        });
        dispatcher->run(RunType::Block);
      },
      Died(SIGABRT),
      AllOf(HasSubstr("<level 1>"), HasSubstr("<level 16>"), Not(HasSubstr("<level 17>")), Not(HasSubstr("<level 19>")),
            ContainsRegex("(^|[^0-9])3([^0-9]|$)")));
}

TEST_F(CrashDumpTest, IsPrintedOnceHoweverOftenTheHandlerIsInstalled) {
  EXPECT_EXIT(
      {
        for (int i = 0; i < 5; ++i) {
          installCrashHandler();
        }
        crashInACallback(SIGABRT);
      },
      Died(SIGABRT), AllOf(HasSubstr("<the stream>"), Not(ContainsRegex("<the stream>(.|\n)*<the stream>"))));
}

TEST_F(CrashDumpTest, IsFollowedByWhatTheSignalDidBefore) {
  EXPECT_EXIT(
      {
        struct sigaction action{};
        action.sa_handler = [](int) {
          const char text[] = "the former handler\n";
          (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
          _exit(77);
        };
        sigaction(SIGSEGV, &action, nullptr);
        crashInACallback(SIGSEGV);
      },
      testing::ExitedWithCode(77), ContainsRegex("<the stream>(.|\n)*the former handler"));
}

TEST_F(CrashDumpTest, EndsThoughAnObjectCrashesInItsDump) {
  EXPECT_EXIT(
      {
        struct Treacherous : TrackedObject {
          void dumpState(CrashOutput& out) const override {
            out << "before the second crash\n";
            raise(SIGSEGV);
          }
        };
        installCrashHandler();
        DispatcherPtr dispatcher = createDispatcher({.name = "doomed"});
        dispatcher->post([&] {
          Treacherous object;
          TrackedObjectScope track(*dispatcher, object);
          raise(SIGSEGV);
        });
        dispatcher->run(RunType::Block);
      },
      Died(SIGSEGV), HasSubstr("before the second crash"));
}

TEST(TrackedObjectTest, ManyMoreThanAreShownMayBePushedAndPopped) {
  DispatcherPtr dispatcher = createDispatcher();
  std::vector<std::unique_ptr<NamedObject>> objects;
  for (int i = 0; i < 100; ++i) {
    objects.push_back(std::make_unique<NamedObject>("object"));
    dispatcher->pushTrackedObject(objects.back().get());
  }
  for (int i = 99; i >= 0; --i) {
    dispatcher->popTrackedObject(objects[i].get());
  }
}

}  // namespace
}  // namespace nuncio::test
