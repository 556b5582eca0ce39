#pragma once

namespace nuncio {

// NoFork: a scope during which no other thread's fork() comes to pass: it waits until the scope ends. What the scope
// touches, be it under a lock that we do not know, is whole in a child then, and no lock is left taken there. A scope
// that begins while a fork is under way waits for that.
//
//   const NoFork no_fork;
//   sink.write(line);
//
// Threads: any. Nested scopes cost an increment, the outermost one two atomic operations. Not to be entered under a
// lock that is itself held over forks (ForkAware), since the two would wait for each other; the other way round is
// fine. A fork by the scope's own thread does not wait for it; two threads that fork within such scopes at the same
// time wait for each other.
class [[nodiscard]] NoFork {
public:
  NoFork() noexcept { enter(); }
  ~NoFork() { leave(); }
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;

  // The same in two steps.
  static void enter() noexcept;
  static void leave() noexcept;
};

}  // namespace nuncio
