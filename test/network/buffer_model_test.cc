// Buffers under random work, against std::string. What is checked: see buffer_model.h.
//
// The seed is printed when it fails; NUNCIO_MODEL_SEED repeats a run, NUNCIO_MODEL_ROUNDS sets the number of rounds.

#include "test/network/buffer_model.h"

#include <cstdint>
#include <cstdlib>
#include <random>
#include <stdexcept>

#include "gtest/gtest.h"

#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

constexpr int kSteps = 60;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(BufferModelTest, BuffersHoldWhatStringsDoInEachRound) {
  const uint64_t seed = fromEnvironment("NUNCIO_MODEL_SEED", std::random_device()());
  const uint64_t rounds = fromEnvironment("NUNCIO_MODEL_ROUNDS", test::kSanitizer ? 1000 : 4000);
  for (uint64_t round = 0; round < rounds; ++round) {
    std::mt19937_64 random(seed + round);
    int step = 0;
    try {
      BufferModel model([&](uint64_t n) { return random() % n; });
      for (; step < kSteps; ++step) {
        model.step();
      }
      model.finish();
    } catch (const std::logic_error& wrong) {
      FAIL() << wrong.what() << ", in step " << step
             << "; repeat with NUNCIO_MODEL_ROUNDS=1 NUNCIO_MODEL_SEED=" << seed + round;
    }
  }
}

}  // namespace
}  // namespace nuncio::network
