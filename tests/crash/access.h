/* SPDX-License-Identifier: MIT */
/* The places of a process's way at which it is about to touch memory that others touch too. */
#ifndef TESTS_CRASH_ACCESS_H
#define TESTS_CRASH_ACCESS_H

#include "stepper.h"

/* About to execute the instruction at that address for the hit-th time. */
struct access { uintptr_t at; unsigned hit; };

struct access_list { struct access *accesses; unsigned n; uintptr_t *steps; unsigned step_count, room; };

/* Steps the process until it comes to end, ends itself, or sleeps, and lists its accesses to the bytes from low to high,
 * and its system calls. How it ended. */
enum stepper access_record(struct access_list *list, pid_t pid, uintptr_t low, uintptr_t high, uintptr_t end);
void access_free(struct access_list *list);

#endif
