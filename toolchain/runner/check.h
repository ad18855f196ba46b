// What a test needs: CHECK says where it failed and goes on; the test's main returns Failures().
#pragma once

#include <cstdio>

namespace edgeq {

inline int& Failures() {
  static int failures = 0;
  return failures;
}

}  // namespace edgeq

#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
      ++edgeq::Failures();                                                     \
    }                                                                          \
  } while (false)

// The code of the Failure that `expression` throws, or a failure of the test.
#define CHECK_FAILS(expression, expected)                                      \
  do {                                                                         \
    bool failed = false;                                                       \
    try {                                                                      \
      (void)(expression);                                                      \
    } catch (const edgeq::Failure& failure) {                                  \
      failed = failure.code() == (expected);                                   \
    }                                                                          \
    CHECK(failed && #expression);                                              \
  } while (false)
