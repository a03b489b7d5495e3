/* SPDX-License-Identifier: MIT */
/*
 * From the registers and the top of the stack of a thread of this program's image, as another process had them, to frames
 * with names. Knows nothing of executors.
 */
#ifndef PP_LIB_BACKTRACE_H
#define PP_LIB_BACKTRACE_H

#include <stdbool.h>
#include "death.h"
#include "procpool.h"

#define PP__FRAMES_MAX 64u

struct pp__stack_copy { const unsigned char *bytes; uint64_t base; uint32_t size; };

/* Fills in at most PP__FRAMES_MAX frames, whose texts are malloc'ed, and returns how many. registers: PP__REGISTERS of
 * them. *note says why there are no more; "" when it came to the end. One call at a time. */
size_t pp__backtrace(const uint64_t *registers, const struct pp__stack_copy *stack, pp_frame *frames, const char **note);
void   pp__frames_free(pp_frame *frames, size_t n);      /* their texts */

/* For tests of what is there without it: no unwinder from here on. */
void   pp__backtrace_forbid(bool forbid);

#endif
