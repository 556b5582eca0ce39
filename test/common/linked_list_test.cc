#include "nuncio/common/linked_list.h"

#include <vector>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

struct Item : ListLink {
  explicit Item(int value) : number(value) {}
  int number;
};

class LinkedListTest : public testing::Test {
protected:
  std::vector<int> takeAll() {
    std::vector<int> numbers;
    while (!list_.empty()) {
      numbers.push_back(list_.takeFirst().number);
    }
    return numbers;
  }

  LinkedList<Item> list_;
  Item one_{1};
  Item two_{2};
  Item three_{3};
};

TEST_F(LinkedListTest, FirstInFirstOut) {
  list_.add(one_);
  list_.add(two_);
  list_.add(three_);
  EXPECT_EQ(takeAll(), (std::vector<int>{1, 2, 3}));
}

TEST_F(LinkedListTest, MemberLeavesFromWhereverItStands) {
  list_.add(one_);
  list_.add(two_);
  list_.add(three_);
  two_.unlink();
  EXPECT_FALSE(two_.listed());
  EXPECT_EQ(list_.after(one_), &three_);
  one_.unlink();
  EXPECT_EQ(&list_.first(), &three_);
  three_.unlink();
  EXPECT_TRUE(list_.empty());
}

TEST_F(LinkedListTest, LeavingTwiceDoesNothing) {
  list_.add(one_);
  list_.add(two_);
  one_.unlink();
  one_.unlink();
  EXPECT_EQ(takeAll(), (std::vector<int>{2}));
}

TEST_F(LinkedListTest, MemberThatLeftMayComeBack) {
  list_.add(one_);
  list_.add(two_);
  EXPECT_EQ(&list_.takeFirst(), &one_);
  EXPECT_FALSE(one_.listed());
  list_.add(one_);
  EXPECT_EQ(list_.after(one_), nullptr);
  EXPECT_EQ(takeAll(), (std::vector<int>{2, 1}));
}

}  // namespace
}  // namespace nuncio::test
