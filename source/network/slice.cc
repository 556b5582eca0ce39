#include "source/network/slice.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "nuncio/common/logging.h"
#include "source/network/slice_pool.h"

namespace nuncio::network::buffer_internal {
namespace {

template <class Function, class... Args>
void callUsers(Function& function, const char* what, Args... args) noexcept {
  try {
    function(args...);
  } catch (const std::exception& e) {
    NUNCIO_LOG(Network, err, "a buffer's {} threw: {}; it is ignored", what, e.what());
  } catch (...) {
    NUNCIO_LOG(Network, err, "a buffer's {} threw; it is ignored", what);
  }
}

}  // namespace

void callRelease(ReleaseCb& release) noexcept {
  if (release != nullptr) {
    callUsers(release, "release callback");
  }
}

void callTracker(DrainTrackerCb& tracker, DrainResult result) noexcept { callUsers(tracker, "drain tracker", result); }

void SliceList::pushBack(Slice& slice) noexcept {
  slice.next = nullptr;
  (last == nullptr ? first : last->next) = &slice;
  last = &slice;
}

void SliceList::pushFront(Slice& slice) noexcept {
  slice.next = first;
  first = &slice;
  if (last == nullptr) {
    last = &slice;
  }
}

Slice& SliceList::popFront() noexcept {
  Slice& slice = *first;
  first = slice.next;
  if (first == nullptr) {
    last = nullptr;
  }
  return slice;
}

void Farewells::add(Farewell& farewell) noexcept {
  farewell.next_ = last_ == nullptr ? &farewell : std::exchange(last_->next_, &farewell);
  last_ = &farewell;
}

Farewell& Farewells::takeFirst() noexcept {
  Farewell& first = *last_->next_;
  if (&first == last_) {
    last_ = nullptr;
  } else {
    last_->next_ = first.next_;
  }
  return first;
}

void Farewells::callAll(DrainResult result) noexcept {
  while (!empty()) {
    Farewell& farewell = takeFirst();
    farewell.call(result);
    delete &farewell;
  }
}

absl::string_view Slice::write(absl::string_view bytes) noexcept {
  const std::size_t now = std::min(bytes.size(), room());
  if (now > 0) {  // memcpy() takes no null pointers, even for nothing
    std::memcpy(end, bytes.data(), now);
    end += now;
  }
  return bytes.substr(now);
}

absl::string_view Slice::writeInFront(absl::string_view bytes) noexcept {
  const std::size_t now = std::min(bytes.size(), headroom());
  if (now > 0) {
    begin -= now;
    std::memcpy(begin, bytes.data() + bytes.size() - now, now);
  }
  return bytes.substr(0, bytes.size() - now);
}

void Slice::moveFrontTo(Slice& to, std::size_t bytes) noexcept {
  std::memcpy(to.end, begin, bytes);
  while (!trackers.empty() && trackers.first().at <= begin + bytes) {
    Farewell& tracker = trackers.takeFirst();
    tracker.at = to.end + (tracker.at - begin);
    to.trackers.add(tracker);
  }
  begin += bytes;
  to.end += bytes;
}

void Slice::removeFront(std::size_t bytes, Farewells& gone) noexcept {
  begin += bytes;
  while (!trackers.empty() && trackers.first().at <= begin) {
    gone.add(trackers.takeFirst());
  }
}

void Fragment::call(DrainResult /*result*/) noexcept { callRelease(release); }

SpareSlices::~SpareSlices() {
  while (!list_.empty()) {
    giveSlice(list_.popFront());
  }
}

}  // namespace nuncio::network::buffer_internal
