#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "nuncio/network/connection.h"
#include "source/network/connection_count.h"

namespace nuncio::network {

class ConnectionImpl;

// Shared by a connection and its pauses, so that they may outlive it.
struct ReadPause::State {
  ConnectionImpl* connection;  // null: closed, or gone
  uint32_t pauses = 0;
};

// OK, or InvalidArgument with what is wrong.
absl::Status checkOptions(const ConnectionOptions& options);

// ConnectionImpl: a connection on an IoHandle.
//
// It is entered by its event and its timer; Entry marks that. All that the user's calls cannot do at once, since they
// would have to call back, they leave to the event, by activating it: so a connection has no queue of its own, and
// those calls allocate nothing.
//
// The descriptor is registered once, edge-triggered, for everything: `readable_` and `writable_` remember what was
// reported, until a read or a write finds otherwise. A pause is a counter; nothing of this reaches epoll.
class ConnectionImpl final : public Connection {
public:
  static absl::StatusOr<ConnectionPtr> create(Dispatcher& dispatcher, IoHandlePtr handle,
                                              const ConnectionOptions& options, CountedIn counted);
  // On a stream that is on its way to its peer: tells `opened` once, when it is connected, or why it is not; its times
  // count from then. Until then it is nobody's but to be destroyed.
  using OpenedCb = InlineFunction<void(const absl::Status&), 32>;
  static absl::StatusOr<ConnectionPtr> connect(Dispatcher& dispatcher, IoHandlePtr handle,
                                               const ConnectionOptions& options, OpenedCb opened);
  ~ConnectionImpl() override;

  void start(ConnectionCallbacks& callbacks) override;
  bool write(absl::string_view data) override;
  bool write(Buffer& data) override;
  void shutdownWrite() override;
  void close(CloseKind kind) override { close(kind, options_.close_timeout); }
  void close(CloseKind kind, std::chrono::milliseconds timeout) override;
  void abort() override;
  ReadPause pauseReading() override;
  void readAgain() override;

  State state() const override { return state_; }
  std::size_t unsent() const override { return write_buffer_.length(); }
  const ConnectionCounters& counters() const override { return counters_; }
  Address localAddress() const override;
  Address peerAddress() const override;
  Dispatcher& dispatcher() override { return dispatcher_; }

  // For ReadPause.
  void pauseEnded();

private:
  // Open while something of the loop's runs in here. What is called back may destroy the connection, in a release build
  // (in debug that is fatal): `gone()` says so, and then nothing is touched any more.
  class Entry {
  public:
    explicit Entry(ConnectionImpl& connection) : connection_(connection) { connection_.entry_ = this; }
    ~Entry() {
      if (!gone_) {
        connection_.entry_ = nullptr;
      }
    }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    bool gone() const { return gone_; }
    void setGone() { gone_ = true; }

  private:
    ConnectionImpl& connection_;
    bool gone_ = false;
  };
  enum class Side : uint8_t { Open, Ended, Failed };

  ConnectionImpl(Dispatcher& dispatcher, IoHandlePtr handle, const ConnectionOptions& options, CountedIn counted);

  absl::Status watch();
  void connectStep();
  void onReady(uint32_t events);
  void onTimer();
  // Does all there is to do now.
  void work(Entry& entry);
  // Has the event call work() soon, unless it is at it.
  void workSoon();

  bool reading() const { return state_ == State::Open && callbacks_ != nullptr && read_side_ == Side::Open; }
  bool paused() const;
  bool mayRead() const;
  void readAndDeliver(Entry& entry);
  // Whether there may be more to read.
  bool deliver(Entry& entry);
  void discard();
  void readEnded();
  void readFailed(int error);

  bool mayWrite() const;
  bool overLimit(std::size_t more);
  bool queue(absl::string_view data);
  void flush(Entry& entry);
  // What the system takes of it.
  std::size_t send(absl::Span<const iovec> spans);
  void writeFailed(int error);
  void endStream();
  void noteHigh();
  void noteLow(Entry& entry);

  void closeStep();
  bool closeIsDone();
  // Nothing is read or written any more. The rest is tellEnd()'s, which comes when no call of the user's is under way.
  void end(EndReason reason, absl::Status status);
  void tellEnd();
  void closeHandle();

  void touch() { last_activity_ = dispatcher_.approximateMonotonicTime(); }
  MonotonicTime nextDeadline() const;
  void armTimer();
  // The same where no exception may leave. False without memory for the timer.
  bool tryArmTimer() noexcept;

  Dispatcher& dispatcher_;
  const CountedIn counted_;
  IoHandlePtr handle_;
  FileEventPtr event_;  // goes before the handle
  TimerPtr timer_;      // once there is a deadline
  ConnectionCallbacks* callbacks_ = nullptr;
  std::unique_ptr<OpenedCb> opened_;  // while it connects
  Entry* entry_ = nullptr;
  std::shared_ptr<ReadPause::State> pauses_;  // once there was one
  ConnectionEnd end_;                         // once it has ended
  Buffer read_buffer_;                        // what onData() left
  Buffer write_buffer_;
  ConnectionCounters counters_;
  MonotonicTime last_activity_;
  MonotonicTime born_;
  MonotonicTime timer_due_ = MonotonicTime::max();
  MonotonicTime close_deadline_ = MonotonicTime::max();
  MonotonicTime close_look_ = MonotonicTime::max();  // when to ask whether all is delivered
  MonotonicTime look_for_reset_ = MonotonicTime::max();
  std::chrono::milliseconds close_look_after_{1};
  std::size_t close_discarded_ = 0;
  ConnectionOptions options_;
  State state_ = State::Open;
  CloseKind close_kind_ = CloseKind::Flush;
  Side read_side_ = Side::Open;
  Side write_side_ = Side::Open;
  int write_error_ = 0;
  bool readable_ = false;
  bool writable_ = false;
  bool hung_up_ = false;  // the peer's end, or an error, is behind what can be read
  // There was a short read, which was all, unless an RST came together with the data: libevent reports that as Read and
  // Write alone (it turns EPOLLERR into these), as it does when all is well. A send finds out; where none follows, the
  // timer has it read once more, so that a message costs no second recv.
  bool may_be_broken_ = false;
  bool above_high_ = false;
  bool read_full_ = false;  // onData() has left too much
  bool deliver_again_ = false;
  bool end_asked_ = false;    // shutdownWrite(), or close()
  bool close_waits_ = false;  // for the peer, in closing
  bool ended_ = false;        // see end()
  bool aborted_ = false;
  bool told_ = false;
};

}  // namespace nuncio::network
