"""The library's speed tricks, each with how to take it out of a checkout: for tools/bench --without.

A trick is a list of (file or folder, regular expression, replacement). Each expression has to match somewhere, so that
tools/bench_test.py notices when the code has moved on. tools/bench --without TRICK says what one buys.
"""
import re

TRICKS = {
    "always_inline": [
        ("include/nuncio/future", r"\[\[gnu::always_inline\]\] ", ""),
    ],
    "prefetch_posts": [
        ("source/event/post_queue.cc", r"  prefetchForWriting\(record \+ kPrefetchBytes\);\n", ""),
        ("source/event/post_queue.cc", r"void prefetchForWriting", "[[maybe_unused]] void prefetchForWriting"),
        ("source/event/post_queue.cc", r"constexpr std::size_t kPrefetchBytes", "[[maybe_unused]] constexpr std::size_t kPrefetchBytes"),
    ],
    "prefetch_timers": [
        ("source/event/timer_queue.cc", r"__builtin_prefetch\(", "static_cast<void>("),
        ("source/event/timer_queue.cc", r"static_cast<void>\((.*), 1\);", r"static_cast<void>(\1);"),
    ],
    "huge_pages": [
        ("source/event/slab_pool.cc", r"MADV_HUGEPAGE", "MADV_NOHUGEPAGE"),
    ],
    "fast_clock": [
        ("source/event/fast_clock.cc", r"(uint64_t FastClock::now\(\) \{\n)", r"\1  return steadyNanoseconds();\n"),
    ],
    "own_mutex": [
        ("include/nuncio/common/mutex.h", r"if \(!tryLock\(\)\) \{\s*lockContended\(\);\s*\}", "mutex_.lock();"),
        ("include/nuncio/common/mutex.h",
         r"uint32_t expected = kFree;\s*return state_\.compare_exchange_strong\([^;]*;", "return mutex_.try_lock();"),
        ("include/nuncio/common/mutex.h",
         r"if \(state_\.exchange\(kFree, [^{]*\{\s*state_\.notify_one\(\);\s*\}", "mutex_.unlock();"),
        ("include/nuncio/common/mutex.h", r"(std::atomic<uint32_t> state_\{kFree\};)", r"std::mutex mutex_;\n  \1"),
        ("include/nuncio/common/mutex.h", r"#include <cstdint>\n", "#include <cstdint>\n#include <mutex>\n"),
    ],
    "linger": [
        ("include/nuncio/event/dispatcher.h", r"linger\{6000\};", "linger{0};"),
    ],
    "place_in_pointer": [
        ("include/nuncio/future/future.h", r"(  LoopCore\* loop_ = nullptr; )", r"  void* place_ = nullptr;\n\1"),
        ("include/nuncio/future/future.h", r"(node_or_place_\(std::bit_cast<void\*>\(place\)\))",
         r"\1, place_(node_or_place_)"),
        ("include/nuncio/future/future.h", r"(node_or_place_\(std::exchange\(other\.node_or_place_, nullptr\)\),)",
         r"\1 place_(other.place_),"),
        ("include/nuncio/future/future.h", r"(node_or_place_ = std::exchange\(other\.node_or_place_, nullptr\);)",
         r"\1 place_ = other.place_;"),
        ("include/nuncio/future/future.h", r"static_assert\(sizeof\(Future<int>\) <= 32\);", ""),
    ],
    "stack_floor": [
        ("include/nuncio/event/internal/loop_core.h", r"(  static uintptr_t stackFloor\(\) \{ return stack_floor_; \}\n)",
         r"\1  static inline thread_local constinit int depth = 0;\n"
         r"  struct Deeper { Deeper() { ++depth; } ~Deeper() { --depth; } };\n"),
        ("include/nuncio/future/internal/node.h",
         r"reinterpret_cast<uintptr_t>\(__builtin_frame_address\(0\)\) < LoopCore::stackFloor\(\)", "LoopCore::depth >= 32"),
        ("include/nuncio/future/internal/future_impl.h",
         r"(::runInPlace\(Op& op, std::source_location place\) \{\n)", r"\1  const LoopCore::Deeper deeper;\n"),
    ],
    "biased_count": [
        ("include/nuncio/event/internal/loop_core.h", r"\+\+local_references_;",
         "references_.fetch_add(1, std::memory_order_relaxed);"),
        ("include/nuncio/event/internal/loop_core.h", r"--local_references_;", "releaseShared();"),
    ],
    "block_pool": [
        ("include/nuncio/event/internal/block_pool.h", r"first_ == nullptr\) \{\n        return", "true) {\n        return"),
        ("include/nuncio/event/internal/block_pool.h", r"count_ == kLimit", "true"),
    ],
}


def files_of(top, path):
    where = top / path
    return sorted(where.rglob("*.h")) if where.is_dir() else [where]


def remove(trick, top):
    """Takes a trick out of the checkout at `top`. ValueError names what does not match."""
    for path, expression, replacement in TRICKS[trick]:
        matches = 0
        for file in files_of(top, path):
            text, count = re.subn(expression, replacement, file.read_text())
            if count:
                file.write_text(text)
            matches += count
        if not matches:
            raise ValueError("%s: nothing in %s matches %s" % (trick, path, expression))
