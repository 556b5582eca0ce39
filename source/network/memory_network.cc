#include "nuncio/network/memory_network.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/mutex.h"
#include "source/network/memory_link.h"

namespace nuncio::network {
namespace {

constexpr uint16_t kFirstFreePort = 49'152;

// A stream on its way to a listener.
struct Arrival {
  std::shared_ptr<MemoryLinkImpl> link;
  Address from;
  MonotonicTime due;
};

// What a listener and those who connect to it share.
class Backlog final : public MemoryEvent::Source {
public:
  Backlog(const Address& address, std::size_t size, const MemoryLinkOptions& options)
      : address_(address), size_(size), options_(options) {}

  const Address& address() const { return address_; }

  void add(std::shared_ptr<MemoryLinkImpl> link, const Address& from) {
    MemoryReadinessPtr readiness;
    {
      const MutexLock lock(lock_);
      if (closed_) {
        link->finishConnect(ECONNREFUSED, 2 * options_.delay);
        return;
      }
      arrivals_.push_back({std::move(link), from, now() + options_.delay});
      admit();
      readiness = readiness_;
    }
    if (readiness != nullptr) {
      readiness->tell(FileReadyType::Read);
    }
  }

  ListenHandle::Accepted accept() {
    const MutexLock lock(lock_);
    if (arrivals_.empty() || arrivals_.front().due > now()) {
      return {nullptr, EAGAIN};
    }
    Arrival arrival = std::move(arrivals_.front());
    arrivals_.pop_front();
    admitted_ -= 1;
    admit();
    return {makeMemoryHandle(std::move(arrival.link), 1, address_, arrival.from), 0};
  }

  // Those in the queue are sent away, as the kernel does.
  void close() {
    std::deque<Arrival> arrivals;
    std::size_t admitted = 0;
    {
      const MutexLock lock(lock_);
      closed_ = true;
      arrivals.swap(arrivals_);
      admitted = std::exchange(admitted_, 0);
    }
    for (std::size_t i = 0; i < arrivals.size(); ++i) {
      if (i < admitted) {
        arrivals[i].link->abort(1);
      } else {
        arrivals[i].link->finishConnect(ECONNREFUSED, options_.delay);
      }
    }
  }

  uint32_t ready(std::optional<MonotonicTime>& next) override {
    const MutexLock lock(lock_);
    if (arrivals_.empty()) {
      return 0;
    }
    if (arrivals_.front().due > now()) {
      next = arrivals_.front().due;
      return 0;
    }
    return FileReadyType::Read;
  }
  void setReadiness(MemoryReadinessPtr readiness) override {
    const MutexLock lock(lock_);
    readiness_.swap(readiness);
  }

private:
  MonotonicTime now() const {
    return options_.time != nullptr ? options_.time->monotonicTime() : realTimeSystem().monotonicTime();
  }
  // Those for whom there is room are connected, before they are accepted.
  void admit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    while (admitted_ < arrivals_.size() && admitted_ < size_) {
      arrivals_[admitted_++].link->finishConnect(0, 2 * options_.delay);
    }
  }

  const Address address_;
  const std::size_t size_;
  const MemoryLinkOptions options_;
  Mutex lock_;
  std::deque<Arrival> arrivals_ ABSL_GUARDED_BY(lock_);
  std::size_t admitted_ ABSL_GUARDED_BY(lock_) = 0;
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
  MemoryReadinessPtr readiness_ ABSL_GUARDED_BY(lock_);
};

}  // namespace

class MemoryNetwork::Impl : public std::enable_shared_from_this<MemoryNetwork::Impl> {
public:
  explicit Impl(const MemoryLinkOptions& options) : options_(options) {}

  absl::StatusOr<IoHandlePtr> connect(const Address& to, const ConnectOptions& options) {
    auto link = std::make_shared<MemoryLinkImpl>(linkOptions());
    const Address from = options.local && options.local->port() != 0
                             ? *options.local
                             : options.local.value_or(to.withPort(0)).withPort(nextPort());
    link->beginConnect();
    std::shared_ptr<Backlog> backlog;
    bool silent = false;
    {
      const MutexLock lock(lock_);
      silent = std::find(silent_.begin(), silent_.end(), to) != silent_.end();
      backlog = find(to);
      forgetThoseThatEnded();
      links_.push_back(link);
    }
    IoHandlePtr handle = makeMemoryHandle(link, 0, from, to);
    if (silent) {
      return handle;
    }
    if (backlog == nullptr) {
      link->finishConnect(ECONNREFUSED, 2 * options_.delay);
    } else {
      backlog->add(std::move(link), from);
    }
    return handle;
  }

  absl::StatusOr<ListenHandlePtr> listen(const Address& at, const ListenOptions& options);

  void setSilent(const Address& address, bool silent) {
    const MutexLock lock(lock_);
    silent_.erase(std::remove(silent_.begin(), silent_.end(), address), silent_.end());
    if (silent) {
      silent_.push_back(address);
    }
  }

  std::vector<std::shared_ptr<MemoryLink>> links() {
    const MutexLock lock(lock_);
    forgetThoseThatEnded();
    return {links_.begin(), links_.end()};
  }

private:
  class Handle;

  // Where several listen, each is given its turn.
  std::shared_ptr<Backlog> find(const Address& to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    const auto found = listeners_.find(to);
    if (found == listeners_.end()) {
      return nullptr;
    }
    return found->second.backlogs[found->second.turn++ % found->second.backlogs.size()];
  }

  void forgetThoseThatEnded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    links_.erase(std::remove_if(links_.begin(), links_.end(),
                                [](const std::shared_ptr<MemoryLinkImpl>& link) { return link->bothClosed(); }),
                 links_.end());
  }

  // Each link draws other numbers, which depend on nothing but the order in which they are made.
  MemoryLinkOptions linkOptions() {
    MemoryLinkOptions options = options_;
    const MutexLock lock(lock_);
    options.seed = options_.seed + ++links_made_;
    return options;
  }

  uint16_t nextPort() {
    const MutexLock lock(lock_);
    const uint16_t port = next_port_;
    next_port_ = port == UINT16_MAX ? kFirstFreePort : static_cast<uint16_t>(port + 1);
    return port;
  }

  void remove(const std::shared_ptr<Backlog>& backlog) {
    const MutexLock lock(lock_);
    const auto found = listeners_.find(backlog->address());
    std::vector<std::shared_ptr<Backlog>>& backlogs = found->second.backlogs;
    backlogs.erase(std::remove(backlogs.begin(), backlogs.end(), backlog), backlogs.end());
    if (backlogs.empty()) {
      listeners_.erase(found);
    }
  }

  struct Listeners {
    std::vector<std::shared_ptr<Backlog>> backlogs;
    std::size_t turn = 0;
    bool shared = false;
  };

  const MemoryLinkOptions options_;
  Mutex lock_;
  absl::flat_hash_map<Address, Listeners> listeners_ ABSL_GUARDED_BY(lock_);
  std::vector<Address> silent_ ABSL_GUARDED_BY(lock_);
  std::vector<std::shared_ptr<MemoryLinkImpl>> links_ ABSL_GUARDED_BY(lock_);
  uint64_t links_made_ ABSL_GUARDED_BY(lock_) = 0;
  uint16_t next_port_ ABSL_GUARDED_BY(lock_) = kFirstFreePort;
};

class MemoryNetwork::Impl::Handle final : public ListenHandle {
public:
  Handle(std::shared_ptr<Impl> network, std::shared_ptr<Backlog> backlog)
      : network_(std::move(network)), backlog_(std::move(backlog)) {}
  ~Handle() override {
    network_->remove(backlog_);
    backlog_->close();
  }
  Accepted accept() override { return backlog_->accept(); }
  const Address& address() const override { return backlog_->address(); }
  int nativeFd() const override { return -1; }
  absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb) override {
    if (!NUNCIO_CONTRACT(cb != nullptr, dispatcher.name(), "ListenHandle::createReadyEvent", "null callback")) {
      return absl::InvalidArgumentError("null callback");
    }
    return std::make_unique<MemoryEvent>(dispatcher, backlog_, std::move(cb), FileTriggerType::Level,
                                         FileReadyType::Read);
  }

private:
  const std::shared_ptr<Impl> network_;
  const std::shared_ptr<Backlog> backlog_;
};

absl::StatusOr<ListenHandlePtr> MemoryNetwork::Impl::listen(const Address& at, const ListenOptions& options) {
  const Address address = !at.isUnix() && at.port() == 0 ? at.withPort(nextPort()) : at;
  auto backlog = std::make_shared<Backlog>(address, static_cast<std::size_t>(std::max(1, options.backlog)), options_);
  {
    const MutexLock lock(lock_);
    Listeners& listeners = listeners_[address];
    if (!listeners.backlogs.empty() && !(listeners.shared && options.socket.reuse_port)) {
      return absl::AlreadyExistsError(absl::StrCat("listen on ", address.toString(), ": somebody listens there"));
    }
    listeners.shared = options.socket.reuse_port;
    listeners.backlogs.push_back(backlog);
  }
  return std::make_unique<Handle>(shared_from_this(), std::move(backlog));
}

MemoryNetwork::MemoryNetwork(const MemoryLinkOptions& options) : impl_(std::make_shared<Impl>(options)) {}
MemoryNetwork::~MemoryNetwork() = default;

absl::StatusOr<IoHandlePtr> MemoryNetwork::connect(const Address& to, const ConnectOptions& options) {
  return impl_->connect(to, options);
}

absl::StatusOr<ListenHandlePtr> MemoryNetwork::listen(const Address& at, const ListenOptions& options) {
  return impl_->listen(at, options);
}

void MemoryNetwork::setSilent(const Address& address, bool silent) { impl_->setSilent(address, silent); }

std::vector<std::shared_ptr<MemoryLink>> MemoryNetwork::links() const { return impl_->links(); }

}  // namespace nuncio::network
