// The input says what is done with some Buffers, byte by byte; std::string says what must come of it. What is checked:
// see test/network/buffer_model.h.

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

#include "test/network/buffer_model.h"

namespace nuncio::network {
namespace {

// Numbers below what is asked for, from as many bytes as that takes; 0 once there are no more.
class Choices {
public:
  explicit Choices(absl::Span<const uint8_t> input) : left_(input) {}

  bool empty() const { return left_.empty(); }
  uint64_t below(uint64_t n) {
    uint64_t chosen = 0;
    for (uint64_t most = n - 1; most > 0 && !left_.empty(); most >>= 8) {
      chosen = chosen << 8 | left_.front();
      left_.remove_prefix(1);
    }
    return chosen % n;
  }

private:
  absl::Span<const uint8_t> left_;
};

}  // namespace
}  // namespace nuncio::network

// What the model throws ends the program, and so is found.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nuncio::network::Choices choices(absl::MakeConstSpan(data, size));
  nuncio::network::BufferModel model([&](uint64_t n) { return choices.below(n); });
  while (!choices.empty()) {
    model.step();
  }
  model.finish();
  return 0;
}
