#pragma once

#include <string>
#include <sys/types.h>

#include "nuncio/common/inline_function.h"

namespace nuncio::test {

// Forks, runs `f` in the child, and waits. Returns "" when `f` returned, else how the child ended.
std::string runInChild(InlineFunction<void(), 64> f);

// As above in two steps, for parents that work meanwhile.
pid_t startChild(InlineFunction<void(), 64> f);
std::string waitForChild(pid_t pid);

// Ends the child with a message; see CHILD_CHECK.
[[noreturn]] void failChild(const char* file, int line, const char* condition);

}  // namespace nuncio::test

// GoogleTest's assertions are of no use in a forked child: nobody would read their results.
#define CHILD_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::nuncio::test::failChild(__FILE__, __LINE__, #condition))
