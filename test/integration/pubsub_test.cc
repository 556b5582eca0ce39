// Drives //examples:pubsub from outside: it ends in order, at whatever moment it is told to.

#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/integration/subprocess.h"

namespace nuncio {
namespace {

using testing::EndsWith;

std::vector<std::string> command(std::vector<std::string> arguments = {}) {
  const char* const path = std::getenv("PUBSUB");
  arguments.insert(arguments.begin(), path != nullptr ? path : "examples/pubsub");
  return arguments;
}

TEST(PubsubTest, EndsByItselfWhenAllIsPublished) {
  Subprocess program(command({"25"}));
  EXPECT_EQ("publishing", program.readLine());
  EXPECT_EQ("100 published on 4 workers, 0 lost", program.readLine());
  EXPECT_EQ(0, program.waitForExit()) << program.output();
}

TEST(PubsubTest, LosesNothingWhenASignalEndsIt) {
  for (int round = 0; round < 10; ++round) {
    Subprocess program(command());
    ASSERT_EQ("publishing", program.readLine());
    program.signal(round % 2 == 0 ? SIGINT : SIGTERM);
    EXPECT_THAT(program.readLine().value_or(""), EndsWith(" published on 4 workers, 0 lost"));
    EXPECT_EQ(0, program.waitForExit()) << program.output();
  }
}

TEST(PubsubTest, MoreSignalsMeanwhileChangeNothing) {
  Subprocess program(command());
  ASSERT_EQ("publishing", program.readLine());
  for (int i = 0; i < 5; ++i) {
    program.signal(SIGINT);
    program.signal(SIGTERM);
  }
  EXPECT_THAT(program.readLine().value_or(""), EndsWith(" workers, 0 lost"));
  EXPECT_EQ(0, program.waitForExit()) << program.output();
}

}  // namespace
}  // namespace nuncio
