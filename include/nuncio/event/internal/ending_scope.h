#pragma once

namespace nuncio {

class LoopCore;

// What has been asked to stop ends before this does: runs the tasks that LoopCore::addEnding() gathers meanwhile, and
// those that they cause. One within another does the same at once while the stack is not deep; deeper, it leaves them
// to the outermost. On the loop's thread.
class EndingScope {
public:
  explicit EndingScope(LoopCore& loop) noexcept;
  ~EndingScope();
  EndingScope(const EndingScope&) = delete;
  EndingScope& operator=(const EndingScope&) = delete;

private:
  LoopCore& loop_;
};

}  // namespace nuncio
