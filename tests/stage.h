/* SPDX-License-Identifier: MIT */
/*
 * What most tests of futures start from: an executor whose only worker is busy with a task at a gate, so that every other
 * task is pending until the test opens it; and threads that sleep in a call.
 */
#ifndef TESTS_STAGE_H
#define TESTS_STAGE_H

#include <pthread.h>
#include <stdatomic.h>
#include "support.h"

struct stage { struct gate gate; pp_executor *ex; pp_future *running; };

/* flags: those of pp_options. */
void stage_make(struct stage *stage, unsigned flags);
/* A task that echoes text; pending until the stage is let go. */
pp_future *stage_submit(struct stage *stage, const char *text);
/* Lets the task at the gate end, and waits for that. */
void stage_let_go(struct stage *stage);
/* Lets it end if need be, and frees all of the stage. */
void stage_free(struct stage *stage);

/* Tasks that all run at the same time, each at a gate of its own: the test decides in which order and how they end. */
#define CROWD 4
enum how { HOW_RETURN = 'x', HOW_RAISE, HOW_EXIT, HOW_ABORT };
struct crowd {
	struct gate gates[CROWD];
	pp_executor *ex;
	pp_future *futures[CROWD];
	int n;
	pp_future *returned, *raised, *crashed, *cancelled;      /* that are done; NULL but for crowd_make_done */
};

void crowd_make(struct crowd *crowd, int n);
void crowd_make_done(struct crowd *crowd, int n);
void crowd_end(struct crowd *crowd, int i, enum how how);        /* does not wait for that */
/* Ends those that run, and frees all of the crowd. */
void crowd_free(struct crowd *crowd);

/* A thread that calls fn(context). */
typedef void sleeper_fn(void *context);
struct sleeper { sleeper_fn *fn; void *context; pthread_t thread; _Atomic pid_t tid; atomic_bool returned; };

/* Returns when the thread sleeps in the kernel, or has returned. */
void sleeper_start(struct sleeper *sleeper, sleeper_fn *fn, void *context);
bool sleeper_returned(struct sleeper *sleeper);
/* Asserts that it returns within the guard. */
void sleeper_join(struct sleeper *sleeper);

/* Asserts that the counter comes to this value within the guard. */
void until_count(atomic_int *counter, int value, const char *what);

int64_t now_ms(void);

/* A callback that adds one to an atomic_int. */
void count_call(pp_future *future, void *counter);

/* Self-dispatch by the book: sleeps on the descriptor, dispatches, until so many callbacks have run. */
bool fd_is_readable(pp_executor *ex, int64_t timeout_ms);
void dispatch_until(pp_executor *ex, int wanted);

#endif
