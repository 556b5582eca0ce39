#pragma once

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/log_capture.h"

// The statement breaks the library's contract: it ends a debug build with a message that matches `matcher`; a release
// build refuses it and logs such a message.
//
//   EXPECT_CONTRACT_VIOLATION(timer->enableTimer(-5ms), testing::HasSubstr("-5"));
#ifdef NDEBUG
#define EXPECT_CONTRACT_VIOLATION(statement, matcher)                    \
  do {                                                                   \
    ::nuncio::test::LogCapture contract_log(::nuncio::LogLayer::Common); \
    {                                                                    \
      statement;                                                         \
    }                                                                    \
    EXPECT_THAT(contract_log.text(), (matcher));                         \
  } while (false)
#else
#define EXPECT_CONTRACT_VIOLATION(statement, matcher) EXPECT_DEATH({ statement; }, (matcher))
#endif

namespace nuncio::test {

#ifdef NDEBUG
inline constexpr bool kDebugBuild = false;
#else
inline constexpr bool kDebugBuild = true;
#endif

}  // namespace nuncio::test
