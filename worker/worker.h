/* SPDX-License-Identifier: MIT */
/* A worker's private half, and the parts of which its life is made. */
#ifndef PP_WORKER_WORKER_H
#define PP_WORKER_WORKER_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include "clock.h"
#include "guard.h"
#include "layout.h"
#include "passing.h"
#include "spin.h"
#include "units.h"

struct pp__supervisor;
struct pp__chunk_work;

struct pp_task {
	struct pp__self *self;
	uint32_t slot;                   /* PP__NO_SLOT in the initializer and the finalizer */
	uint32_t generation;
	unsigned attempt;
	uint32_t sum;                    /* of the result stored so far, where it is known: */
	const char *name;
	int      error;                  /* of a pp_return that failed; 0 */
	bool     raised;
	bool     summed;
	bool     staged;                 /* the result stored so far is in the guard's stage */
	int      raise_code;
	uint64_t size;                   /* of the result stored so far */
	unsigned char *place;            /* what pp_return_alloc gave, while it stands; NULL */
	struct pp__chunk_work *chunk;    /* of an item of a chunk; NULL */
};

struct pp__self {
	const struct pp__shared *shared;
	struct pp__worker *line;
	struct pp__tally *tally;
	uint32_t  entry, incarnation;
	uint64_t  owner;                 /* as in slot words */
	pid_t     pid;                   /* hooks and handlers compare it: children of a task inherit them */
	_Atomic int *mark;               /* pp__worker_mark: tells the same without a system call */
	pid_t     supervisor;
	void     *data;                  /* pp_task_set_worker_data */
	uint64_t  tasks;                 /* that it has started, */
	uint64_t  lingered_at;           /* and how many those were when it last found nothing */
	uint32_t  plain_levels;          /* of the header, when there are normal tasks only and no new round */
	uint32_t  turn;                  /* claims while there are several priorities */
	bool      inlined;               /* in the application's process: inline.c */
	bool      accounts;              /* PP_ACCOUNTING */
	bool      has_extras;            /* something is to be done around each task */
	struct pp__guard guard;          /* PP_HARDENED */
	struct pp__usage usage;          /* up to the start of the task */
	struct pp__clock clock;
	int64_t   now_ns;                /* when it was read last */
	uint32_t  requeued_seen;
	struct pp__spin spin;
	struct pp__unit_cursor cursor;
	const pp_options *options;
	bool      sums;                  /* PP_CHECKSUM */
	bool      left_idle;             /* it leaves because nobody needs it: nor anybody in its seat */
	struct pp__pass_end pass;        /* where it asks for the descriptors of its task */
	uint32_t  fd_count;
	struct pp__pass_end fds[PP_TASK_FDS_MAX];
	_Atomic pid_t dying;             /* the thread that is in the crash handler or the exit hook */
	struct pp__pass_end capture;     /* what stdout and stderr are, where they are captured; else -1 */
	uintptr_t stack_top;             /* what is above this on the main thread's stack is not the worker's own */
	struct pp_task task;
};

/* The initializer, the finalizer, or a round: they have a task's shape, but no slot. */
int  pp__run_hook(struct pp__self *self, pp_fn *fn, uint64_t offset, uint64_t size);

static inline bool pp__is_closing(const struct pp__self *self)
{
	return atomic_load(&self->shared->header->closing) != PP__OPEN;
}

/* inline.c: behind those of door.h. */
int  pp__inline_hook(struct pp__self *self, pp_fn *fn, const void *data, size_t size);
void pp__inline_run(struct pp__self *self, uint32_t slot, const struct pp__pass_end *fds, int fd_count);

/* usage.c: with PP_ACCOUNTING, around a task. */
void pp__usage_begin(struct pp__self *self);
void pp__usage_end(struct pp__self *self, uint32_t slot);

/* claim.c: looks once, and claims. The word, or 0: there is nothing to do. */
uint64_t pp__look(struct pp__self *self, uint32_t *slot);

/* linger.c: looks a while longer. The word, or 0. */
uint64_t pp__spin_for_task(struct pp__self *self, uint32_t *slot);

/* round.c */
void pp__round_born(struct pp__self *self);
void pp__round_look(struct pp__self *self);

int pp__worker_main(struct pp__supervisor *supervisor, uint32_t entry);

/* setup.c: turns a fresh fork of the supervisor into a worker. 0 or negative errno. */
int  pp__worker_setup(struct pp__self *self, struct pp__supervisor *supervisor);
/* Writes out what the task printed: before its end is published, so that nothing is lost or printed twice. */
void pp__flush_output(void);

/* crash.c: the handlers and hooks that settle the future of a task which takes the process with it. */
int  pp__crash_arm(struct pp__self *self);
bool pp__is_crash_signal(int signal);

/* death.c: what the handler notes of a crash before it settles, and what it saves after that. */
void pp__death_note(struct pp__crash *crash, uint64_t word, const siginfo_t *info, const void *context);
void pp__death_save_stack(struct pp__self *self, uint32_t slot, uint64_t word);

/* promote.c: hands this worker's seat to the spare, if there is one; from handlers too. */
void pp__promote_spare(struct pp__self *self);

/* task.c: what a result needs at the end of a task. */
void pp__task_begin(struct pp__self *self, uint32_t slot, uint64_t word);
int  pp__task_stage(struct pp_task *task, uint64_t size, unsigned char **place); /* 0; -ENOMEM */
void pp__task_land(struct pp_task *task);                /* what is staged goes to where the parent looks for it */
int  pp__task_end(struct pp_task *task, int rc);         /* the code that was stored */
int  pp__task_code(struct pp_task *task, int rc);        /* how it ended: 0 or the code with which it raised */
uint32_t pp__task_sum(struct pp_task *task);             /* of the bytes of its result, as they are now */

/* Its argument, where that is a mutable block and the task may write it; else NULL. */
char *pp__task_mutable(const struct pp_task *task, uint64_t *size);

static inline void pp__task_open_cell(const struct pp_task *task)
{
	if (task->slot != PP__NO_SLOT)
		pp__guard_open_at(&task->self->guard, task->self->shared->cells + task->slot, sizeof(struct pp__cell));
}

/* For a change of what units it has. */
static inline void pp__task_open_units(const struct pp_task *task)
{
	pp__guard_open(&task->self->guard, PP__OPEN_UNITS);
	pp__task_open_cell(task);
}

/* After code of the application has returned. */
static inline void pp__task_take(const struct pp_task *task)
{
	if (!task->self->guard.on)
		return;
	pp__guard_enter(&task->self->guard);
	pp__task_open_cell(task);
}

/* Before code of the application is called. */
static inline void pp__task_lend(const struct pp_task *task)
{
	uint64_t size = 0;
	char *argument;

	if (task->self->guard.on) {
		argument = pp__task_mutable(task, &size);
		pp__guard_leave(&task->self->guard, argument, size);
	}
}

/* passing.c: the descriptors of the task that has just started. 0 or negative errno. */
int  pp__pass_fetch(struct pp__self *self, uint32_t slot, uint32_t generation);
void pp__pass_close_all(struct pp__self *self);

/* chunk.c: room for the result of an item, as if each were a task of its own. */
int  pp__chunk_make_room(struct pp_task *task, uint64_t size, unsigned char **place);
void pp__chunk_drop(struct pp_task *task);

#endif
