/*
 * attrs: GNU attributes behind names, and the functions nobody may call
 *
 * Purpose    one place for compiler specifics; every source file gets it through
 *            the other headers of common/base
 * Source     STYLE "Compiler", "Threads and locks"
 */
#pragma once

#define MUST_CHECK    __attribute__((warn_unused_result))
#define PRINTF_FMT(f, a) __attribute__((format(printf, f, a)))
#define NORETURN      __attribute__((noreturn))
#define UNUSED        __attribute__((unused))
#define LIKELY(x)     __builtin_expect(!!(x), 1)
#define UNLIKELY(x)   __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a)  (sizeof(a) / sizeof((a)[0]))

/* Clang checks these at compile time (-Wthread-safety); for gcc they are documentation. */
#if defined(__clang__)
#define CAPABILITY(x)  __attribute__((capability(x)))
#define REQUIRES(x)    __attribute__((requires_capability(x)))
#define ACQUIRE(x)     __attribute__((acquire_capability(x)))
#define RELEASE(x)     __attribute__((release_capability(x)))
#define NO_THREAD_SAFETY __attribute__((no_thread_safety_analysis))
#else
#define CAPABILITY(x)
#define REQUIRES(x)
#define ACQUIRE(x)
#define RELEASE(x)
#define NO_THREAD_SAFETY
#endif
#define GUARDED_BY(x)  /* not accepted on struct fields in C by clang 14: documentation */

#if !defined(POISON_OFF)
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alloca.h>
#undef strcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef strtok
#undef alloca
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok gets atoi atol atoll alloca
#endif
