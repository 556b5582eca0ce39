#pragma once

#include "nuncio/common/linked_list.h"

namespace nuncio {

// WorkItem: something that a loop is to run once, in a list without allocation. Destroying it takes it out of its list.
class WorkItem : public ListLink {
public:
  virtual ~WorkItem() { unlink(); }

  virtual void runWork() = 0;

  bool queued() const { return listed(); }
};

// WorkList: items in the order in which they were added; first in, first out.
class WorkList : public LinkedList<WorkItem> {
public:
  ~WorkList() {
    while (!empty()) {
      takeFirst();
    }
  }

  // Moves all items of `other` behind those of this list.
  void append(WorkList& other) {
    while (!other.empty()) {
      add(other.takeFirst());
    }
  }
};

}  // namespace nuncio
