#include "source/network/memory_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nuncio/common/assert.h"
#include "nuncio/event/internal/loop_core.h"

namespace nuncio::network {
namespace {

constexpr uint32_t kAll = FileReadyType::Read | FileReadyType::Write | FileReadyType::Closed;

std::size_t sizeOf(absl::Span<const iovec> spans) {
  std::size_t size = 0;
  for (const iovec& span : spans) {
    size += span.iov_len;
  }
  return size;
}

}  // namespace

// --- MemoryReadiness

MemoryReadiness::MemoryReadiness(Dispatcher& dispatcher)
    : dispatcher_(dispatcher.handle()), loop_(&dispatcher.loop()) {}

void MemoryReadiness::tell(uint32_t events) {
  events_.fetch_or(events, std::memory_order_release);
  if (LoopCore::current() == loop_) {
    if (look_ != nullptr) {
      look_->scheduleCurrentIteration();
    }
    return;
  }
  if (!on_its_way_.exchange(true, std::memory_order_acq_rel)) {
    dispatcher_.post([self = shared_from_this()] {
      self->on_its_way_.store(false, std::memory_order_release);
      if (self->look_ != nullptr) {
        self->look_->scheduleCurrentIteration();
      }
    });
  }
}

// --- MemoryEvent

MemoryEvent::MemoryEvent(Dispatcher& dispatcher, std::shared_ptr<Source> source, FileReadyCb cb,
                         FileTriggerType trigger, uint32_t events)
    : dispatcher_(dispatcher),
      source_(std::move(source)),
      cb_(std::move(cb)),
      edge_(trigger == FileTriggerType::Edge),
      enabled_(events),
      readiness_(std::make_shared<MemoryReadiness>(dispatcher)),
      look_(dispatcher.createSchedulableCallback([this] { look(); })),
      look_later_(dispatcher.createSchedulableCallback([this] { look(); })) {
  readiness_->attach(*look_);
  source_->setReadiness(readiness_);
  reportAll();
}

MemoryEvent::~MemoryEvent() {
  source_->setReadiness(nullptr);
  readiness_->detach();
}

void MemoryEvent::activate(uint32_t events) {
  activated_ |= events;
  look_later_->scheduleNextIteration();
}

bool MemoryEvent::setEnabled(uint32_t events) {
  enabled_ = events;
  activated_ &= events;
  reportAll();
  return true;
}

void MemoryEvent::reportAll() { readiness_->tell(kAll); }

// What was told may not hold any more, and is not reported then: a user that reads on every report, as those of sockets
// do, finds nothing out of order in that; one that is told too little would wait for ever.
void MemoryEvent::look() {
  std::optional<MonotonicTime> next;
  const uint32_t told = readiness_->take();
  const uint32_t ready = source_->ready(next);
  if (next) {
    if (timer_ == nullptr) {
      timer_ = dispatcher_.createTimer([this] { readiness_->tell(kAll); });
    }
    timer_->enableTimerAt(*next);
  }
  const uint32_t events = ((edge_ ? told & ready : ready) & enabled_) | std::exchange(activated_, 0);
  if (events == 0) {
    return;
  }
  if (!edge_) {
    look_later_->scheduleNextIteration();
  }
  cb_(events);  // which may destroy this
}

// --- MemoryLinkImpl

MemoryLinkImpl::MemoryLinkImpl(const MemoryLinkOptions& options) : options_(options), random_(options.seed) {}

MonotonicTime MemoryLinkImpl::now() const {
  return options_.time != nullptr ? options_.time->monotonicTime() : realTimeSystem().monotonicTime();
}

bool MemoryLinkImpl::chance(double probability) { return probability > 0 && random_.fraction() < probability; }

void MemoryLinkImpl::Notices::send() {
  for (std::size_t i = 0; i < whom.size(); ++i) {
    if (whom[i] != nullptr) {
      whom[i]->tell(what[i]);
    }
  }
}

void MemoryLinkImpl::note(Notices& notices, int end, uint32_t events) {
  if (const MemoryReadinessPtr& readiness = ends_[end].readiness; readiness != nullptr) {
    notices.whom[end] = readiness;
    notices.what[end] |= events;
  }
}

std::size_t MemoryLinkImpl::room(const Direction& direction) const {
  return options_.capacity - std::min(options_.capacity, direction.held());
}

void MemoryLinkImpl::settleConnect(End& end) {
  if (end.connect_due && *end.connect_due <= now()) {
    end.connect_error = end.connect_comes_to;
    end.connect_due.reset();
  }
}

bool MemoryLinkImpl::arrive(Direction& direction) {
  if (cut_ || (direction.travelling.empty() && !direction.end_sent)) {
    return false;
  }
  const MonotonicTime time = now();
  bool any = false;
  while (!direction.travelling.empty() && direction.travelling.front().due <= time &&
         direction.unread() < options_.receive_window) {
    std::string& bytes = direction.travelling.front().bytes;
    const std::size_t size = std::min(bytes.size(), options_.receive_window - direction.unread());
    direction.arrived.append(bytes, 0, size);
    direction.travelling_bytes -= size;
    any = true;
    if (size < bytes.size()) {
      bytes.erase(0, size);
      break;
    }
    direction.travelling.pop_front();
  }
  if (direction.end_sent && !direction.end_arrived && direction.travelling.empty() && direction.end_due <= time) {
    direction.end_arrived = true;
    any = true;
  }
  return any;
}

std::optional<MonotonicTime> MemoryLinkImpl::nextArrival(const Direction& direction) const {
  if (cut_) {
    return std::nullopt;
  }
  if (!direction.travelling.empty()) {
    const MonotonicTime due = direction.travelling.front().due;
    return due > now() ? std::optional(due) : std::nullopt;  // else it waits for room
  }
  if (direction.end_sent && !direction.end_arrived) {
    return direction.end_due;
  }
  return std::nullopt;
}

IoResult MemoryLinkImpl::read(int end, absl::Span<const iovec> spans) {
  Notices notices;
  IoResult result;
  {
    const MutexLock lock(lock_);
    Direction& from = to_[end];
    End& here = ends_[end];
    arrive(from);
    const std::size_t wanted = sizeOf(spans);
    if (from.unread() == 0) {
      if (from.end_arrived || here.broken_told || wanted == 0) {
        return {};
      }
      if (here.broken) {
        here.broken_told = true;
        return {0, ECONNRESET};
      }
      return {0, here.connect_error == EINPROGRESS ? ENOTCONN : EAGAIN};
    }
    if (chance(options_.again)) {
      note(notices, end, FileReadyType::Read);
      result.error = EAGAIN;
    } else {
      std::size_t size = std::min(wanted, from.unread());
      if (size > 1 && chance(options_.short_read)) {
        size = 1 + random_() % size;
        note(notices, end, FileReadyType::Read);  // since who gets less than there was room for takes it for all
      }
      result.bytes = size;
      for (const iovec& span : spans) {
        const std::size_t part = std::min(size, span.iov_len);
        std::memcpy(span.iov_base, from.arrived.data() + from.read, part);
        from.read += part;
        size -= part;
      }
      if (from.unread() == 0) {
        from.arrived.clear();
        from.read = 0;
      }
      if (arrive(from)) {
        note(notices, end, FileReadyType::Read | (from.end_arrived ? FileReadyType::Closed : 0));
      }
      if (std::exchange(from.writer_waits, false)) {
        note(notices, 1 - end, FileReadyType::Write);
      }
    }
  }
  notices.send();
  return result;
}

void MemoryLinkImpl::send(Direction& direction, absl::Span<const iovec> spans, std::size_t bytes) {
  MonotonicTime due{};
  const bool at_once = !cut_ && options_.delay.count() == 0 && options_.bytes_per_second == 0 &&
                       direction.travelling.empty() && direction.unread() + bytes <= options_.receive_window;
  std::string* to = &direction.arrived;
  if (!at_once) {
    const MonotonicTime time = now();
    due = time + options_.delay;
    if (options_.bytes_per_second != 0) {
      direction.line_free = std::max(direction.line_free, time) +
                            std::chrono::nanoseconds(bytes * 1'000'000'000 / options_.bytes_per_second);
      due = direction.line_free + options_.delay;
    }
    to = &direction.travelling.emplace_back(Parcel{due, {}}).bytes;
    direction.travelling_bytes += bytes;
  }
  for (const iovec& span : spans) {
    const std::size_t part = std::min(bytes, span.iov_len);
    to->append(static_cast<const char*>(span.iov_base), part);
    bytes -= part;
  }
}

IoResult MemoryLinkImpl::write(int end, absl::Span<const iovec> spans) {
  Notices notices;
  IoResult result;
  {
    const MutexLock lock(lock_);
    Direction& to = to_[1 - end];
    settleConnect(ends_[end]);
    if (ends_[end].broken || to.end_sent) {
      return {0, EPIPE};
    }
    if (ends_[end].connect_error != 0) {
      return {0, ends_[end].connect_error == EINPROGRESS ? EAGAIN : ENOTCONN};
    }
    std::size_t size = sizeOf(spans);
    if (size == 0) {
      return {};
    }
    if (ends_[1 - end].closed) {  // its system answers with an RST
      breakOff(end, notices);
      result.bytes = size;
    } else if (room(to) == 0 || chance(options_.again)) {
      if (room(to) == 0) {
        to.writer_waits = true;
      } else {
        note(notices, end, FileReadyType::Write);
      }
      result.error = EAGAIN;
    } else {
      const std::size_t all = size;
      size = std::min(size, room(to));
      if (size > 1 && chance(options_.short_write)) {
        size = 1 + random_() % size;
      }
      send(to, spans, size);
      result.bytes = size;
      if (size < all) {
        to.writer_waits = room(to) == 0;
        if (!to.writer_waits) {
          note(notices, end, FileReadyType::Write);
        }
      }
      note(notices, 1 - end, FileReadyType::Read);
    }
  }
  notices.send();
  return result;
}

void MemoryLinkImpl::sendEnd(Direction& direction) {
  if (!direction.end_sent) {
    direction.end_sent = true;
    direction.end_due = options_.delay.count() == 0 && options_.bytes_per_second == 0
                            ? MonotonicTime::min()
                            : std::max(direction.line_free, now()) + options_.delay;
  }
}

int MemoryLinkImpl::shutdownWrite(int end) {
  Notices notices;
  {
    const MutexLock lock(lock_);
    settleConnect(ends_[end]);
    if (ends_[end].broken || ends_[end].connect_error != 0) {
      return ENOTCONN;
    }
    sendEnd(to_[1 - end]);
    note(notices, 1 - end, FileReadyType::Read | FileReadyType::Closed);
  }
  notices.send();
  return 0;
}

// An RST comes to `end`: what has arrived there can be read, all else is lost.
void MemoryLinkImpl::breakOff(int end, Notices& notices) {
  if (std::exchange(ends_[end].broken, true)) {
    return;
  }
  Direction& in = to_[end];
  arrive(in);
  in.travelling.clear();
  in.travelling_bytes = 0;
  in.end_sent = in.end_arrived;
  to_[1 - end] = Direction();
  note(notices, end, kAll);
}

void MemoryLinkImpl::close(int end) {
  Notices notices;
  {
    const MutexLock lock(lock_);
    if (std::exchange(ends_[end].closed, true)) {
      return;
    }
    ends_[end].readiness = nullptr;
    if (!ends_[end].broken && !ends_[1 - end].closed) {
      if (to_[end].held() != 0) {
        breakOff(1 - end, notices);
      } else {
        sendEnd(to_[1 - end]);
        note(notices, 1 - end, FileReadyType::Read | FileReadyType::Closed);
      }
    }
    to_[end] = Direction();
  }
  notices.send();
}

void MemoryLinkImpl::abort(int end) {
  Notices notices;
  {
    const MutexLock lock(lock_);
    if (std::exchange(ends_[end].closed, true)) {
      return;
    }
    ends_[end].readiness = nullptr;
    if (!ends_[1 - end].closed) {
      breakOff(1 - end, notices);
    }
    to_[end] = Direction();
  }
  notices.send();
}

bool MemoryLinkImpl::delivered(int end) const {
  const MutexLock lock(lock_);
  const Direction& to = to_[1 - end];
  return to.travelling.empty() && (!to.end_sent || to.end_due <= now());
}

int MemoryLinkImpl::connectResult(int end) {
  const MutexLock lock(lock_);
  settleConnect(ends_[end]);
  return ends_[end].connect_error;
}

uint32_t MemoryLinkImpl::ready(int end, std::optional<MonotonicTime>& next) {
  const MutexLock lock(lock_);
  End& here = ends_[end];
  Direction& in = to_[end];
  settleConnect(here);
  if (here.connect_error == EINPROGRESS) {
    next = here.connect_due;
    return 0;
  }
  if (here.connect_error != 0 || here.broken) {
    return kAll;
  }
  arrive(in);
  next = nextArrival(in);
  uint32_t events = in.unread() != 0 ? FileReadyType::Read : 0;
  if (in.end_arrived) {
    events |= FileReadyType::Read | FileReadyType::Closed;
  }
  if (const Direction& out = to_[1 - end]; out.end_sent || room(out) != 0) {
    events |= FileReadyType::Write;
  }
  return events;
}

void MemoryLinkImpl::setReadiness(int end, MemoryReadinessPtr readiness) {
  const MutexLock lock(lock_);
  ends_[end].readiness.swap(readiness);
}

void MemoryLinkImpl::beginConnect() {
  const MutexLock lock(lock_);
  ends_[0].connect_error = EINPROGRESS;
}

void MemoryLinkImpl::finishConnect(int error, std::chrono::microseconds after) {
  Notices notices;
  {
    const MutexLock lock(lock_);
    End& end = ends_[0];
    end.connect_comes_to = error;
    end.connect_due = now() + after;
    note(notices, 0, kAll);
  }
  notices.send();
}

bool MemoryLinkImpl::bothClosed() const {
  const MutexLock lock(lock_);
  return ends_[0].closed && ends_[1].closed;
}

void MemoryLinkImpl::reset() {
  Notices notices;
  {
    const MutexLock lock(lock_);
    breakOff(0, notices);
    breakOff(1, notices);
  }
  notices.send();
}

void MemoryLinkImpl::cut() {
  const MutexLock lock(lock_);
  cut_ = true;
}

void MemoryLinkImpl::restore() {
  Notices notices;
  {
    const MutexLock lock(lock_);
    cut_ = false;
    note(notices, 0, kAll);
    note(notices, 1, kAll);
  }
  notices.send();
}

// --- The handles

namespace {

class MemoryHandle final : public IoHandle {
public:
  MemoryHandle(std::shared_ptr<MemoryLinkImpl> link, int end, const Address& local, const Address& peer)
      : link_(std::move(link)), end_(end), local_(local), peer_(peer) {}
  ~MemoryHandle() override { link_->close(end_); }

  IoResult read(absl::Span<const iovec> spans) override { return link_->read(end_, spans); }
  IoResult write(absl::Span<const iovec> spans) override { return link_->write(end_, spans); }
  int shutdownWrite() override { return link_->shutdownWrite(end_); }
  void close() override { link_->close(end_); }
  void abort() override { link_->abort(end_); }
  int connectResult() override { return link_->connectResult(end_); }
  bool delivered() const override { return link_->delivered(end_); }
  Address localAddress() const override { return local_; }
  Address peerAddress() const override { return peer_; }
  int nativeFd() const override { return -1; }

  absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb, uint32_t events) override {
    if (!NUNCIO_CONTRACT(cb != nullptr, dispatcher.name(), "IoHandle::createReadyEvent", "null callback")) {
      return absl::InvalidArgumentError("null callback");
    }
    return std::make_unique<MemoryEvent>(dispatcher, std::make_shared<EndSource>(link_, end_), std::move(cb),
                                         FileTriggerType::Edge, events);
  }

private:
  class EndSource final : public MemoryEvent::Source {
  public:
    EndSource(std::shared_ptr<MemoryLinkImpl> link, int end) : link_(std::move(link)), end_(end) {}
    uint32_t ready(std::optional<MonotonicTime>& next) override { return link_->ready(end_, next); }
    void setReadiness(MemoryReadinessPtr readiness) override { link_->setReadiness(end_, std::move(readiness)); }

  private:
    const std::shared_ptr<MemoryLinkImpl> link_;
    const int end_;
  };

  const std::shared_ptr<MemoryLinkImpl> link_;
  const int end_;
  const Address local_;
  const Address peer_;
};

}  // namespace

IoHandlePtr makeMemoryHandle(std::shared_ptr<MemoryLinkImpl> link, int end, const Address& local, const Address& peer) {
  return std::make_unique<MemoryHandle>(std::move(link), end, local, peer);
}

MemoryPair makeMemoryPair(const MemoryLinkOptions& options) {
  auto link = std::make_shared<MemoryLinkImpl>(options);
  IoHandlePtr first = makeMemoryHandle(link, 0, Address(), Address());
  IoHandlePtr second = makeMemoryHandle(link, 1, Address(), Address());
  return {std::move(first), std::move(second), std::move(link)};
}

}  // namespace nuncio::network
