#include "source/network/connection_impl.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "nuncio/event/internal/loop_core.h"
#include "source/common/errno_status.h"
#include "source/network/scratch.h"

namespace nuncio::network {
namespace {

// To read into; empty without memory.
absl::Span<char> roomIn(std::optional<Scratch>& scratch) noexcept {
  try {
    if (!scratch) {
      scratch.emplace();
    }
    return scratch->memory();
  } catch (const std::bad_alloc&) {
    return {};
  }
}

// How much of one direction is moved before others have their turn.
constexpr std::size_t kBytesPerTurn = std::size_t{512} * 1024;
// How many slices a writev() gets.
constexpr std::size_t kSlicesPerWrite = 16;
constexpr uint32_t kEvents = FileReadyType::Read | FileReadyType::Write | FileReadyType::Closed;
// How often a closing connection asks whether all was delivered: after 1 ms, 2 ms, and so on up to this.
constexpr std::chrono::milliseconds kLongestLook{64};
// When to read once more where a short read may have left an RST behind; see ConnectionImpl::may_be_broken_.
constexpr std::chrono::milliseconds kLookForReset{50};

bool brokenOff(int error) { return error == ECONNRESET || error == EPIPE || error == ECONNABORTED; }

}  // namespace

absl::Status checkOptions(const ConnectionOptions& options) {
  if (options.write_low_watermark > options.write_high_watermark) {
    return absl::InvalidArgumentError(absl::StrCat("ConnectionOptions: write_low_watermark ",
                                                   options.write_low_watermark, " is above write_high_watermark ",
                                                   options.write_high_watermark));
  }
  if (options.read_limit == 0) {
    return absl::InvalidArgumentError("ConnectionOptions: read_limit is 0; it has to be above that");
  }
  if (options.idle_timeout.count() < 0 || options.max_lifetime.count() < 0 || options.close_timeout.count() < 0) {
    return absl::InvalidArgumentError("ConnectionOptions: a time is negative");
  }
  return absl::OkStatus();
}

absl::string_view endReasonName(EndReason reason) {
  switch (reason) {
    case EndReason::Fin:
      return "Fin";
    case EndReason::Local:
      return "Local";
    case EndReason::Reset:
      return "Reset";
    case EndReason::Truncated:
      return "Truncated";
    case EndReason::Timeout:
      return "Timeout";
    case EndReason::Failed:
      return "Failed";
  }
  return "?";
}

ReadPause::ReadPause(std::shared_ptr<State> state) : state_(std::move(state)) { ++state_->pauses; }

void ReadPause::resume() {
  if (const std::shared_ptr<State> state = std::exchange(state_, nullptr);
      state != nullptr && --state->pauses == 0 && state->connection != nullptr) {
    state->connection->pauseEnded();
  }
}

absl::StatusOr<ConnectionPtr> createConnection(Dispatcher& dispatcher, IoHandlePtr handle,
                                               const ConnectionOptions& options) {
  return ConnectionImpl::create(dispatcher, std::move(handle), options, CountedIn());
}

absl::StatusOr<ConnectionPtr> ConnectionImpl::create(Dispatcher& dispatcher, IoHandlePtr handle,
                                                     const ConnectionOptions& options, CountedIn counted) {
  if (!NUNCIO_CONTRACT(handle != nullptr, dispatcher.name(), "createConnection", "no handle")) {
    return absl::InvalidArgumentError("createConnection: no handle");
  }
  if (absl::Status status = checkOptions(options); !status.ok()) {
    return status;
  }
  std::unique_ptr<ConnectionImpl> connection(
      new (std::nothrow) ConnectionImpl(dispatcher, std::move(handle), options, std::move(counted)));
  if (connection == nullptr) {
    return noMemoryStatus("a connection");
  }
  if (absl::Status status = connection->watch(); !status.ok()) {
    return status;
  }
  if (!connection->tryArmTimer()) {
    return noMemoryStatus("a connection's timer");
  }
  return connection;
}

absl::StatusOr<ConnectionPtr> ConnectionImpl::connect(Dispatcher& dispatcher, IoHandlePtr handle,
                                                      const ConnectionOptions& options, OpenedCb opened) {
  std::unique_ptr<ConnectionImpl> connection(new (std::nothrow)
                                                 ConnectionImpl(dispatcher, std::move(handle), options, CountedIn()));
  if (connection == nullptr) {
    return noMemoryStatus("a connection");
  }
  connection->opened_ = std::make_unique<OpenedCb>(std::move(opened));
  if (absl::Status status = connection->watch(); !status.ok()) {
    return status;
  }
  return connection;
}

absl::Status ConnectionImpl::watch() {
  absl::StatusOr<FileEventPtr> event =
      handle_->createReadyEvent(dispatcher_, [this](uint32_t events) { onReady(events); }, kEvents);
  if (!event.ok()) {
    handle_.reset();
    return event.status();
  }
  event_ = *std::move(event);
  return absl::OkStatus();
}

ConnectionImpl::ConnectionImpl(Dispatcher& dispatcher, IoHandlePtr handle, const ConnectionOptions& options,
                               CountedIn counted)
    : dispatcher_(dispatcher),
      counted_(std::move(counted)),
      handle_(std::move(handle)),
      last_activity_(dispatcher.approximateMonotonicTime()),
      born_(last_activity_),
      options_(options) {}

ConnectionImpl::~ConnectionImpl() {
  if (entry_ != nullptr) {
    entry_->setGone();
    static_cast<void>(NUNCIO_CONTRACT(false, currentDispatcherName(), "Connection::~Connection",
                                      "destroyed in one of its own callbacks; give it to deferredDelete()"));
  }
  if (pauses_ != nullptr) {
    pauses_->connection = nullptr;
  }
  if (event_ == nullptr) {
    return;
  }
  // One that nobody has started yet belongs to whoever made it, such as a future that was dropped.
  const bool unused = callbacks_ == nullptr || state_ != State::Open;
  if (state_ == State::Open) {
    aborted_ = true;
  }
  closeHandle();
  static_cast<void>(NUNCIO_CONTRACT(unused || !LoopCore::current(), currentDispatcherName(), "Connection::~Connection",
                                    "destroyed while it was open; close() or abort() it first"));
}

// --- What the user calls

void ConnectionImpl::start(ConnectionCallbacks& callbacks) {
  if (!NUNCIO_CONTRACT(callbacks_ == nullptr, dispatcher_.name(), "Connection::start", "called twice")) {
    return;
  }
  callbacks_ = &callbacks;
  if (readable_ || ended_) {
    workSoon();
  }
}

bool ConnectionImpl::overLimit(std::size_t more) {
  if (write_buffer_.length() + more <= options_.write_limit) {
    return false;
  }
  end(EndReason::Failed,
      absl::ResourceExhaustedError(
          absl::StrCat("more than ", options_.write_limit, " bytes wait to be sent (ConnectionOptions::write_limit)")));
  return true;
}

bool ConnectionImpl::mayWrite() const { return state_ == State::Open && !end_asked_ && write_side_ == Side::Open; }

bool ConnectionImpl::write(absl::string_view data) {
  if (!mayWrite()) {
    return false;
  }
  if (data.empty()) {
    return true;
  }
  if (write_buffer_.empty() && writable_ && entry_ == nullptr) {
    const iovec span{const_cast<char*>(data.data()), data.size()};  // NOLINT(*-const-cast): writev() has it so
    data.remove_prefix(send({&span, 1}));
    if (data.empty()) {
      return true;
    }
  }
  if (write_side_ == Side::Failed) {
    return false;
  }
  if (overLimit(data.size())) {
    return false;
  }
  if (!queue(data)) {
    return false;
  }
  noteHigh();
  return true;
}

// A part may have been sent: so there is no going on without the rest.
bool ConnectionImpl::queue(absl::string_view data) {
  try {
    write_buffer_.append(data);
    return true;
  } catch (const std::bad_alloc&) {
    end(EndReason::Failed, noMemoryStatus("bytes that wait to be sent"));
    return false;
  }
}

bool ConnectionImpl::write(Buffer& data) {
  if (!mayWrite()) {
    return false;
  }
  if (data.empty()) {
    return true;
  }
  if (overLimit(data.length())) {
    return false;
  }
  const bool queued = !write_buffer_.empty();
  try {
    write_buffer_.move(data);
  } catch (const std::bad_alloc&) {
    end(EndReason::Failed, noMemoryStatus("bytes that wait to be sent"));
    return false;
  }
  if (!queued && writable_ && entry_ == nullptr) {
    std::array<iovec, kSlicesPerWrite> spans;
    const std::size_t count = write_buffer_.fill(absl::MakeSpan(spans));
    write_buffer_.drain(send(absl::MakeConstSpan(spans.data(), count)));
    if (writable_ && !write_buffer_.empty()) {
      workSoon();
    }
  }
  noteHigh();
  return true;
}

void ConnectionImpl::shutdownWrite() {
  if (state_ != State::Open || std::exchange(end_asked_, true)) {
    return;
  }
  if (write_buffer_.empty() && entry_ == nullptr) {
    endStream();
  }
  workSoon();
}

void ConnectionImpl::close(CloseKind kind, std::chrono::milliseconds timeout) {
  if (!NUNCIO_CONTRACT(timeout.count() >= 0, dispatcher_.name(), "Connection::close",
                       absl::StrCat("negative timeout ", timeout.count(), " ms"))) {
    timeout = std::chrono::milliseconds(0);
  }
  if (state_ == State::Closed) {
    return;
  }
  state_ = State::Closing;
  close_kind_ = kind;
  end_asked_ = true;
  read_buffer_.clear();
  if (kind == CloseKind::Now) {
    if (write_side_ == Side::Open && !write_buffer_.empty()) {
      std::array<iovec, kSlicesPerWrite> spans;
      const std::size_t count = write_buffer_.fill(absl::MakeSpan(spans));
      write_buffer_.drain(send(absl::MakeConstSpan(spans.data(), count)));
    }
    end(EndReason::Local, absl::OkStatus());
    return;
  }
  if (timeout.count() != 0) {
    const MonotonicTime deadline = dispatcher_.approximateMonotonicTime() + timeout;
    close_deadline_ = std::min(close_deadline_, deadline);
    close_waits_ = true;
    if (!tryArmTimer()) {
      end(EndReason::Local, noMemoryStatus("the timer of a close"));
      return;
    }
  }
  if (write_buffer_.empty() && entry_ == nullptr) {
    endStream();
  }
  workSoon();
}

void ConnectionImpl::abort() {
  if (state_ == State::Closed) {
    return;
  }
  aborted_ = true;
  end(EndReason::Local, absl::OkStatus());
}

ReadPause ConnectionImpl::pauseReading() {
  if (pauses_ == nullptr) {
    pauses_ = std::make_shared<ReadPause::State>(ReadPause::State{.connection = this});
  }
  return ReadPause(pauses_);
}

void ConnectionImpl::pauseEnded() {
  if (reading() && (readable_ || deliver_again_)) {
    workSoon();
  }
}

void ConnectionImpl::readAgain() {
  if (!reading()) {
    return;
  }
  read_full_ = read_buffer_.length() > options_.read_limit / 2 && read_full_;
  deliver_again_ = !read_buffer_.empty();
  if (deliver_again_ || readable_) {
    workSoon();
  }
}

Address ConnectionImpl::localAddress() const { return handle_->localAddress(); }
Address ConnectionImpl::peerAddress() const { return handle_->peerAddress(); }

// --- What the loop calls

void ConnectionImpl::workSoon() {
  if (entry_ == nullptr && event_ != nullptr) {
    event_->activate(FileReadyType::Write);
  }
}

void ConnectionImpl::onReady(uint32_t events) {
  hung_up_ = hung_up_ || (events & FileReadyType::Closed) != 0;
  writable_ = writable_ || (events & FileReadyType::Write) != 0;
  readable_ = readable_ || (events & FileReadyType::Read) != 0;
  if (opened_ != nullptr) {
    connectStep();
    return;
  }
  Entry entry(*this);
  try {
    work(entry);
  } catch (...) {  // of a callback: the loop logs it, and what it kept from being done is done later
    if (!entry.gone() && event_ != nullptr) {
      event_->activate(FileReadyType::Write);
    }
    throw;
  }
}

void ConnectionImpl::connectStep() {
  if ((!writable_ && !hung_up_) || opened_ == nullptr) {
    return;
  }
  const int error = handle_->connectResult();
  if (error == EINPROGRESS) {
    return;
  }
  absl::Status status = absl::OkStatus();
  if (error != 0) {
    status = absl::UnavailableError(std::strerror(error));
    closeHandle();
  } else {
    last_activity_ = born_ = dispatcher_.approximateMonotonicTime();
    if (!tryArmTimer()) {
      status = noMemoryStatus("a connection's timer");
      closeHandle();
    }
  }
  const std::unique_ptr<OpenedCb> opened = std::move(opened_);
  (*opened)(status);
}

void ConnectionImpl::work(Entry& entry) {
  flush(entry);
  if (entry.gone()) {
    return;
  }
  if (reading()) {
    readAndDeliver(entry);
    if (entry.gone()) {
      return;
    }
    flush(entry);  // what the callbacks wrote
    if (entry.gone()) {
      return;
    }
  }
  if (state_ == State::Closing) {
    closeStep();
  } else if (state_ == State::Open && read_side_ == Side::Ended) {
    if (write_side_ == Side::Ended) {
      end(EndReason::Fin, absl::OkStatus());
    } else if (write_side_ == Side::Failed) {
      end(EndReason::Reset, errnoStatus(write_error_, "write"));
    }
  }
  if (ended_) {
    if (callbacks_ != nullptr) {
      tellEnd();
    }
  } else if (may_be_broken_ && look_for_reset_ == MonotonicTime::max()) {
    look_for_reset_ = dispatcher_.approximateMonotonicTime() + kLookForReset;
    if (!tryArmTimer()) {
      look_for_reset_ = MonotonicTime::max();  // with the next message, then
    }
  }
}

// --- Reading

bool ConnectionImpl::paused() const { return pauses_ != nullptr && pauses_->pauses != 0; }

bool ConnectionImpl::mayRead() const { return reading() && !read_full_ && !paused(); }

void ConnectionImpl::readAndDeliver(Entry& entry) {
  if (deliver_again_ && !paused()) {
    deliver_again_ = false;
    if (!deliver(entry)) {
      return;
    }
  }
  std::optional<Scratch> scratch;
  std::size_t turn = 0;
  while (readable_ && mayRead()) {
    if (turn >= kBytesPerTurn) {
      event_->activate(FileReadyType::Read);
      return;
    }
    const absl::Span<char> memory = roomIn(scratch);
    if (memory.empty()) {
      end(EndReason::Failed, noMemoryStatus("reading"));
      return;
    }
    const iovec span{memory.data(), memory.size()};
    const IoResult result = handle_->read({&span, 1});
    if (!result.ok()) {
      readable_ = false;
      if (!result.wouldBlock()) {
        readFailed(result.error);
      }
      return;
    }
    if (result.bytes == 0) {
      readable_ = false;
      readEnded();
      return;
    }
    turn += result.bytes;
    counters_.bytes_received += result.bytes;
    touch();
    // Less than there was room for: that was all, and the next comes with an event of its own; but an end that was
    // reported together with this data would not be reported again.
    if (result.bytes < memory.size() && !hung_up_) {
      readable_ = false;
      may_be_broken_ = true;
    }
    scratch->lend(read_buffer_, result.bytes);
    if (!deliver(entry)) {
      return;
    }
    scratch->takeBack();
  }
}

bool ConnectionImpl::deliver(Entry& entry) {
  callbacks_->onData(read_buffer_);
  if (entry.gone()) {
    return false;
  }
  if (state_ != State::Open) {
    read_buffer_.clear();
    return false;
  }
  const std::size_t left = read_buffer_.length();
  read_full_ = left > options_.read_limit || (read_full_ && left > options_.read_limit / 2);
  return true;
}

void ConnectionImpl::readEnded() {
  read_side_ = Side::Ended;
  callbacks_->onEnd();
}

void ConnectionImpl::readFailed(int error) {
  read_side_ = Side::Failed;
  if (brokenOff(error)) {
    end(EndReason::Reset, errnoStatus(error, "read"));
  } else if (error == ETIMEDOUT) {
    end(EndReason::Timeout, absl::DeadlineExceededError("the peer does not answer any more (ETIMEDOUT)"));
  } else {
    end(EndReason::Failed, errnoStatus(error, "read"));
  }
}

// --- Writing

std::size_t ConnectionImpl::send(absl::Span<const iovec> spans) {
  const IoResult result = handle_->write(spans);
  if (!result.ok()) {
    writable_ = false;
    if (!result.wouldBlock()) {
      writeFailed(result.error);
    }
    return 0;
  }
  std::size_t all = 0;
  for (const iovec& span : spans) {
    all += span.iov_len;
  }
  may_be_broken_ = false;
  writable_ = result.bytes == all;  // otherwise there was no more room, and the event tells of more
  counters_.bytes_sent += result.bytes;
  touch();
  return result.bytes;
}

// The peer is gone. What it had sent before is read to its end first, and only then the connection is over.
void ConnectionImpl::writeFailed(int error) {
  write_side_ = Side::Failed;
  write_error_ = error;
  readable_ = hung_up_ = true;
  workSoon();
}

void ConnectionImpl::flush(Entry& entry) {
  while (writable_ && write_side_ == Side::Open && !write_buffer_.empty()) {
    std::array<iovec, kSlicesPerWrite> spans;
    const std::size_t count = write_buffer_.fill(absl::MakeSpan(spans));
    write_buffer_.drain(send(absl::MakeConstSpan(spans.data(), count)));
  }
  if (end_asked_ && write_buffer_.empty()) {
    endStream();
  }
  noteLow(entry);
}

void ConnectionImpl::endStream() {
  if (write_side_ != Side::Open || state_ == State::Closed) {
    return;
  }
  write_side_ = Side::Ended;
  // A close that follows at once says the same, with a system call less.
  if (state_ == State::Closing && read_side_ == Side::Ended) {
    return;
  }
  if (const int error = handle_->shutdownWrite(); error != 0) {
    writeFailed(error);
  }
}

void ConnectionImpl::noteHigh() {
  if (!above_high_ && write_buffer_.length() > options_.write_high_watermark && state_ == State::Open) {
    above_high_ = true;
    if (callbacks_ != nullptr) {
      callbacks_->onAboveWriteWatermark();
    }
  }
}

void ConnectionImpl::noteLow(Entry& /*entry*/) {
  if (above_high_ && write_buffer_.length() <= options_.write_low_watermark && state_ == State::Open) {
    above_high_ = false;
    if (callbacks_ != nullptr) {
      callbacks_->onBelowWriteWatermark();
    }
  }
}

// --- Ending

void ConnectionImpl::closeStep() {
  if (write_side_ == Side::Failed) {
    end(EndReason::Reset, errnoStatus(write_error_, "write"));
    return;
  }
  // Also while there is more to send: the peer may be closing in the same way, and not read before it has sent its own.
  if (read_side_ == Side::Open && readable_) {
    discard();
  }
  if (!ended_ && write_side_ != Side::Open && closeIsDone()) {
    end(EndReason::Local, absl::OkStatus());
  }
}

void ConnectionImpl::discard() {
  std::optional<Scratch> scratch;
  const absl::Span<char> memory = roomIn(scratch);
  if (memory.empty()) {
    end(EndReason::Failed, noMemoryStatus("reading"));
    return;
  }
  const iovec span{memory.data(), memory.size()};
  while (readable_ && close_discarded_ <= options_.close_discard_limit) {
    const IoResult result = handle_->read({&span, 1});
    if (!result.ok()) {
      readable_ = false;
      if (!result.wouldBlock()) {
        readFailed(result.error);
      }
      return;
    }
    if (result.bytes == 0) {
      readable_ = false;
      read_side_ = Side::Ended;
      return;
    }
    close_discarded_ += result.bytes;
    counters_.bytes_received += result.bytes;
  }
}

bool ConnectionImpl::closeIsDone() {
  if (read_side_ != Side::Open || !close_waits_ || close_discarded_ > options_.close_discard_limit) {
    return true;
  }
  if (close_kind_ == CloseKind::FlushAndWait) {
    return false;
  }
  if (handle_->delivered()) {
    return true;
  }
  const MonotonicTime time = dispatcher_.approximateMonotonicTime();
  if (close_look_ == MonotonicTime::max() || close_look_ <= time) {
    close_look_ = time + close_look_after_;
    close_look_after_ = std::min(2 * close_look_after_, kLongestLook);
    static_cast<void>(tryArmTimer());  // there is one, since it waits
  }
  return false;
}

void ConnectionImpl::end(EndReason reason, absl::Status status) {
  if (std::exchange(ended_, true)) {
    return;
  }
  state_ = State::Closed;
  // An end of the stream would have the peer take what it got for all there is.
  aborted_ = aborted_ || !write_buffer_.empty();
  end_ = {reason, std::move(status), write_buffer_.length()};
  write_buffer_.clear();
  if (pauses_ != nullptr) {
    pauses_->connection = nullptr;
  }
  if (timer_ != nullptr) {
    timer_->disableTimer();
  }
  workSoon();
}

void ConnectionImpl::closeHandle() {
  event_.reset();
  if (aborted_) {
    handle_->abort();
  } else {
    handle_->close();
  }
}

void ConnectionImpl::tellEnd() {
  if (event_ != nullptr) {
    closeHandle();
  }
  if (!std::exchange(told_, true)) {
    const ConnectionEnd end = end_;  // of its own, since the connection may be gone before that is over
    callbacks_->onClosed(end);
  }
}

// --- Time

MonotonicTime ConnectionImpl::nextDeadline() const {
  MonotonicTime next = std::min({close_deadline_, close_look_, look_for_reset_});
  if (options_.max_lifetime.count() != 0) {
    next = std::min(next, born_ + options_.max_lifetime);
  }
  if (options_.idle_timeout.count() != 0) {
    next = std::min(next, last_activity_ + options_.idle_timeout);
  }
  return next;
}

// Nothing that happens moves the timer later: when it fires, it looks how much time is left.
void ConnectionImpl::armTimer() {
  const MonotonicTime next = nextDeadline();
  if (next == MonotonicTime::max() || (timer_ != nullptr && timer_->enabled() && timer_due_ <= next)) {
    return;
  }
  if (timer_ == nullptr) {
    timer_ = dispatcher_.createTimer([this] { onTimer(); });
  }
  timer_due_ = next;
  timer_->enableTimerAt(next);
}

bool ConnectionImpl::tryArmTimer() noexcept {
  try {
    armTimer();
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void ConnectionImpl::onTimer() {
  Entry entry(*this);
  const MonotonicTime time = dispatcher_.approximateMonotonicTime();
  if (options_.max_lifetime.count() != 0 && born_ + options_.max_lifetime <= time) {
    end(EndReason::Timeout, absl::DeadlineExceededError("the connection is too old (max_lifetime)"));
  } else if (options_.idle_timeout.count() != 0 && last_activity_ + options_.idle_timeout <= time) {
    end(EndReason::Timeout, absl::DeadlineExceededError("no byte came or went (idle_timeout)"));
  } else if (close_deadline_ <= time) {
    end(EndReason::Local, absl::DeadlineExceededError("closed before the peer had taken all, or had ended too"));
  }
  if (look_for_reset_ <= time) {
    look_for_reset_ = MonotonicTime::max();
    readable_ = readable_ || std::exchange(may_be_broken_, false);
  }
  work(entry);
  if (!entry.gone() && state_ != State::Closed) {
    armTimer();
  }
}

}  // namespace nuncio::network
