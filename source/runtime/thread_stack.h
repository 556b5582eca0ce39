#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace nuncio {

// The stack of another thread of this process, which is asked by a signal: its handler notes the return addresses.
// Threads: any.

// Has to succeed first. Takes a real-time signal for the life of the process: ResourceExhausted when none is free.
absl::Status prepareThreadStacks();

// That signal; 0: none yet.
int threadStackSignal();

// Where thread `kernel_thread` is, innermost first: an address of an instruction, then return addresses. Empty when it
// has ended, or does not answer within 50 ms, as one that blocks the signal; or when another thread is being asked.
// Meanwhile nobody can fork.
std::vector<void*> stackOfThread(int kernel_thread);

// For each of them, "0x5581e3f0a2c1 in Trie::walk() (server+0x142c1)": the address of the instruction, or of the call.
std::vector<std::string> describeStack(const std::vector<void*>& stack);

}  // namespace nuncio
