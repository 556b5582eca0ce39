#pragma once

namespace nuncio {

// Gives the calling thread a signal stack when the crash handler is installed, so that a stack overflow can be
// reported. For each run; cheap after the first.
void prepareThreadForCrash();

}  // namespace nuncio
