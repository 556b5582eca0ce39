#include "nuncio/network/connector.h"

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/race.h"
#include "nuncio/future/time.h"
#include "source/network/connection_impl.h"

namespace nuncio::network {
namespace {

// Shared by the attempts, which may outlive the caller's.
using OptionsPtr = std::shared_ptr<const ConnectorOptions>;

absl::Status check(const ConnectorOptions& options) {
  if (options.timeout.count() <= 0 || options.stagger.count() < 0) {
    return absl::InvalidArgumentError(absl::StrCat("ConnectorOptions: timeout ", options.timeout.count(),
                                                   " ms has to be above 0, and stagger ", options.stagger.count(),
                                                   " ms no less than that"));
  }
  return checkOptions(options.connection);
}

Future<ConnectionPtr> tryOne(Dispatcher& dispatcher, Network& network, Address to, OptionsPtr options) {
  absl::StatusOr<IoHandlePtr> handle = network.connect(to, options->connect);
  if (!handle.ok()) {
    co_return handle.status();
  }
  Promise<void> promise;
  Future<void> opened = promise.future(dispatcher);
  absl::StatusOr<ConnectionPtr> connection =
      ConnectionImpl::connect(dispatcher, *std::move(handle), options->connection,
                              [promise = std::move(promise)](const absl::Status& status) mutable {
                                promise.setTry(status.ok() ? Try<void>(Unit()) : Try<void>(status));
                              });
  if (!connection.ok()) {
    co_return connection.status();
  }
  Try<void> result = co_await asTry(std::move(opened));
  if (result.failed()) {
    const absl::Status status = result.status();
    co_return absl::Status(status.code(), absl::StrCat("connect to ", to.toString(), ": ", status.message()));
  }
  co_return *std::move(connection);
}

// One attempt after the other, each beside those that have not answered.
Future<ConnectionPtr> tryAll(Dispatcher& dispatcher, Network& network, std::vector<Address> to, OptionsPtr options) {
  Race<ConnectionPtr> race(dispatcher);
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  std::string failures;
  std::size_t next = 0;
  for (;;) {
    if (next < to.size()) {
      if (!race.add(tryOne(dispatcher, network, to[next], options))) {
        co_return absl::ResourceExhaustedError("no memory to connect");
      }
      ++next;
    }
    std::optional<Race<ConnectionPtr>::Item> item;
    if (next < to.size()) {
      auto waited = co_await asTry(within(race.next(), options->stagger));
      if (waited.failed() && absl::IsDeadlineExceeded(waited.status())) {
        continue;  // silent: the next one is tried beside it
      }
      item = std::move(waited).value();
    } else {
      item = co_await race.next();
    }
    if (!item.has_value()) {
      co_return absl::Status(code, failures);
    }
    Try<ConnectionPtr>& result = item->second;
    if (result.hasValue()) {
      co_return std::move(result).value();
    }
    const absl::Status status = result.status();
    code = failures.empty() ? status.code() : code;
    absl::StrAppend(&failures, failures.empty() ? "" : "; ", status.message());
  }
}

// What within() says, in words about this.
Future<ConnectionPtr> withTimeout(Future<ConnectionPtr> connecting, std::string to, std::chrono::milliseconds timeout,
                                  std::source_location place) {
  Try<ConnectionPtr> result = co_await asTry(within(std::move(connecting), timeout, place));
  if (result.failed() && absl::IsDeadlineExceeded(result.status())) {
    co_return absl::DeadlineExceededError(
        absl::StrCat("connect to ", to, ": not connected within ", timeout.count(), " ms"));
  }
  co_return std::move(result);
}

}  // namespace

std::vector<Address> happyEyeballsOrder(const std::vector<Address>& addresses) {
  std::deque<Address> first;
  std::deque<Address> others;
  for (const Address& address : addresses) {
    (address.family() == addresses.front().family() ? first : others).push_back(address);
  }
  std::vector<Address> order;
  order.reserve(addresses.size());
  while (!first.empty() || !others.empty()) {
    for (std::deque<Address>* const family : {&first, &others}) {
      if (!family->empty()) {
        order.push_back(std::move(family->front()));
        family->pop_front();
      }
    }
  }
  return order;
}

Future<ConnectionPtr> connect(Dispatcher& dispatcher, Network& network, const Address& to,
                              const ConnectorOptions& options, std::source_location place) {
  return connect(dispatcher, network, std::vector<Address>{to}, options, place);
}

Future<ConnectionPtr> connect(Dispatcher& dispatcher, Network& network, std::vector<Address> to,
                              const ConnectorOptions& options, std::source_location place) {
  if (absl::Status status = check(options); !status.ok()) {
    return makeFailedFuture<ConnectionPtr>(status, place);
  }
  if (to.empty()) {
    return makeFailedFuture<ConnectionPtr>(absl::InvalidArgumentError("connect: to no address"), place);
  }
  auto shared = std::make_shared<const ConnectorOptions>(options);
  std::string name =
      to.size() == 1 ? to.front().toString() : absl::StrCat(to.front().toString(), " and ", to.size() - 1, " others");
  return withTimeout(tryAll(dispatcher, network, happyEyeballsOrder(to), std::move(shared)), std::move(name),
                     options.timeout, place);
}

}  // namespace nuncio::network
