#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/inline_function.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/time_system.h"

namespace nuncio {

// What a guard dog has seen of a dispatcher that is in one callback for too long.
struct StallReport {
  enum class Kind : uint8_t { Stall, Miss, MegaMiss, Kill, MultiKill };

  Kind kind = Kind::Stall;
  std::string dispatcher;
  // Its type ("Server::accept(int)::{lambda()#2}"), or where the continuation or co_await stands that it is.
  std::string callback;
  // For how long, to within an eighth of the shortest time of GuardDogOptions; and for how much of that the thread had
  // a processor: one that computes had it most of the time, one that is blocked in a system call or a lock, or is not
  // scheduled, did not.
  std::chrono::nanoseconds running{0};
  std::chrono::nanoseconds cpu{0};
  // Where the thread is, innermost first: "0x55d0c1 in spin() (program+0x1234)", for addr2line. Of stalls and kills;
  // empty where it has left the callback meanwhile, or blocks the signal that asks for it.
  std::vector<std::string> stack;
  // Stalls that were not reported since the last report, since there were too many in a minute.
  uint64_t suppressed = 0;

  bool computes() const { return cpu * 2 >= running; }
  // What the log has.
  std::string toString() const;
};

// Zero durations, but for `stall`, turn off what they are for; those beyond 68 years are 68 years.
struct GuardDogOptions {
  // In one callback for so long, and for 2, 4, 8, ... times that: reported, with the stack. At least 1 ms.
  std::chrono::milliseconds stall{25};
  // For so long: counted and reported, once each.
  std::chrono::milliseconds miss{200};
  std::chrono::milliseconds megamiss{1000};
  // For so long: the process is ended, by SIGABRT at that thread, so that a core dump has it and installCrashHandler()
  // names what it works on.
  std::chrono::milliseconds kill{0};
  // The same when so many of a group are, each for so long: `multikill_share` of its dispatchers, but at least two.
  std::chrono::milliseconds multikill{0};
  double multikill_share = 0;  // 0 to 1
  // Stalls beyond that are counted, and not reported.
  int reports_per_minute = 5;
  // Called for each report, beside the log, on the dog's thread; not to destroy the dog. May be empty.
  InlineFunction<void(const StallReport&), 48> on_event;
};

struct GuardDogStats {
  uint64_t stalls = 0;      // reported
  uint64_t suppressed = 0;  // and not
  uint64_t misses = 0;
  uint64_t megamisses = 0;
};

// GuardDog: watches dispatchers, and tells of callbacks that keep them from everything else.
//
//   auto dog = GuardDog::create({.stall = std::chrono::milliseconds(50)});
//   if (!dog.ok()) return dog.status();
//   GuardDog::Watch watch = (*dog)->watch(dispatcher);
//
//   stall: dispatcher worker_1 has been in one callback for 51 ms (computes: 49 ms of CPU): Lookup::all()::{lambda()#1}
//     0x5581e3f0a2c1 in Trie::walk() (server+0x142c1)
//     ...
//
// A thread of its own looks at them eight times a stall, or the shortest of its times (some 10 us of a processor), at
// what they note anyway: two stores a callback. A loop that sleeps is never reported. Only a thread that stalls is
// disturbed: by a real-time signal, whose handler notes the stack. System calls are restarted after it, but for those
// that never are (nanosleep, poll, epoll_wait: EINTR). While a stack is taken, for a tenth of a second at most, a
// fork() waits. See Seastar's stall detector and Envoy's guard dog.
//
// Threads: any, but the destructor not in `on_event`. An exception of `on_event` is logged, and ends that look.
// Lifetime: of dog, watches and dispatchers each may go first. Fork: in a child there is no such thread: what is
// inherited may be destroyed, and does nothing.
class GuardDog {
public:
  // Watches until it is destroyed.
  class [[nodiscard]] Watch {
  public:
    Watch() = default;  // nothing
    Watch(Watch&& other) noexcept = default;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch() { stop(); }

    void stop() noexcept;

  private:
    friend class GuardDogImpl;
    struct Watched;
    class WatchList;
    Watch(std::shared_ptr<WatchList> watch_list, std::shared_ptr<Watched> watched)
        : watch_list_(std::move(watch_list)), watched_(std::move(watched)) {}

    std::shared_ptr<WatchList> watch_list_;  // shared with the dog
    std::shared_ptr<Watched> watched_;
  };

  // InvalidArgument for options out of range; ResourceExhausted without descriptors, threads, memory, or a real-time
  // signal that is free. `time_system`: by which it measures, and looks; not owned; null: realTimeSystem().
  static absl::StatusOr<std::unique_ptr<GuardDog>> create(GuardDogOptions options, TimeSystem* time_system = nullptr);
  virtual ~GuardDog() = default;

  // Watches `dispatcher`, as one of `group` (see GuardDogOptions::multikill). Throws std::bad_alloc. One that has ended
  // is not watched.
  virtual Watch watch(Dispatcher& dispatcher, absl::string_view group = "") = 0;

  virtual GuardDogStats stats() const = 0;

  // The signal that asks a thread for its stack: the highest real-time signal that had no handler when the first dog
  // was made; 0 before. The handler stays for the life of the process.
  static int stackSignal();
};

}  // namespace nuncio
