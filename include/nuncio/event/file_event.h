#pragma once

#include <cstdint>
#include <memory>

namespace nuncio {

// What a file event asks for and reports: a set of bits.
struct FileReadyType {
  static constexpr uint32_t Read = 0x1;    // data, a connection to accept, or the end of the stream
  static constexpr uint32_t Write = 0x2;   // room to write, or a connect that has ended
  static constexpr uint32_t Closed = 0x4;  // the peer closed, or shut down its writing side
};

enum class FileTriggerType {
  Level,  // reported in every iteration for as long as it holds
  Edge,   // reported once for each change: read, write or accept until EAGAIN
};

// FileEvent: calls back on the dispatcher's thread when a file descriptor is ready.
//
//   auto event = dispatcher.createFileEvent(fd, [this](uint32_t events) { onReady(events); }, FileTriggerType::Edge,
//                                           FileReadyType::Read | FileReadyType::Write);
//   if (!event.ok()) return event.status();
//   file_event_ = *std::move(event);
//
// The descriptor is the caller's: non-blocking, open for as long as the event lives, and closed only after the event is
// destroyed (a descriptor closed before would be reported for ever through any duplicate). A debug build looks, when
// the event is used, reported or destroyed, whether the number still stands for the same device and inode, and ends the
// program where it does not; of eventfds, timerfds and the like, which share an inode, it only sees that one is closed.
// All events on one descriptor have the same trigger type. An event with Closed alone enabled holds a duplicate of the
// descriptor for as long.
//
// For one-shot events call setEnabled(0) in the callback, and setEnabled() again when the next may be reported. There
// is no EPOLLPRI and no EPOLLEXCLUSIVE: libevent has neither flag, and an epoll of one's own, nested in those of
// several loops, wakes all of them. For a listener of many loops give each a socket of its own with SO_REUSEPORT, or
// accept on one loop and post the connections to the others.
//
// Errors on the descriptor (EPOLLERR, EPOLLHUP) are reported as those of Read and Write that are enabled, and as Closed
// where Closed alone is enabled; the next read or write tells the cause. The end of the stream is Read and a read of 0
// bytes; Closed is reported only when it is enabled.
//
// Threads: the dispatcher's thread only. Lifetime: may be destroyed in its own callback, which then never runs again.
// It may outlive the dispatcher, and then does nothing.
class FileEvent {
public:
  virtual ~FileEvent() = default;

  // Runs the callback with these bits in the next iteration, together with what the descriptor reports by then, whether
  // or not they are enabled. Zero or unknown bits break the contract: fatal in debug, refused in release.
  virtual void activate(uint32_t events) = 0;

  // Replaces the set of enabled bits; 0 silences the event. Pending activations of bits no longer enabled are dropped.
  // With Edge, what still holds is reported again, also when the set is the same. With Level, an unchanged set costs no
  // system call; a changed one costs two. False when the kernel refuses (memory, the limit of watches), with an error
  // in the log: nothing is enabled then, and setEnabled may be tried again. Unknown bits break the contract.
  virtual bool setEnabled(uint32_t events) = 0;
};

using FileEventPtr = std::unique_ptr<FileEvent>;

}  // namespace nuncio
