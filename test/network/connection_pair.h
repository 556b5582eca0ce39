#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/network/connection.h"
#include "nuncio/network/memory_network.h"
#include "nuncio/network/network.h"
#include "nuncio/runtime/simulated_time_system.h"

namespace nuncio::network {

inline std::ostream& operator<<(std::ostream& out, EndReason reason) { return out << endReasonName(reason); }

}  // namespace nuncio::network

namespace nuncio::network::test {

// On what a suite about connections runs.
enum class Medium : uint8_t {
  Tcp,            // over the loopback interface, in real time
  Unix,           // socketpair()
  Memory,         // in simulated time
  FaultyMemory,   // the same, with short reads and writes, and EAGAIN for no reason
  DelayedMemory,  // the same, 10 ms away
};
inline std::string nameOf(Medium medium) {
  switch (medium) {
    case Medium::Tcp:
      return "Tcp";
    case Medium::Unix:
      return "Unix";
    case Medium::Memory:
      return "Memory";
    case Medium::FaultyMemory:
      return "FaultyMemory";
    case Medium::DelayedMemory:
      return "DelayedMemory";
  }
  return "?";
}

// What a connection tells, written down; and hooks for tests that do something about it.
class Recorder final : public ConnectionCallbacks {
public:
  void onData(Buffer& data) override {
    ++data_calls;
    if (on_data) {
      on_data(data);
      return;
    }
    received += data.toString();
    data.clear();
  }
  void onEnd() override {
    ++ends;
    if (on_end) {
      on_end();
    }
  }
  void onClosed(const ConnectionEnd& end) override {
    ++closes;
    closed = end;
    if (on_closed) {
      on_closed();
    }
  }
  void onAboveWriteWatermark() override { watermarks += "high "; }
  void onBelowWriteWatermark() override {
    watermarks += "low ";
    if (on_low) {
      on_low();
    }
  }

  std::string received;
  std::string watermarks;
  int data_calls = 0;
  int ends = 0;
  int closes = 0;
  std::optional<ConnectionEnd> closed;
  std::function<void(Buffer&)> on_data;
  std::function<void()> on_end;
  std::function<void()> on_closed;
  std::function<void()> on_low;
};

// Two connections that are each other's peer, on one dispatcher.
class ConnectionPairTest : public ::testing::TestWithParam<Medium> {
protected:
  bool simulated() const { return GetParam() != Medium::Tcp && GetParam() != Medium::Unix; }
  bool knowsResets() const { return GetParam() != Medium::Unix; }

  void SetUp() override {
    dispatcher_ = createDispatcher({.name = "test", .time_system = simulated() ? &time_ : nullptr});
  }
  void TearDown() override {
    for (ConnectionPtr* const connection : {&near_, &far_}) {
      if (*connection != nullptr && (*connection)->state() != Connection::State::Closed) {
        (*connection)->abort();
      }
    }
  }

  std::pair<IoHandlePtr, IoHandlePtr> makeHandles();
  void open(const ConnectionOptions& near_options = {}, const ConnectionOptions& far_options = {}) {
    auto [near_handle, far_handle] = makeHandles();
    near_ = *createConnection(*dispatcher_, std::move(near_handle), near_options);
    far_ = *createConnection(*dispatcher_, std::move(far_handle), far_options);
  }
  void openAndStart(const ConnectionOptions& near_options = {}, const ConnectionOptions& far_options = {}) {
    open(near_options, far_options);
    near_->start(near_end_);
    far_->start(far_end_);
  }

  // Runs the loop, and lets time pass where it is simulated, until `done`. False when that does not come: within 10 s
  // of real time, or a simulated minute.
  bool runUntil(const std::function<bool()>& done);
  // All that can happen without time passing.
  void settle();
  void advance(std::chrono::milliseconds time) {
    ASSERT_TRUE(simulated());
    time_.advanceTimeAndRun(time);
  }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_;
  std::shared_ptr<MemoryLink> link_;
  Recorder near_end_;
  Recorder far_end_;
  ConnectionPtr near_;
  ConnectionPtr far_;
};

}  // namespace nuncio::network::test
