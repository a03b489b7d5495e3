/* SPDX-License-Identifier: MIT */
/* The instructions of a window, recorded once, and the points of it at which a process is to be killed. */
#ifndef TESTS_CRASH_TRACE_H
#define TESTS_CRASH_TRACE_H

#include "stepper.h"
#include "yard.h"

enum { STEP_OWN = 1, STEP_SYSCALL = 2, STEP_STORED = 4 };

/* The instruction that is executed next, and for the how manieth time. */
struct step { uintptr_t at; unsigned hit; unsigned char flags; };

struct trace { struct step *steps; unsigned n, room; };

/* About to execute a step of the trace. */
struct point { unsigned index; uintptr_t at; unsigned hit; bool own; };

/* Steps the process until it comes to end, ends itself, or sleeps. How it ended. */
enum stepper trace_record(struct trace *trace, struct yard *yard, pid_t pid, uintptr_t end);
/*
 * The points of the trace, of which at most own are in this program's code and at most others in that of libraries; of
 * more, a sample that the seed decides. In libraries a point is what stands before or behind a system call or an
 * instruction that changed shared memory. Malloc'ed.
 */
struct point *trace_points(const struct trace *trace, unsigned own, unsigned others, unsigned *seed, unsigned *count);
void trace_free(struct trace *trace);
/* The name of a place, for messages. */
void trace_name(char *text, size_t size, uintptr_t at);

#endif
