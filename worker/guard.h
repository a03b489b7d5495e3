/* SPDX-License-Identifier: MIT */
/*
 * PP_HARDENED: while code of the application runs, nothing that several workers share is writable in its process. All of
 * it is read-only from the worker's start, and opened in parts, because a change costs by the page that the worker has
 * touched and is made twice per task:
 *
 *   core     control, worker lines, tallies: while the library's own code runs
 *   units    with it: the words of units; for the moment of their use
 *   pages    those of the slot at hand in cells, extensions and usages, and those of its run of units; no others
 *
 * What a task itself may write in the segment is lent to it: the run that pp_return_alloc gave, and its own mutable block.
 * Small results share their pages with those of others: they are staged in private memory, and land when the task has
 * ended. One more page per worker is always open, with its robust mutex: pp__life_of.
 *
 * mprotect(2) only. Protection keys would do the same without system calls where the CPU has them; that is for somebody
 * who can run it.
 */
#ifndef PP_WORKER_GUARD_H
#define PP_WORKER_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pp__self;

enum pp__opening { PP__SHUT, PP__OPEN_CORE, PP__OPEN_UNITS };

#define PP__GUARD_PAGES 8u

struct pp__range { char *from, *to; };   /* of whole pages; empty: both NULL */

struct pp__guard {
	bool             on;
	bool             lent;           /* the task's function has been called, and has not returned */
	enum pp__opening opening;
	_Atomic bool     dropped;        /* by the handler of a crash: stays open */
	char            *core, *cells, *words, *units, *end;     /* where these areas begin */
	struct pp__range pages[PP__GUARD_PAGES];         /* that are open now */
	uint32_t         count;          /* of them */
	struct pp__range result;         /* of them, what stays so while the task's code runs */
	struct pp__range argument;
	unsigned char   *stage;
	size_t           stage_size;
};

/* After all else was set up. 0 or negative errno. */
int  pp__guard_arm(struct pp__self *self);

/* Opens this and what comes before it; nothing if it is open. */
void pp__guard_widen(struct pp__guard *guard, enum pp__opening opening);
/* Shuts all but what is lent. */
void pp__guard_shut(struct pp__guard *guard);
/* Opens the pages of size bytes from place on, beside those that are open. */
void pp__guard_widen_to(struct pp__guard *guard, void *place, size_t size);
/* Before and after code of the application; argument: what it may write of its own, or NULL. */
void pp__guard_leave(struct pp__guard *guard, void *argument, size_t size);
void pp__guard_enter(struct pp__guard *guard);
/* In handlers, for good: the core; and all. */
void pp__guard_drop(struct pp__guard *guard);
void pp__guard_drop_all(struct pp__guard *guard);
/* After that: what was to be written is tried once more, and must not be now either. */
void pp__guard_refuse(struct pp__guard *guard);
/* Private room, whose bytes are undefined; what was there before is lost. NULL: no memory. */
unsigned char *pp__guard_stage(struct pp__guard *guard, size_t size);

/* What follows is for all workers, and does nothing in those that are not hardened. */

static inline void pp__guard_open(struct pp__guard *guard, enum pp__opening opening)
{
	if (__builtin_expect(guard->on, 0))
		pp__guard_widen(guard, opening);
}

static inline void pp__guard_open_at(struct pp__guard *guard, void *place, size_t size)
{
	if (__builtin_expect(guard->on, 0))
		pp__guard_widen_to(guard, place, size);
}

/* At the end of a call that opened, or may have. The library's own code goes on with what is open. */
static inline void pp__guard_close(struct pp__guard *guard)
{
	if (__builtin_expect(guard->on, 0) && guard->lent)
		pp__guard_shut(guard);
}

/* The run at hand is the task's to write, or its first size bytes are; or is given up. */
static inline void pp__guard_lend_result(struct pp__guard *guard, void *place, size_t size)
{
	uintptr_t end = ((uintptr_t)place + size + 4095) & ~(uintptr_t)4095;

	guard->result = (struct pp__range){ place, (char *)end };
}

static inline void pp__guard_end_result(struct pp__guard *guard)
{
	guard->result = (struct pp__range){ NULL, NULL };
}

#endif
