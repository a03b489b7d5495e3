/* SPDX-License-Identifier: MIT */
/*
 * Every byte that two processes see. One segment, mapped at the same address in the parent, the supervisor and the
 * workers, cut by who writes it:
 *
 *   read-only in workers                      | writable by workers
 *   header | descriptors | rings | arguments  | control | worker lines | tallies | cells | extensions | usages |
 *   and read-only blocks | lives              | unit words | results | and mutable blocks
 *
 * A slot is one future's shared half: its descriptor (what to do, written by the parent alone) and its cell (what became
 * of it). References are slot numbers and offsets, never pointers, but for the task's function, which is valid in every
 * process because they are forks of one image. The parent trusts nothing that a worker can write.
 */
#ifndef PP_LIB_LAYOUT_H
#define PP_LIB_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include "death.h"
#include "procpool.h"
#include "sem.h"

#define PP__MAGIC        UINT64_C(0x6c6f6f70636f7270)    /* "procpool" */
#define PP__FORMAT       1u
#define PP__LINE         64u             /* two writers never share a line of this size: false sharing costs 100 ns */
#define PP__PAGE         4096u
#define PP__MAX_WORKERS  256u
/* Each seat may have a live worker and one that is still dying; one spare, and one that dies. */
#define PP__ENTRIES(workers) (2u * (workers) + 2u)
#define PP__MAX_ENTRIES  PP__ENTRIES(PP__MAX_WORKERS)
#define PP__TALLIES(entries) ((entries) + 1u)     /* the supervisor's, and one per entry */
#define PP__MAP_WORDS    ((PP__MAX_ENTRIES + 63u) / 64u)
#define PP__NO_SLOT      UINT32_MAX
#define PP__NAME_MAX     63u
#define PP__MESSAGE_MAX  1023u
#define PP__ARG_INLINE   96u
#define PP__RESULT_INLINE 16u
#define PP__EXTENSION    256u            /* results up to here have a fixed place of their slot */
#define PP__SMALL_UNIT   4096u           /* results up to PP__SMALL_MAX are runs of these, */
#define PP__SMALL_MAX    65536u
#define PP__BIG_UNIT     8192u          /* larger ones runs of these: half of one is lost on average */
#define PP__TEXT         192u

/* The parent's half of a slot. Written before the slot is made READY, and not again before its future is freed. */
struct pp__desc {
	pp_fn    *fn;
	uint64_t  size;                  /* of the argument */
	uint64_t  offset;                /* of the argument in the segment; 0: it is in bytes[] */
	uint16_t  fd_count;              /* descriptors that the task is to fetch: passing.h */
	uint16_t  name_size;             /* 0: no name; else with its NUL; it stands at the end of bytes[] */
	uint32_t  policy;                /* where its struct pp__policy is in the segment, in lines; 0: it has none */
	alignas(16) unsigned char bytes[PP__ARG_INLINE];
};

/* An attempt that failed and was not the last. */
struct pp__attempt {
	int32_t  kind;                   /* enum pp_kind */
	int32_t  code;                   /* of what was raised; the exit status; si_code */
	int32_t  signal;
	uint32_t who;
	uint64_t address, start_ns, end_ns;
};

/*
 * What a task may do beyond running once for as long as it likes. In the arguments' area, and thus read-only in workers.
 * The parent writes it before the slot is READY; attempts and what follows are the supervisor's, which writes them while
 * nobody else can end the future.
 */
struct pp__policy {
	uint64_t timeout_ns;             /* for each attempt, from its start; 0: none */
	uint64_t deadline_ns;            /* CLOCK_MONOTONIC; 0: none */
	uint32_t retries;                /* further attempts */
	uint32_t retry_on;               /* PP_ON() of kinds */
	uint64_t delay_ns, delay_max_ns; /* before the second attempt, doubled for each one more, up to */
	_Atomic uint64_t resume_ns;      /* DELAYED: until then */
	_Atomic uint32_t attempts;       /* that have failed */
	_Atomic uint32_t given_up;       /* no further attempt, because an end was asked for; the parent's, at any time, and the
	                                    supervisor's. Who writes it looks at the word after that, and who makes it DELAYED
	                                    at this after that: one of them ends the future */
	struct pp__attempt failed[];     /* retries of them */
};

/*
 * The workers' half. First line: what each task touches. The word is changed by compare-and-swap only (slot.h); result,
 * size, code and check are written by its owner before RUNNING becomes DONE, and by nobody after it.
 */
struct pp__cell {
	alignas(PP__LINE) _Atomic uint64_t word;
	_Atomic uint32_t  link;          /* completion stack: the slot below, plus one; its pusher's */
	int32_t           code;          /* 0: returned; else raised */
	uint64_t          size;          /* of the result */
	uint32_t          check;         /* over the descriptor of the result, and the sum of its bytes */
	uint32_t          who;           /* the owner's pid and seat, from RUNNING on; 0 before: then it has not started, */
	uint64_t          start_ns;      /* and this is when it was submitted. CLOCK_MONOTONIC */
	uint64_t          end_ns;
	union {
		unsigned char result[PP__RESULT_INLINE];
		struct { _Atomic uint64_t started, overflow; };  /* of a chunk: chunk.h */
	};

	struct pp__sem    wake;          /* posted by whoever makes the word DONE while it says that a thread waits */
	_Atomic uint64_t  claim;         /* where the owner's result is, beyond extensions: see units.h; 0: nowhere */
	int32_t           death_signal;  /* written by the owner's crash handler, or by the supervisor after its death: */
	int32_t           death_code;    /* si_code, or the exit status */
	uint64_t          death_address;
	_Atomic uint32_t  notice_link;   /* the supervisor's stack of slots whose owner died before it could announce them */
	_Atomic uint32_t  noticed;       /* while on that stack: the generation, plus one */
};

/* What the supervisor and the workers say of one worker process. The entry is used again by later incarnations. */
enum pp__phase { PP__GONE, PP__STARTING, PP__LIVE, PP__SETUP_FAILED, PP__INIT_FAILED, PP__LEAVING };

struct pp__worker {
	/* written by the worker, for each task */
	alignas(PP__LINE) _Atomic uint32_t cur;  /* the slot at hand, stored before its claim */
	_Atomic uint64_t  tasks;                 /* started by this incarnation */

	/* written by the worker now and then, or by the supervisor */
	alignas(PP__LINE) _Atomic uint32_t phase;
	_Atomic uint32_t  incarnation;           /* raised by the supervisor when the one before is confirmed dead */
	_Atomic int32_t   pid;
	_Atomic int32_t   seat;                  /* the index that users see; -1: a spare, or one that handed it on */
	_Atomic uint64_t  requeue;               /* pp__held_make: a slot put back by the supervisor; looked at before the ring */
	_Atomic uint32_t  condemned;             /* it starts nothing any more; written by the supervisor, before it kills it */
	_Atomic uint64_t  again;                 /* likewise, for a further attempt */
	_Atomic uint32_t  round, round_well;     /* the last that it has answered, and that whose function returned 0 */
	int32_t           init_code;
	char              text[PP__TEXT];        /* why the initializer failed */
	_Atomic uint64_t  resident;              /* private bytes that it had when it became live, where options ask; or 0 */

	alignas(PP__LINE) struct pp__sem wake;
	/* Robust; locked by the worker at birth and held for life. Only the supervisor looks at it, after the owner's death.
	 * With PP_HARDENED in a page of its own: pp__life_of. */
	alignas(PP__LINE) pthread_mutex_t life;
	alignas(PP__LINE) struct pp__crash crash;        /* written by the crash handler */
	struct pp__stack  stack;
};

/* A slot, and a number that is another each time, so that who clears a note of it clears the one that he has read, and not
 * one that was put there since. 0: none. */
static inline uint64_t pp__held_make(uint32_t slot, uint32_t number) { return (uint64_t)number << 32 | (slot + 1u); }
static inline uint32_t pp__held_slot(uint64_t held) { return (uint32_t)held - 1u; }

#define PP__KINDS        16u
#define PP__BUCKETS      64u

#define PP__PROGRESS_TEXT 64u

/* What the task of a slot used, in the manner of pp_outcome; all UINT64_MAX: not known. With PP_ACCOUNTING. */
struct pp__usage { uint64_t cpu_ns, peak_rss, faults, switches; };

/* What the task that runs has said last. */
struct pp__progress {
	alignas(PP__LINE) _Atomic uint32_t sequence;     /* odd: it is being written */
	_Atomic uint64_t  of;                            /* pp__progress_of the task; 0: nothing was ever said */
	_Atomic uint64_t  done, total;
	_Atomic uint64_t  text[PP__PROGRESS_TEXT / 8];
};

static inline uint64_t pp__progress_of(uint32_t slot, uint32_t generation)
{
	return ((uint64_t)slot + 1) << 32 | (generation & UINT32_C(0xfffff));
}

/* What one process has counted, tally.h, and said. */
struct pp__tally {
	alignas(PP__LINE) uint64_t outcomes[PP__KINDS];  /* by enum pp_kind; [0]: of the others, how many never ran */
	uint64_t          queue_ns[PP__BUCKETS], run_ns[PP__BUCKETS];
	struct pp__progress progress;
};

enum pp__arm { PP__ARM_BELL = 1, PP__ARM_FD = 2 };

/* Rings, in the order in which workers look. */
enum pp__level { PP__HIGH, PP__NORMAL, PP__LOW, PP__LEVELS };

struct pp__control {
	alignas(PP__LINE) _Atomic uint64_t heads[PP__LEVELS];    /* ring.h; moved by workers with each claim */
	/* Read at each submit and each look, and seldom written. */
	alignas(PP__LINE) _Atomic uint32_t searching;    /* entry + 1 of the worker that was woken and has not claimed yet */
	_Atomic uint32_t  requeued;                      /* raised with every requeue word */
	_Atomic uint64_t  sleepers[PP__MAP_WORDS];
	alignas(PP__LINE) _Atomic uint32_t done;         /* completion stack: top slot, plus one */
	_Atomic uint32_t  notices;                       /* the supervisor's stack of notices */
	_Atomic uint32_t  armed;                         /* enum pp__arm: who wants to hear of a push */
	_Atomic uint32_t  fd_requests;                   /* raised by workers: the supervisor makes the fd readable */
	struct pp__sem    bell;
	_Atomic uint32_t  worker_cpu;                    /* where the last worker to wake up ran, plus one */
	_Atomic uint32_t  units_used[2];                 /* small and big units that were ever used; moved by workers */
	_Atomic uint32_t  idle_exits;                    /* raised by each worker that leaves because it was idle */
	/* A worker looks for tasks less often for a moment; who is going to wait for one makes it 0, and so does a worker that
	 * has given way to the parent for it. A hint. */
	alignas(PP__LINE) _Atomic uint32_t gathering;
	/* No small or big unit before it is free and has memory, as far as anybody knows. A hint that workers raise. */
	alignas(PP__LINE) _Atomic uint32_t units_front[2];
	alignas(PP__LINE) _Atomic uint32_t spare;        /* entry + 1 of the worker that waits for a dead one's seat */
	_Atomic int64_t   supervisor_wakes_ns;           /* its next look; INT64_MAX: whoever starts a task nudges it; 0: awake */
	_Atomic uint32_t  failures;                      /* raised with each slot that becomes FAILED */
	_Atomic int32_t   supervisor_pid;
	_Atomic uint32_t  initialized;                   /* raised by each worker whose initializer has succeeded */
	_Atomic int32_t   broken;                        /* negative errno once no worker can be started any more */
	_Atomic uint32_t  finished;                      /* the supervisor has ended in good order */
	char              broken_text[PP__TEXT];
	/* counted by the supervisor, for tests and the log */
	alignas(PP__LINE) _Atomic uint64_t deaths;       /* of workers, other than in good order */
	_Atomic uint64_t  owner_deaths;                  /* of those, how many the robust mutex told of */
	_Atomic uint64_t  restarts;
	_Atomic uint64_t  requeues;
	_Atomic uint64_t  quarantined;
	_Atomic uint64_t  replaced;                      /* of the restarts, how many followed the end of a worker */
	_Atomic uint64_t  shared_bytes;                  /* that the segment had when the supervisor looked last */
};

/* A pid is below 2^22 (PID_MAX_LIMIT), a seat below 2^10. */
static inline uint32_t pp__who_make(int32_t pid, int32_t seat) { return (uint32_t)pid | (uint32_t)seat << 22; }
static inline int32_t pp__who_pid(uint32_t who) { return (int32_t)(who & ((1u << 22) - 1)); }
static inline int32_t pp__who_seat(uint32_t who) { return (int32_t)(who >> 22); }

/* How many workers the load asks for, and how many had left for idleness when that was counted: those that leave later are
 * not wanted any more. One word, because two are read one after the other. */
static inline uint64_t pp__wanted_make(uint32_t n, uint32_t idle_exits) { return (uint64_t)idle_exits << 32 | n; }
static inline uint32_t pp__wanted_exits(uint64_t wanted) { return (uint32_t)(wanted >> 32); }

/* How many of them are still wanted. A worker that finds that it is needed takes its exit back; beyond what there can be
 * it was overwritten, and says nothing. */
static inline uint32_t pp__wanted_left(uint64_t wanted, uint32_t idle_exits)
{
	int32_t n = (int32_t)(uint32_t)wanted, gone = (int32_t)(idle_exits - pp__wanted_exits(wanted));

	if (gone > (int32_t)PP__MAX_ENTRIES || gone < -(int32_t)PP__MAX_ENTRIES)
		return (uint32_t)n;
	return gone < n ? (uint32_t)(n - gone) : 0;
}
#define PP__ROUND_SHIFT 8
static inline uint32_t pp__levels_open(uint32_t levels) { return levels & ((1u << PP__LEVELS) - 1); }
static inline uint32_t pp__levels_round(uint32_t levels) { return levels >> PP__ROUND_SHIFT; }

enum pp__closing { PP__OPEN, PP__CLOSING };

/* In death_code of what ended as MEMORY. */
enum pp__memory_cause { PP__MEMORY_NO, PP__MEMORY_CAP = PP__MEMORY_NO, PP__MEMORY_KERNEL, PP__MEMORY_POSSIBLY };

#define PP__KILL_ASK 0           /* no signal: what runs is asked to end first */

/* Written by the parent alone; read-only in workers. */
struct pp__header {
	uint64_t          magic;
	uint32_t          format;
	uint32_t          max_slots;
	uint64_t          nonce;
	uint64_t          size;                  /* of the whole mapping */
	/* offsets of the areas */
	uint64_t          timed;                 /* a bit per slot: it has a deadline or further attempts */
	uint64_t          descs, rings, ring_stride, arguments, control, workers, cells, unit_words, extensions;
	uint64_t          small_units, big_units;/* areas */
	uint64_t          mutables;              /* blocks that tasks may write; to the end */
	uint32_t          small_count, big_count;
	_Atomic uint32_t  max_workers;           /* seats from this number on are given up; see demand.c */
	_Atomic uint32_t  entries;               /* only ever raised */
	int32_t           start_attempts;
	uint32_t          flags;
	uint64_t          max_tasks;
	pp_fn            *initializer, *finalizer;
	uint64_t          init_offset, init_size;/* the initializer's data, in the argument area */
	_Atomic uint64_t  ring_mask[PP__LEVELS][2];
	_Atomic uint32_t  levels;                /* bit per ring that was ever used, none while paused; and the round's number */
	_Atomic uint64_t  wanted;                /* pp__wanted_make: workers that the load asks for */
	_Atomic uint32_t  closing;               /* enum pp__closing */
	_Atomic uint32_t  kill_signal;           /* pp_executor_signal: SIGTERM or SIGKILL; or PP__KILL_ASK */
	_Atomic uint32_t  kill_requests;         /* raised with it */
	_Atomic uint64_t  kill_ns;               /* when; what starts later is not meant */
	_Atomic uint32_t  fd_requests;           /* raised by the parent */
	_Atomic uint32_t  submit_cpu;            /* where whoever submits or waits ran last, plus one */
	_Atomic uint32_t  timed_requests;        /* raised when a deadline may be the earliest */
	_Atomic uint32_t  slots;                 /* that exist; beyond them cells have no memory: do not touch */
	int64_t           grace_ns;              /* from the flag to SIGTERM, and from there to SIGKILL; 0: SIGKILL at once */
	uint64_t          usages;                /* offset of the area: one per slot; it has memory with PP_ACCOUNTING only */
	pp_fn            *round_fn;              /* pp_executor_run_on_workers */
	uint64_t          round_offset, round_size;
	uint64_t          tallies;               /* offset of the area: the supervisor's, and one per entry */
	uint64_t          lives;                 /* offset of the area: a page per entry, which have memory with PP_HARDENED only */
};

static_assert(sizeof(struct pp__policy) <= PP__LINE, "a policy without retries is one line");
static_assert(sizeof(struct pp__desc) == 128, "a descriptor is two lines");
static_assert(sizeof(struct pp__cell) == 128, "a cell is two lines");
static_assert(offsetof(struct pp__cell, wake) == PP__LINE, "what a task touches is the first line");
static_assert(sizeof(struct pp__death) <= PP__EXTENSION, "a death has room in its slot's extension");
static_assert(sizeof(struct pp__worker) % PP__LINE == 0, "workers share no line");
static_assert(sizeof(struct pp__header) <= PP__PAGE, "the header is one page");
static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "a lock inside an atomic dies with its holder");

/* Where the areas are in one process. All processes of an executor map the segment at the same address. */
struct pp__shared {
	char               *base;
	struct pp__header  *header;
	struct pp__control *control;
	struct pp__worker  *workers;
	_Atomic uint64_t   *timed;
	struct pp__tally   *tallies;
	struct pp__usage   *usages;
	struct pp__desc    *descs;
	struct pp__cell    *cells;
	_Atomic uint64_t   *units;
	unsigned char      *extensions;
	_Atomic uint64_t   *rings[PP__LEVELS][2];
};

static inline struct pp__tally *pp__tally_of(const struct pp__shared *shared, uint32_t entry)
{
	return shared->tallies + 1 + entry;
}

/* The kernel writes to it when the owner ends, and libc when a task locks a robust mutex of its own: so where the lines are
 * read-only meanwhile it stands elsewhere, and only its owner can write to that page. */
static inline pthread_mutex_t *pp__life_of(const struct pp__shared *shared, uint32_t entry)
{
	if (!(shared->header->flags & PP_HARDENED))
		return &shared->workers[entry].life;
	return (pthread_mutex_t *)(void *)(shared->base + shared->header->lives + (uint64_t)entry * PP__PAGE);
}

#endif
