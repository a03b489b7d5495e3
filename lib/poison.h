/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer cannot know: memory of a mapping that nobody may touch, because the block or the argument in it
 * was freed. Without it these are nothing. It is the parent's own view: workers have a shadow of their own.
 */
#ifndef PP_LIB_POISON_H
#define PP_LIB_POISON_H

#include <stddef.h>

#if defined __has_feature
# if __has_feature(address_sanitizer)
#  define PP__ASAN 1
# endif
#endif
#if defined __SANITIZE_ADDRESS__
# define PP__ASAN 1
#endif

#ifdef PP__ASAN
# include <sanitizer/asan_interface.h>
static inline void pp__poison(const void *at, size_t size) { __asan_poison_memory_region(at, size); }
static inline void pp__unpoison(const void *at, size_t size) { __asan_unpoison_memory_region(at, size); }
#else
static inline void pp__poison(const void *at, size_t size) { (void)at; (void)size; }
static inline void pp__unpoison(const void *at, size_t size) { (void)at; (void)size; }
#endif

#endif
