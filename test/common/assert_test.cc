#include "nuncio/common/assert.h"

#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/contract.h"

namespace nuncio::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StrEq;

class AssertTest : public testing::Test {
protected:
  AssertTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(AssertTest, ReleaseAssertionThatHoldsDoesNothingAndEvaluatesNoDetails) {
  int evaluated = 0;
  NUNCIO_RELEASE_ASSERT(1 + 1 == 2, absl::StrCat(++evaluated));
  EXPECT_EQ(0, evaluated);
}

TEST_F(AssertTest, ReleaseAssertionThatFailsIsFatalInEveryBuild) {
  EXPECT_DEATH(NUNCIO_RELEASE_ASSERT(1 + 1 == 3, "arithmetic is off"),
               AllOf(HasSubstr("1 + 1 == 3"), HasSubstr("arithmetic is off"), HasSubstr("assert_test.cc"),
                     ContainsRegex("thread [0-9]+"), HasSubstr("TestBody")));
}

TEST_F(AssertTest, AssertionThatFailsIsFatalInDebugBuilds) {
  EXPECT_DEBUG_DEATH(NUNCIO_ASSERT(false, "details"), HasSubstr("details"));
}

TEST_F(AssertTest, AssertionEvaluatesNothingInReleaseBuilds) {
  int evaluated = 0;
  NUNCIO_ASSERT(++evaluated > 0, "");
  EXPECT_EQ(kDebugBuild ? 1 : 0, evaluated);
}

TEST_F(AssertTest, AssertionNamesTheDispatcherOfTheThread) {
  EXPECT_DEATH(
      {
        setCurrentDispatcherName("the dispatcher");
        NUNCIO_RELEASE_ASSERT(false, "");
      },
      HasSubstr("the dispatcher"));
}

TEST_F(AssertTest, ContractThatHoldsIsTrueAndEvaluatesNoDetails) {
  int evaluated = 0;
  EXPECT_TRUE(NUNCIO_CONTRACT(true, "dispatcher", "operation", absl::StrCat(++evaluated)));
  EXPECT_EQ(0, evaluated);
}

TEST_F(AssertTest, BrokenContractNamesDispatcherThreadAndOperation) {
  EXPECT_CONTRACT_VIOLATION(
      EXPECT_FALSE(NUNCIO_CONTRACT(2 < 1, "dispatcher_7", "Timer::enableTimer", "negative delay -5")),
      AllOf(HasSubstr("dispatcher_7"), HasSubstr("Timer::enableTimer"), HasSubstr("negative delay -5"),
            HasSubstr("2 < 1"), ContainsRegex("thread [0-9]+")));
}

TEST_F(AssertTest, CurrentDispatcherIsNamedForEachThread) {
  EXPECT_THAT(currentDispatcherName(), StrEq("-"));
  setCurrentDispatcherName("mine");
  EXPECT_THAT(currentDispatcherName(), StrEq("mine"));
  std::thread([] { EXPECT_THAT(currentDispatcherName(), StrEq("-")); }).join();
  setCurrentDispatcherName(nullptr);
  EXPECT_THAT(currentDispatcherName(), StrEq("-"));
}

}  // namespace
}  // namespace nuncio::test
