#pragma once
#include <csetjmp>
#include <cstdio>

namespace sentinel {

/// How an error handler of libjpeg or libpng, which must not return, leaves the library: it writes
/// the message and jumps to where guarded() was called.
struct CError {
  std::jmp_buf caller;
  char message[256] = "";

  [[noreturn]] void leave() { std::longjmp(caller, 1); }
};

/// Calls `body`; false where it was left by error.leave(). A jump runs no destructors, so `body`
/// and what it calls may own nothing: what it fills is made before, outside.
template <class Body>
bool guarded(CError& error, const Body& body) {
  if (setjmp(error.caller) != 0) return false;
  body();
  return true;
}

}  // namespace sentinel
