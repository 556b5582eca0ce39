#include "source/network/apply_socket_options.h"

#include <cerrno>
#include <chrono>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "absl/strings/str_cat.h"

#include "source/common/errno_status.h"

namespace nuncio::network {

namespace {

// Sets one option after the other, until one fails.
class Setter {
public:
  explicit Setter(int fd) : fd_(fd) {}

  template <class T>
  void set(int level, int option, T value, absl::string_view name) {
    static_assert(sizeof(value) == sizeof(int));
    if (status_.ok() && ::setsockopt(fd_, level, option, &value, sizeof(value)) != 0) {
      status_ = errnoStatus(errno, absl::StrCat("setting ", name, " to ", value));
    }
  }
  template <class T>
  void setIfAny(int level, int option, std::optional<T> value, absl::string_view name) {
    if (value.has_value()) {
      set(level, option, *value, name);
    }
  }

  absl::Status status() && { return std::move(status_); }

private:
  const int fd_;
  absl::Status status_;
};

void setBuffers(Setter& setter, const SocketOptions& options) {
  setter.setIfAny(SOL_SOCKET, SO_SNDBUF, options.send_buffer_bytes, "SO_SNDBUF");
  setter.setIfAny(SOL_SOCKET, SO_RCVBUF, options.receive_buffer_bytes, "SO_RCVBUF");
}

void setKeepAlive(Setter& setter, const KeepAlive& keep_alive) {
  setter.set(IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(keep_alive.idle.count()), "TCP_KEEPIDLE");
  setter.set(IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(keep_alive.interval.count()), "TCP_KEEPINTVL");
  setter.set(IPPROTO_TCP, TCP_KEEPCNT, keep_alive.count, "TCP_KEEPCNT");
  setter.set(SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
}

// An IPv6 socket may have IPv4 peers, whose packets go by IP_TOS.
void setTrafficClass(Setter& setter, Address::Family family, int traffic_class) {
  setter.set(IPPROTO_IP, IP_TOS, traffic_class, "IP_TOS");
  if (family == Address::Family::IPv6) {
    setter.set(IPPROTO_IPV6, IPV6_TCLASS, traffic_class, "IPV6_TCLASS");
  }
}

void setConnectionOptions(Setter& setter, Address::Family family, const SocketOptions& options) {
  if (options.no_delay) {
    setter.set(IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  }
  if (options.keep_alive.has_value()) {
    setKeepAlive(setter, *options.keep_alive);
  }
  setter.setIfAny(IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.not_sent_low_watermark_bytes, "TCP_NOTSENT_LOWAT");
  if (options.user_timeout.has_value()) {
    setter.set(IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<unsigned>(options.user_timeout->count()), "TCP_USER_TIMEOUT");
  }
  if (options.traffic_class.has_value()) {
    setTrafficClass(setter, family, *options.traffic_class);
  }
  setter.setIfAny(SOL_SOCKET, SO_MARK, options.mark, "SO_MARK");
}

void setListenerOptions(Setter& setter, Address::Family family, const SocketOptions& options) {
  if (options.reuse_address) {
    setter.set(SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  }
  if (options.reuse_port) {
    setter.set(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  }
  if (family == Address::Family::IPv6) {
    setter.set(IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only ? 1 : 0, "IPV6_V6ONLY");
  }
}

void setLocalBindOptions(Setter& setter, const SocketOptions& options) {
  if (options.bind_address_no_port) {
    setter.set(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT");
  }
}

}  // namespace

absl::Status applySocketOptions(int fd, Address::Family family, const SocketOptions& options, SocketPhase phase) {
  Setter setter(fd);
  const bool tcp = family != Address::Family::Unix;
  if (phase == SocketPhase::Listener && tcp) {
    setListenerOptions(setter, family, options);
  }
  if (phase == SocketPhase::LocalBind && tcp) {
    setLocalBindOptions(setter, options);
  }
  if (phase != SocketPhase::LocalBind) {
    setBuffers(setter, options);
    if (tcp) {
      setConnectionOptions(setter, family, options);
    }
  }
  return std::move(setter).status();
}

}  // namespace nuncio::network
