#pragma once

#include <memory>

namespace nuncio {

// DeferredDeletable: an object that may be asked to go while its own methods are still on the stack.
//
//   class Connection : public DeferredDeletable { ... };
//   dispatcher.deferredDelete(std::move(connection)); // destroyed later in this iteration, with nothing of it running
class DeferredDeletable {
public:
  virtual ~DeferredDeletable() = default;
};

using DeferredDeletablePtr = std::unique_ptr<DeferredDeletable>;

}  // namespace nuncio
