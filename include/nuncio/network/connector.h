#pragma once

#include <chrono>
#include <source_location>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/network/connection.h"
#include "nuncio/network/network.h"

// Connecting: to an address, or to the first of several that answers.
//
//   Future<ConnectionPtr> connecting = connect(dispatcher, systemNetwork(), *Address::parse("[::1]:8080"));
//   ConnectionPtr connection = co_await std::move(connecting);
//   connection->start(*this);
//
// Threads: the dispatcher's. Cancelling closes what has been tried, at any point of it, and so does dropping a
// connection that nobody has started.
namespace nuncio::network {

struct ConnectorOptions {
  ConnectOptions connect;
  ConnectionOptions connection;  // whose times count from when it is connected
  // From now until it is connected. > 0.
  std::chrono::milliseconds timeout{10'000};
  // Of several addresses: how long one may be silent before the next one is tried beside it; one that fails is followed
  // at once. >= 0. Source: RFC 8305, "Happy Eyeballs Version 2".
  std::chrono::milliseconds stagger{250};
};

// Connected to `to`. Fails with what Network::connect() says; Unavailable where it is refused, reset or unreachable,
// with the cause in words; DeadlineExceeded after the timeout; InvalidArgument for options out of range.
Future<ConnectionPtr> connect(Dispatcher& dispatcher, Network& network, const Address& to,
                              const ConnectorOptions& options = {},
                              std::source_location place = std::source_location::current());

// Connected to the first of `to` that answers: the first one is tried first, then IPv6 and IPv4 take turns, each family
// in its order. None is given up before the timeout. When all have failed: the code of the first failure, and the words
// of all. InvalidArgument where there is none.
Future<ConnectionPtr> connect(Dispatcher& dispatcher, Network& network, std::vector<Address> to,
                              const ConnectorOptions& options = {},
                              std::source_location place = std::source_location::current());

// The order in which they are tried.
std::vector<Address> happyEyeballsOrder(const std::vector<Address>& addresses);

}  // namespace nuncio::network
