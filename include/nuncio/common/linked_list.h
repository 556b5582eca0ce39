#pragma once

namespace nuncio {

template <class T>
class LinkedList;

// A member of a LinkedList, in at most one at a time. Linked both ways, so that it can leave from wherever it stands.
class ListLink {
public:
  ListLink() = default;
  ListLink(const ListLink&) = delete;
  ListLink& operator=(const ListLink&) = delete;

  bool listed() const { return next_ != nullptr; }
  // Leaves its list, if it is in one.
  void unlink() {
    if (next_ != nullptr) {
      previous_->next_ = next_;
      next_->previous_ = previous_;
      next_ = nullptr;
    }
  }

protected:
  ~ListLink() = default;

private:
  template <class T>
  friend class LinkedList;
  ListLink* previous_ = nullptr;  // what it was when it left, once it has left
  ListLink* next_ = nullptr;      // null: in no list
};

// LinkedList: an intrusive list of what derives from ListLink, first in, first out.
//
//   class Job : public ListLink { ... };
//   LinkedList<Job> jobs;
//   jobs.add(job);
//   jobs.takeFirst().run();
//
// Threads: one at a time. Lifetime: it owns nothing; its members leave it before it goes, and before they go. Cost:
// allocates nothing; all take constant time.
template <class T>
class LinkedList {
public:
  LinkedList() { end_.previous_ = end_.next_ = &end_; }
  LinkedList(const LinkedList&) = delete;
  LinkedList& operator=(const LinkedList&) = delete;

  bool empty() const { return end_.next_ == &end_; }
  // Not when empty.
  T& first() { return static_cast<T&>(*end_.next_); }
  // The one behind `item`; null at the end.
  T* after(T& item) {
    ListLink* const next = static_cast<ListLink&>(item).next_;
    return next != &end_ ? static_cast<T*>(next) : nullptr;
  }
  // To the end; `item` is in no list.
  void add(T& item) {
    ListLink& link = item;
    ListLink& last = *end_.previous_;
    link.previous_ = &last;
    last.next_ = &link;  // between those two, which a compiler would make into one store that takes longer
    link.next_ = &end_;
    end_.previous_ = &link;
  }
  // Not when empty.
  T& takeFirst() {
    ListLink& link = *end_.next_;
    end_.next_ = link.next_;
    link.next_->previous_ = &end_;
    link.next_ = nullptr;
    return static_cast<T&>(link);
  }

private:
  class End final : public ListLink {};
  End end_;
};

}  // namespace nuncio
