#pragma once

namespace nuncio {

// WorkItem: something that a loop is to run once, in a list without allocation. Destroying it takes it out of its list.
class WorkItem {
public:
  WorkItem() = default;
  virtual ~WorkItem() { unlink(); }
  WorkItem(const WorkItem&) = delete;
  WorkItem& operator=(const WorkItem&) = delete;

  virtual void runWork() = 0;

  bool queued() const { return next_ != nullptr; }
  void unlink() {
    if (queued()) {
      previous_->next_ = next_;
      next_->previous_ = previous_;
      previous_ = next_ = nullptr;
    }
  }

private:
  friend class WorkList;
  WorkItem* previous_ = nullptr;
  WorkItem* next_ = nullptr;
};

// WorkList: items in the order in which they were added; first in, first out.
class WorkList {
public:
  WorkList() { end_.previous_ = end_.next_ = &end_; }
  ~WorkList() {
    while (!empty()) {
      takeFirst();
    }
    end_.previous_ = end_.next_ = nullptr;
  }

  bool empty() const { return end_.next_ == &end_; }
  void add(WorkItem& item) {
    item.previous_ = end_.previous_;
    item.next_ = &end_;
    item.previous_->next_ = &item;
    end_.previous_ = &item;
  }
  // Not when empty.
  WorkItem& takeFirst() {
    WorkItem& first = *end_.next_;
    first.unlink();
    return first;
  }
  // Moves all items of `other` behind those of this list.
  void append(WorkList& other) {
    while (!other.empty()) {
      add(other.takeFirst());
    }
  }

private:
  class End final : public WorkItem {
    void runWork() override {}
  };
  End end_;
};

}  // namespace nuncio
