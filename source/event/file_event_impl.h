#pragma once

#include <cstdint>
#include <new>
#include <utility>

#include "absl/status/statusor.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/callback.h"
#include "nuncio/event/file_event.h"
#include "source/event/libevent.h"
#include "source/event/loop.h"

namespace nuncio {

class FileEventImpl final : public FileEvent, private WorkItem {
public:
  // See Dispatcher::createFileEvent.
  static absl::StatusOr<FileEventPtr> create(Loop& loop, int fd, FileReadyCb cb, FileTriggerType trigger,
                                             uint32_t events, bool own = false);
  // One of the loop's own, which does not keep a run going: edge-triggered, for reading.
  static absl::StatusOr<FileEventPtr> createOwn(Loop& loop, int fd, FileReadyCb cb) {
    return create(loop, fd, std::move(cb), FileTriggerType::Edge, FileReadyType::Read, /*own=*/true);
  }
  ~FileEventImpl() override = default;
  static void operator delete(FileEventImpl* event, std::destroying_delete_t) { Loop::destroyHandle(event); }

  // FileEvent
  void activate(uint32_t events) override;
  bool setEnabled(uint32_t events) override;

private:
  friend class Loop;
  FileEventImpl(Loop& loop, int fd, FileReadyCb cb, FileTriggerType trigger, bool own);
  void leaveLoop();
  void rememberDescriptor();
  // In debug builds, fatal when the descriptor is not the one that was registered.
  void checkDescriptor(const char* operation) const;
  static void freeMemory(Loop&, FileEventImpl* event) { ::operator delete(event); }

  bool closedOnly() const;
  short libeventFlags() const;
  absl::Status enable(uint32_t events);
  absl::Status add();
  void disable();
  void onReady(short what);
  void deliver(uint32_t events);
  void runWork() override;  // an activation that no event of the descriptor took along

  Loop* const loop_;          // outlives the event, and the event_base with it
  FileDescriptor duplicate_;  // while Closed alone is enabled
  // For debug builds, which file the number stood for, as a hash. Eventfds, timerfds and their like share one inode:
  // where one of them has taken the number of another, this cannot tell.
  uint32_t identity_ = 0;
  EventPtr raw_event_;
  FileReadyCb cb_;
  const int fd_;
  const bool edge_ : 1;
  const bool own_ : 1;
  uint8_t enabled_ = 0;
  uint8_t activated_ = 0;
  uint8_t identity_generation_ = 0;  // of forks, truncated; children may have closed what they inherited
};

}  // namespace nuncio
