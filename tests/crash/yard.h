/* SPDX-License-Identifier: MIT */
/*
 * An executor to kill processes of, and what must hold afterwards. Here the test reads words of the shared memory itself
 * instead of waiting: a wait of the library looks every 50 ms whether something was lost, and mends it. What is proved is
 * that nothing needs to be mended. All processes share one CPU, because a tracer and its tracee take turns.
 */
#ifndef TESTS_CRASH_YARD_H
#define TESTS_CRASH_YARD_H

#include <setjmp.h>
#include "pool.h"

#define YARD_PARTS   3
#define YARD_JOBS    65536       /* counters of executions: one per task, used in turn */
#define YARD_GUARD_MS 10000      /* until something counts as hung; CRASH_GUARD_MS overrides it */

/* JOB_HEED runs until it is asked to end, and returns then. The ONCE kinds return when they are run again. */
enum job_kind { JOB_RETURN, JOB_RAISE, JOB_RAISE_ONCE, JOB_HEED, JOB_SEGV, JOB_SEGV_ONCE, JOB_ABORT, JOB_EXIT,
                JOB_SLEEP };
struct job { enum job_kind kind; uint32_t id; uint32_t size; };

/* A task of a trial, and what its slot said when the process was killed. */
struct part {
	struct job job;
	pp_future *future;
	bool     deaf;           /* it had ended before anybody could ask to be told */
	uint64_t word;
	bool     ours;           /* the killed one owned it */
	unsigned runs;           /* until then */
	unsigned retries;
};

enum fault { LOST, DUPLICATED, HUNG, WRONG, FAULTS };

/* Counts of one window, in memory that its process shares with the one that prints. */
struct tally {
	unsigned points, missed, own, outside;           /* tried; of them not reached; in our code, and in others' */
	unsigned steps;                                  /* instructions of the window */
	unsigned faults[FAULTS];
	unsigned fates[PP__STATES + 1][PP_BROKEN + 1];   /* state when killed, outcome */
	bool     skipped;
};

struct yard {
	pp_executor *ex;
	pp_options   options;
	unsigned     seats;
	uint64_t     deaths, marks;      /* that must have been counted: deaths, and those that the mutex told of */
	bool         reached;            /* the point of the last trial */
	bool         spare;              /* one is kept since the first death */
	uint32_t     next_job;
	struct part  parts[YARD_PARTS];
	unsigned     count;
	struct tally *tally;
	const char  *window;
	char         where[160];         /* the point at hand, for messages */
	jmp_buf      failed;             /* to where a fault jumps: the yard is of no use any more */
};

/* jobs.c. */
void jobs_prepare(void);                         /* the jobs' bytes and counters */
void jobs_begin(const struct job *job);          /* it has not been run */
int yard_job(pp_task *task, const void *data, size_t size);     /* data is a struct job */
unsigned yard_runs(const struct part *part);     /* how often its job was started */
bool yard_is_right(const struct job *job, const pp_outcome *outcome);
/* Of one that has ended, after the death of a worker: a fault, unless it is what it has to be. */
void jobs_judge(struct yard *yard, const struct part *part);

int64_t yard_guard_ms(void);
void yard_prepare(int cpu);                      /* once in the process */
void yard_open(struct yard *yard, unsigned seats);
void yard_close(struct yard *yard);              /* asserts that shutdown ends and leaves no process */
void yard_abandon(struct yard *yard);            /* kills whatever it has come to, and forgets about it */
_Noreturn void yard_fault(struct yard *yard, enum fault fault, const char *format, ...) PP_FORMAT(3, 4);

/* Until nothing moves: all deaths are buried, every seat and the spare sleep. Then the books must balance. */
void yard_settle(struct yard *yard);
pid_t yard_sleeper(struct yard *yard, uint32_t *entry);  /* the worker that will be woken next */
pid_t yard_supervisor(const struct yard *yard);

/* Kills the stopped worker of that entry, and counts what must come of it. The words of the parts are noted before. */
void yard_death(struct yard *yard, pid_t pid, uint32_t entry);
/* Another will end by itself, or has; counts: not in good order. */
void yard_expect_death(struct yard *yard, bool counts);
/* The entry that a child of the supervisor, which has done nothing yet, is going to have. */
uint32_t yard_newborn(struct yard *yard);

/* Submits a task; its end is asked for by all the ways there are: a sleeper and a watcher. */
struct part *yard_submit(struct yard *yard, enum job_kind kind, uint32_t size);
struct part *yard_submit_with(struct yard *yard, const pp_task_options *options, enum job_kind kind, uint32_t size);
/* Each part ends by itself, is announced by itself, and is what it has to be; then all are freed. */
void yard_judge(struct yard *yard);
void yard_note(struct yard *yard, uint32_t entry);       /* words of all parts, and which the entry owns */
bool yard_is_announced(struct part *part);         /* by a stack; takes in what is there */
uint64_t yard_word(const struct part *part);
void yard_forget(struct yard *yard);             /* the parts, without looking at them */

/* The pieces of shared memory that a step may have changed. */
struct piece { const void *at; size_t size; };
#define YARD_PIECES (4 + 3 * YARD_PARTS)
unsigned yard_pieces(const struct yard *yard, struct piece *pieces);

bool yard_has_ended(void *part);               /* a struct part; for yard_until */
unsigned tally_faults(const struct tally *tally);
const char *yard_state_name(int state);
int64_t yard_now_ms(void);
bool yard_until(bool (*condition)(void *), void *context);       /* false: not within the guard */

#endif
