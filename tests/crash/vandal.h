/* SPDX-License-Identifier: MIT */
/* A task that overwrites shared memory: what it can reach, with what may do harm. */
#ifndef TESTS_CRASH_VANDAL_H
#define TESTS_CRASH_VANDAL_H

#include <procpool.h>
#include "layout.h"

enum vandal_kind { VANDAL_STATE, VANDAL_DESCRIPTOR, VANDAL_CONTROL, VANDAL_SEMAPHORE, VANDAL_LINE, VANDAL_INLINE,
                   VANDAL_RESULT, VANDAL_UNIT, VANDAL_PAGE, VANDAL_KINDS };
extern const char *const vandal_kind_names[VANDAL_KINDS];

struct vandal_hits { atomic_ulong writes[VANDAL_KINDS]; };

/* Its argument. starts: how often it was started. One that made itself ready again does something else then: doing the
 * same again and again would be an attack. */
struct vandal { struct pp__shared shared; struct vandal_hits *hits; atomic_uint *starts; uint64_t random; };

/* Writes, naps and writes again; then returns, crashes, exits or hangs. */
int task_vandal(pp_task *task, const void *data, size_t size);

#endif
