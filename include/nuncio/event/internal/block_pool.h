#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

namespace nuncio {

// BlockPool: memory in two sizes for what is made and freed again and again, from malloc and kept for reuse: 1,024
// blocks of each at most. A block may be freed elsewhere, by std::free(). Threads: one.
class BlockPool {
public:
  static constexpr std::size_t kSmallBytes = 256;
  static constexpr std::size_t kLargeBytes = 1024;

  BlockPool() = default;
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;
  ~BlockPool() {
    small_.clear();
    large_.clear();
  }

  // Null without memory.
  void* allocateSmall() { return small_.take(kSmallBytes); }
  void* allocateLarge() { return large_.take(kLargeBytes); }
  // Null when it would come from malloc.
  void* reuseSmall() { return small_.reuse(); }
  void freeSmall(void* block) { small_.give(block); }
  void freeLarge(void* block) { large_.give(block); }

private:
  class FreeList {
  public:
    void* take(std::size_t bytes) {
      void* const block = reuse();
      return block != nullptr ? block : std::malloc(bytes);
    }
    void* reuse() {
      if (first_ == nullptr) {
        return nullptr;
      }
      --count_;
      return std::exchange(first_, first_->next);
    }
    void give(void* block) {
      if (count_ == kLimit) {
        std::free(block);
        return;
      }
      ++count_;
      first_ = ::new (block) Free{first_};
    }
    void clear() {
      while (first_ != nullptr) {
        std::free(std::exchange(first_, first_->next));
      }
    }

  private:
    struct Free {
      Free* next;
    };
    static constexpr std::size_t kLimit = 1024;
    Free* first_ = nullptr;
    std::size_t count_ = 0;
  };

  FreeList small_;
  FreeList large_;
};

}  // namespace nuncio
