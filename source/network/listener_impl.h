#pragma once

#include <cstdint>
#include <memory>

#include "nuncio/common/file_descriptor.h"
#include "nuncio/network/listener.h"
#include "source/network/connection_count.h"

namespace nuncio::network {

class ListenerImpl final : public Listener {
public:
  // What becomes of a stream that was accepted: a connection for the callback, or, in a pool, one on another worker.
  using HandleCb = InlineFunction<void(IoHandlePtr), 48>;

  static absl::StatusOr<std::unique_ptr<ListenerImpl>> create(Dispatcher& dispatcher, ListenHandlePtr handle,
                                                              AcceptCb cb, const ListenerOptions& options);
  ~ListenerImpl() override;

  const Address& address() const override { return address_; }
  void pause() override;
  void resume() override;
  void setMaxConnections(uint64_t max_connections) override { options_.max_connections = max_connections; }
  void stop() override;
  ListenerStats stats() const override;

  // Makes a connection of `handle`, as if it had been accepted here.
  void take(IoHandlePtr handle);
  uint64_t open() const { return count_->load(std::memory_order_relaxed); }
  // Asked for each that was accepted; true: it has been given away.
  using GiveAwayCb = InlineFunction<bool(IoHandlePtr&), 16>;
  void setGiveAway(GiveAwayCb give_away) { give_away_ = std::move(give_away); }

private:
  ListenerImpl(Dispatcher& dispatcher, ListenHandlePtr handle, AcceptCb cb, const ListenerOptions& options);

  void acceptSome();
  // False when there is nothing more to accept for now.
  bool acceptOne();
  void lack(int error);
  void refuseWithSpare();
  void enable();

  Dispatcher& dispatcher_;
  ListenHandlePtr handle_;  // null once it was stopped
  FileEventPtr event_;      // goes before the handle
  const Address address_;
  AcceptCb cb_;
  GiveAwayCb give_away_;
  ListenerOptions options_;
  ListenerStats stats_;
  const std::shared_ptr<ConnectionCount> count_;
  FileDescriptor spare_;  // given up to accept one when there is no other
  TimerPtr pause_;        // once something was lacking
  MonotonicTime logged_at_;
  uint64_t not_logged_ = 0;
  bool logged_ = false;
  bool paused_ = false;
  bool waits_ = false;         // until pause_ fires
  bool* destroyed_ = nullptr;  // of the acceptSome() that runs
};

}  // namespace nuncio::network
