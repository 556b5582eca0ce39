#pragma once

#include <cstddef>
#include <vector>

namespace nuncio {

// SlabPool: memory for many objects of one size, side by side in slabs that grow up to the size of a huge page.
//
// A million timers that are re-armed at random cost a miss in the TLB each, which under a hypervisor takes as long as
// the miss in the cache; huge pages, where the kernel grants them, take most of that away. Objects carry no header.
// What is given back is used again, last first; slabs are freed with the pool.
//
// Threads: one. Lifetime: beyond that of the objects.
class SlabPool {
public:
  explicit SlabPool(std::size_t object_bytes);
  ~SlabPool();
  SlabPool(const SlabPool&) = delete;
  SlabPool& operator=(const SlabPool&) = delete;

  // Sees to room for `objects` in all. Throws std::bad_alloc, and has then changed nothing.
  void reserve(std::size_t objects) {
    while (capacity_ < objects) {
      addSlab();
    }
  }

  // Aligned for pointers. Throws std::bad_alloc; not within what was reserved.
  void* take();
  void give(void* object);

private:
  struct Free {
    Free* next;
  };
  struct Slab {
    std::byte* memory;  // from aligned_alloc
    std::size_t used;
    std::size_t end;
  };
  static constexpr std::size_t kFirstBytes = 4096;
  static constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

  void addSlab();

  const std::size_t object_bytes_;
  std::size_t capacity_ = 0;  // objects
  std::size_t fresh_ = 0;     // the first slab that has memory not yet used
  std::vector<Slab> slabs_;
  Free* free_ = nullptr;
};

}  // namespace nuncio
