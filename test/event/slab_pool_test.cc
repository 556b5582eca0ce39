#include "source/event/slab_pool.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio {
namespace {

constexpr std::size_t kBytes = 72;

TEST(SlabPoolTest, ObjectsOfManySlabsNeitherOverlapNorLoseTheirContents) {
  SlabPool pool(kBytes);
  std::vector<std::byte*> objects;
  for (std::size_t i = 0; i < 100'000; ++i) {
    objects.push_back(static_cast<std::byte*>(pool.take()));
    std::memset(objects.back(), static_cast<int>(i % 251), kBytes);
  }
  for (std::size_t i = 0; i < objects.size(); ++i) {
    ASSERT_EQ(reinterpret_cast<uintptr_t>(objects[i]) % alignof(void*), 0);
    ASSERT_TRUE(std::all_of(objects[i], objects[i] + kBytes, [i](std::byte b) { return b == std::byte(i % 251); }));
  }
  std::sort(objects.begin(), objects.end());
  for (std::size_t i = 1; i < objects.size(); ++i) {
    ASSERT_GE(objects[i] - objects[i - 1], static_cast<std::ptrdiff_t>(kBytes));
  }
}

TEST(SlabPoolTest, UsesAgainWhatWasGivenBackLastFirst) {
  SlabPool pool(kBytes);
  void* const a = pool.take();
  void* const b = pool.take();
  pool.give(a);
  pool.give(b);
  EXPECT_EQ(pool.take(), b);
  EXPECT_EQ(pool.take(), a);
}

TEST(SlabPoolTest, WhatWasReservedComesFromTheSameSlabsAsWithout) {
  SlabPool pool(kBytes);
  pool.reserve(1000);
  std::set<void*> objects;
  for (int i = 0; i < 2000; ++i) {
    objects.insert(pool.take());
  }
  EXPECT_EQ(objects.size(), 2000);
}

TEST(SlabPoolTest, ObjectsSmallerThanAPointerGetRoomForOne) {
  SlabPool pool(1);
  auto* const a = static_cast<std::byte*>(pool.take());
  auto* const b = static_cast<std::byte*>(pool.take());
  EXPECT_GE(b - a, static_cast<std::ptrdiff_t>(sizeof(void*)));
  pool.give(a);
  pool.give(b);
}

}  // namespace
}  // namespace nuncio
