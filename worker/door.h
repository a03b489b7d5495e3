/* SPDX-License-Identifier: MIT */
/*
 * The one door from lib/ into the children. All of its functions run on top of whatever called fork(2), so they are compiled
 * without unwind information: an exception or a pthread_exit that gets here finds the end of the stack and never
 * runs a frame of the application's.
 */
#ifndef PP_WORKER_DOOR_H
#define PP_WORKER_DOOR_H

#include "passing.h"
#include "procpool.h"
#include "segment.h"
#include "sysdep.h"

/* What the parent reads, once, from whoever gets so far. */
struct pp__hello { int32_t error; int32_t pid; };

struct pp__boot {
	struct pp__segment  segment;             /* with its fd, to be mapped again */
	struct pp__identity parent;
	int                 parent_pidfd;        /* -1: not to be had; the supervisor looks into /proc */
	int                 hello_fd;            /* the supervisor says here that it runs, or why not */
	int                 parent_fds[2];       /* the parent's ends, to be closed here; or -1 */
	int                 pass_in;             /* -1, or the end from which the supervisor reads: passing.h */
	struct pp__pass_end pass;                /* and the one into which parent and workers write */
	int                 bell_fd;             /* -1, or the write end behind pp_executor_fd */
	pp_options          options;             /* what they point to is in the memory that children inherit */
};

_Noreturn void pp__enter_supervisor(const struct pp__boot *boot);

struct pp__supervisor;
_Noreturn void pp__enter_worker(struct pp__supervisor *supervisor, uint32_t entry);

/* PP_INLINE: what a worker does, in this process; one call at a time for each self. NULL: no memory. */
struct pp__self;
struct pp__self *pp__inline_make(const struct pp__shared *shared);
void pp__inline_free(struct pp__self *self);
/* The initializer, the finalizer, a round: what fn returned, or raised. */
int  pp__enter_inline_hook(struct pp__self *self, pp_fn *fn, const void *data, size_t size);
/* Runs the task of a slot that is READY, with fd_count descriptors, which it closes; or, where that is negative, has it
 * raise that instead. */
void pp__enter_inline_task(struct pp__self *self, uint32_t slot, const struct pp__pass_end *fds, int fd_count);

#endif
