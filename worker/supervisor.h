/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's private books. It is single-threaded, so that forking stays safe however many threads the parent
 * has; it alone starts workers, confirms deaths, settles what the dead had at hand, and replaces them. Recovery comes only
 * after a confirmed death; recover first, start anew second.
 */
#ifndef PP_WORKER_SUPERVISOR_H
#define PP_WORKER_SUPERVISOR_H

#include <stdbool.h>
#include <sys/types.h>
#include "door.h"
#include "oom.h"
#include "surroundings.h"
#include "units.h"

struct pp__child {
	pid_t    pid;            /* 0: the entry is free */
	bool     owner_gone;     /* its main thread has ended or was replaced by exec: killed by us, settles as exited */
	bool     asked;          /* the parent asked for its end: what it runs then ends as killed */
	bool     hurried;        /* it was dying for long enough at a low priority */
	bool     quarantined;    /* did not die of SIGKILL: its entry is never used again */
	int64_t  killed_ns;      /* when SIGKILL was sent; 0: not yet */
	int64_t  marked_ns;      /* when the robust mutex was first seen to have lost its owner */
	int64_t  lived_ns;       /* and since when it was seen to live on all the same */
	int64_t  dying_ns;       /* since when it has been seen without its seat */
	int64_t  term_ns;        /* when SIGTERM was sent */
	enum pp__memory_cause memory;    /* the kernel killed it for want of memory */
	uint64_t resident;       /* private bytes that it had at the first look at it while it was live; 0: none yet */
	uint64_t task;           /* the task at hand: its word, but for state and wants, */
	int64_t  task_ns;        /* when it was first seen there, */
	int64_t  asked_ns;       /* and when it was seen to be asked to end; 0: it was not */
	int64_t  due_ns;         /* the next step towards its end */
	uint64_t claimed_word;   /* a claim that has not become RUNNING, */
	int64_t  claimed_ns;     /* and since when */
	int64_t  deaf_ns;        /* since when it has had nothing at hand and has not heard of the work there is */
	uint64_t last_tasks;
	uint32_t round;          /* the last that it is known to have answered, or that was over when it was born */
	bool     worked;         /* it has got to a task */
	int      capture;        /* the file of what it prints, plus one; 0: none */
};

struct pp__held;

struct pp__supervisor {
	struct pp__boot boot;            /* a copy: the stack on which it came is not ours to keep, exit(3) may run over it */
	const struct pp__shared *shared;
	pid_t    pid;
	struct pp__child children[PP__MAX_ENTRIES];
	uint32_t incarnations[PP__MAX_ENTRIES];  /* the workers' lines have copies, for the parent */
	uint32_t noted;                  /* notes of slots that were put back or offered again, so far */
	bool     wants_spare;            /* a first worker has died or been recycled */
	uint32_t unreplaced;             /* workers that have ended, and for which none was started */
	int32_t  failures;               /* to start a worker, in a row */
	int32_t  early_deaths;           /* of live workers before their first task, in a row */
	uint32_t initialized_at_failure;
	int64_t  next_start_ns;          /* back-off */
	int64_t  busy_ns;                /* when a worker was last seen busy */
	uint32_t kill_requests, fd_requests_parent, fd_requests_workers;
	bool     closing_seen;
	struct pp__unit_cursor cursor;   /* for the output of workers that have died */
	struct pp__oom oom;
	struct pp__oom_score oom_score;  /* of workers */
	int  null_fd;                    /* their stdin */
	uint32_t failures_seen, timed_seen;
	int64_t  timed_due_ns;           /* when a task that waits is due; 0: now */
	bool     delayed;                /* there are tasks that wait for their next attempt */
	struct pp__held *held;           /* descriptors whose tasks have not started */
	uint32_t held_count, held_room;
};

#define PP__TICK_NS      INT64_C(100000000)      /* while workers are busy: looks for what sends no signal */
#define PP__WATCH_NS     INT64_C(10000000)       /* likewise, where their memory is watched */
#define PP__CALM_NS      INT64_C(1000000000)     /* without a busy worker for so long: no more ticks */
#define PP__DYING_NS     INT64_C(5000000)
#define PP__STOPPED_NS   INT64_C(1000000000)     /* a claim that does not start for so long is taken back */
#define PP__GRACE_NS     INT64_C(1000000000)     /* between SIGTERM and SIGKILL, where no other is given */
#define PP__UNKILLABLE_NS INT64_C(1000000000)    /* after SIGKILL: quarantine */

static inline struct pp__tally *pp__own_tally(const struct pp__supervisor *s)
{
	return s->shared->tallies;
}

int  pp__supervisor_main(const struct pp__boot *boot);

/* spawn.c: starting. Starts, or promotes, as many workers as the load asks for. */
void pp__spawn_wanted(struct pp__supervisor *s);
void pp__life_make(pthread_mutex_t *life);
void pp__count_start_failure(struct pp__supervisor *s, int error, const char *text, bool breaks_now);
/* One could not be forked or set up: a failure that counts only while no other worker lives. */
void pp__no_worker(struct pp__supervisor *s, int error, const char *what);
/* A live worker died without being asked to: before its first task, that delays the next start, and that is all. */
void pp__count_early_death(struct pp__supervisor *s, uint32_t entry);
void pp__note_first_tasks(struct pp__supervisor *s);
unsigned pp__seated(const struct pp__supervisor *s);
void pp__break_pool(struct pp__supervisor *s, int error, const char *text);

/* bury.c: deaths. Reaps everything that has ended and settles what it had at hand. */
bool pp__owner_has_died(const struct pp__supervisor *s, uint32_t entry);
bool pp__has_work(const struct pp__supervisor *s);
/* true: something had. What it has left behind is for pp__kill_strangers. */
bool pp__reap_all(struct pp__supervisor *s);
void pp__quarantine(struct pp__supervisor *s, uint32_t entry);
void pp__kill_worker(struct pp__supervisor *s, uint32_t entry, int signal);
void pp__kill_strangers(struct pp__supervisor *s);
bool pp__has_children(const struct pp__supervisor *s);
/* Whether a word by which workers find a slot names one that waits: it may be stale, or overwritten. */
bool pp__holds_ready(const struct pp__supervisor *s, const _Atomic uint64_t *holder);
bool pp__has_requeued(const struct pp__supervisor *s);

/* record.c: what is known of the death of a worker that was confirmed, for the task that went with it. */
void pp__record_death(struct pp__supervisor *s, uint32_t entry);
/* Tells of the end of a slot, in place of its owner. */
void pp__announce_for(struct pp__supervisor *s, uint32_t slot, uint64_t word);

/* stop.c: the next step towards the end of the task at hand, if it is time. */
void pp__stop_step(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word, int64_t now);

/* Stops the task at hand if its worker has more memory than it may. */
void pp__stop_if_too_large(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word);

/* attempts.c */
struct pp__ending { int32_t signal, code; uint64_t address; };   /* as in the cell */
/* Of a task whose owner is confirmed dead. true: another attempt follows; false: the future is the caller's to end. */
bool pp__try_again_after_death(struct pp__supervisor *s, uint32_t slot, uint64_t word, int kind,
                               const struct pp__ending *ending);
bool pp__look_at_timed(struct pp__supervisor *s);          /* true: there was news */

/* passing.c: reads what parent and workers have sent, and closes what no task will ask for. */
void pp__pass_serve(struct pp__supervisor *s);
void pp__pass_forget(struct pp__supervisor *s);          /* in a fresh worker: it is not its own */

/* patrol.c: what needs a look at live workers. */
/* The word of the slot that the worker has at hand, and its cell; 0: none, or it has ended. */
uint64_t pp__word_at_hand(const struct pp__supervisor *s, uint32_t entry, struct pp__cell **cell);
void pp__patrol(struct pp__supervisor *s);
/* Nanoseconds until the next look is due; -1: none. */
int64_t pp__patrol_timeout(struct pp__supervisor *s);

#endif
