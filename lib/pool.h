/* SPDX-License-Identifier: MIT */
/*
 * The parent's private half: nothing here is in reach of a worker, and what is decided here does not depend on what a
 * worker may have written.
 *
 * Locks, in the order in which they may be taken: pp__lock (one for the process: watchers, callbacks, the completion
 * stacks' readers), then an executor's submit_lock (its free slots, its ring, its argument space). The way of a small
 * task, from submit to the result and the free, takes submit_lock once (before a wait once more, while a thread stands back
 * from it: turns.h) and pp__lock never.
 */
#ifndef PP_LIB_POOL_H
#define PP_LIB_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "arguments.h"
#include "clock.h"
#include "code.h"
#include "free_slots.h"
#include "procpool.h"
#include "passing.h"
#include "ring.h"
#include "segment.h"
#include "slot.h"
#include "spin.h"
#include "sysdep.h"
#include "turns.h"
#include "units.h"

#define PP__SLAB       4096u            /* slots are added by so many */
#define PP__SLOTS_AHEAD 4u              /* a line is on its way for as long as some tasks take */
#define PP__SLICE_NS    INT64_C(50000000)/* no wait trusts a wake for longer */
#define PP__RESCUE_NS   INT64_C(1000000000)

/* Somebody who wants to hear of a future's end: a callback, or a place in a wait. */
struct pp__watcher {
	struct pp__watcher *next;        /* in the future's list; then in the queue of callbacks, or of a walk's ready ones */
	pp_future          *future;
	struct pp__wait    *wait;        /* NULL: a callback */
	pp_callback        *callback;
	void               *context;
	bool                settled;
};

/* A wait or a walk over many futures. Guarded by pp__lock. */
struct pp__wait {
	struct pp__watcher *watchers;    /* one per different future */
	size_t              count, settled;
	size_t              tended;      /* looks at those that do not end, in turn */
	bool                exception;   /* one ended otherwise than returned or cancelled */
	struct pp__watcher *ready, **ready_end;  /* in the order of ending */
	pp_executor       **executors;   /* of the futures, each once; a thread of each drains when there are several */
	size_t              executor_count, listening;
	pthread_cond_t      news;        /* used when there are several executors */
};

/* Memory that the caller owns: a place of its own, or the result of a future, whose slot it keeps. */
struct pp_block {
	pp_executor      *executor;
	pp_future        *source;        /* NULL: a place of its own */
	uint64_t          offset, size;
	uint32_t          place;
	unsigned          flags;
	_Atomic uint32_t  refs;          /* the caller's, and one per task */
};

/* What a task is given: parts to be copied one behind the other, or size bytes of a block. */
struct pp__input {
	const struct iovec *parts;
	int                 count;
	uint64_t            size;
	pp_block           *block;       /* NULL: parts */
	uint64_t            offset;
};

/* The outcome as the caller sees it, made when the parent first sees the end, and kept. Each slot has its own. */
struct pp__box {
	alignas(PP__LINE) pp_outcome outcome;
	unsigned char bytes[PP__RESULT_INLINE];
	char         *owned;             /* malloc'ed: the message, or a copy of the result (PP_COPY_OUT); or NULL */
	const unsigned char *place;      /* of a copy: where the result is */
	struct pp__report *report;       /* of a death: report.h; NULL */
	struct pp__earlier *earlier;     /* attempts that failed; malloc'ed, or NULL */
};

enum pp__boxed { PP__UNBOXED, PP__BOXING, PP__BOXED };

/* One line: what each task touches. */
struct pp_future {
	alignas(PP__LINE) pp_executor *executor;
	uint64_t          check;         /* the word of this slot, FREE and of generation 0 */
	int64_t           submit_ns;
	void             *context;
	uint32_t          slot;
	_Atomic uint32_t  generation;
	_Atomic uint32_t  refs;          /* the caller's, and one per callback to come and per walk; 0: detached, or free */
	_Atomic uint32_t  sleepers;      /* threads on the cell's semaphore */
	uint32_t          next_free;     /* slot + 1 */
	_Atomic uint8_t   boxed;         /* enum pp__boxed: a thread makes the slot's box, or has made it */
	_Atomic bool      plain;         /* nameless, its argument in the descriptor, run once, and its result in no block */
	_Atomic bool      armed;         /* its end will be on the completion stack, or has been */
	bool              announced;     /* and has been taken from there; pp__lock */
	_Atomic bool      in_use;        /* between submit and recycling */
	bool              has_fds;       /* its task is given descriptors, which the supervisor holds until it starts */
	uint8_t           level;         /* enum pp__level */
	bool              chunk;         /* its task runs several items of a map: chunk.h */
	bool              keeps;         /* recycled, but its units are still part of a block */
	bool              neat;          /* its box has only what every plain result overwrites: outcome.c */
};

static_assert(sizeof(struct pp_future) == PP__LINE, "what a task touches is one line");

/* What few tasks have. Not touched before, so that it costs no memory. */
struct pp__extra {
	struct pp__watcher *watchers;    /* in the order in which they came; pp__lock */
	uint64_t          mark;          /* the last wait that has it: duplicates are dropped by it; pp__lock */
	pp_block         *block;         /* its argument; NULL: it was copied */
	uint32_t          place;         /* of an argument that was copied to the area */
	uint32_t          policy_place;  /* of the record of what it may do, where the descriptor says that there is one */
	_Atomic uint32_t  passed;        /* blocks made of its result: the slot is kept for them */
};

struct pp__slab {
	struct pp_future futures[PP__SLAB];
	struct pp__extra extras[PP__SLAB];
	struct pp__box   boxes[PP__SLAB];       /* not touched before there is an outcome */
};

struct pp_executor {
	struct pp__segment  segment;
	struct pp__identity supervisor;
	pp_executor        *next;        /* in the list of all */
	_Atomic uint32_t    max_workers; /* changed with submit_lock held */
	_Atomic uint32_t    most_workers;/* that it ever was: bounds the indices in outcomes */
	uint32_t            flags;
	uint64_t            max_pending;
	uint64_t            max_bytes, init_bytes;       /* the initializer's data does not count */
	int64_t             timeout_ms, deadline_ms;     /* of tasks that do not say; 0: none */
	bool                has_times;                   /* one is not 0 */
	bool                plain;       /* nothing was asked for that a submit has more to do for: submit.c */
	_Atomic uint32_t    room_waiters;        /* threads that wait for some of them */
	pp_log_fn          *log;
	void               *log_context;
	struct pp__code    *code;        /* what the workers have, as of create */

	alignas(PP__LINE) pthread_mutex_t submit_lock;   /* one line with what of turns is touched by each submit */
	struct pp__turns    turns;       /* of threads that submit */
	struct pp__ring_writer rings[PP__LEVELS];        /* those in levels are made */
	uint32_t            levels;
	bool                paused;
	bool                inlined;             /* PP_INLINE: inline.c, and what follows here */
	bool                inline_begun;        /* the initializer has succeeded */
	struct pp__self    *inline_self;         /* with inline_lock */
	pthread_mutex_t     inline_lock;         /* a task runs */
	_Atomic uint32_t    inline_open;         /* tasks that were submitted and have not ended */
	int                 bell_fd;             /* the write end behind pp_executor_fd; else -1 */
	uint32_t            round;               /* of pp_executor_run_on_workers; with submit_lock and pp__lock */
	uint32_t            round_place;         /* its data, round_size of them */
	uint64_t            round_size;
	bool                in_round;            /* a thread waits for it; pp__lock */
	uint32_t            round_incarnations[PP__MAX_ENTRIES]; /* of who was there, plus one; 0: nobody */
	struct pp__arguments arguments, mutables;
	struct pp__slab   **slabs;       /* by slot / PP__SLAB; never moves: room for max_slots */
	_Atomic uint32_t    slots;       /* that exist */
	struct pp__free_slots free_slots[PP__FREE_LISTS];
	uint32_t            limbo;       /* list of slots whose owner is not confirmed dead yet */
	struct pp__clock    clock;       /* of submits */
	uint32_t            submits;
	_Atomic uint64_t    submitted;           /* in all; written with submit_lock */
	_Atomic uint64_t    cancelled, broke;    /* futures that the parent has ended so */
	bool                closed;
	_Atomic bool        deserted;            /* no process is left beside this one: nobody is dying any more */
	/* Recycled slots that any thread may push, taken as a whole under submit_lock, so no ABA can be. */
	_Atomic uint32_t    returned;    /* room to give back, or an owner that is not confirmed dead: slot + 1 */
	_Atomic bool        holds_room;  /* something on that stack, or in limbo, has room to give back */
	bool                unpassed;    /* a block went while slots were harvested: another may be free now */
	uint64_t            taken;       /* slots that are not on a list of free ones, and blocks; submit_lock */
	struct pp__unit_books results;
	_Atomic uint32_t    read_slot;   /* whose end was read last: a guess at which is next */
	struct pp__spin     spin;
	_Atomic int64_t     looked_ns;   /* when the supervisor was last looked at, */
	_Atomic int64_t     offered_ns;  /* and when whoever seems idle was last woken */
	_Atomic uint64_t    rescues;     /* ends that a slice found and no wake told of within a second */
	_Atomic(struct pp__box *) broken;

	/* pp__lock */
	uint64_t            pending;     /* not announced; counted only with max_pending */
	struct pp__watcher *callbacks, **callbacks_end;  /* to be run */
	unsigned            callbacks_running;
	unsigned            callbacks_waiting;           /* on futures that are not done */
	bool                gone;        /* the handle was given up: nobody dispatches any more */
	bool                drainer;     /* a thread sleeps on the bell */
	uint32_t            looked_at;   /* the slot up to which ends that nobody told of were looked for */
	pthread_cond_t      news;        /* for the others */
	pthread_t           dispatcher;
	bool                has_dispatcher, stop_dispatcher;
	int                 fd;          /* read end behind pp_executor_fd; -1 */
	uint64_t            fd_dev, fd_ino;
	struct pp__pass_end pass;        /* to the supervisor, for descriptors of tasks; sent to with submit_lock */
	unsigned            listeners;   /* waits over several executors that rely on the dispatcher's ear */
	uint64_t            logged_deaths, logged_restarts, logged_quarantined, logged_rescues;
	bool                logged_broken;
};

extern pthread_mutex_t pp__lock;

static inline struct pp__cell *pp__cell_of(const pp_future *future)
{
	return future->executor->segment.shared.cells + future->slot;
}

static inline pp_future *pp__future_of(const pp_executor *executor, uint32_t slot)       /* which exists */
{
	return &executor->slabs[slot / PP__SLAB]->futures[slot % PP__SLAB];
}

static inline struct pp__slab *pp__slab_of(const pp_future *future)
{
	static_assert(offsetof(struct pp__slab, futures) == 0, "a slab begins with its futures");
	return (struct pp__slab *)(uintptr_t)(future - future->slot % PP__SLAB);
}

static inline struct pp__extra *pp__extra_of(const pp_future *future)
{
	return &pp__slab_of(future)->extras[future->slot % PP__SLAB];
}

static inline struct pp__box *pp__box_place(const pp_future *future)
{
	return &pp__slab_of(future)->boxes[future->slot % PP__SLAB];
}

static inline bool pp__is_boxed(const pp_future *future)
{
	return atomic_load_explicit(&future->boxed, memory_order_acquire) == PP__BOXED;
}

/* NULL: it has not been made. */
static inline struct pp__box *pp__box_of(const pp_future *future)
{
	return pp__is_boxed(future) ? pp__box_place(future) : NULL;
}

/* The word of this generation, owned by nobody and wanted by nobody. */
static inline uint64_t pp__word_of(const pp_future *future, enum pp__state state)
{
	return future->check | (uint64_t)(future->generation & PP__GENERATION_MASK) << 32 | (uint64_t)state;
}

static inline enum pp__state pp__state_of(const pp_future *future)
{
	uint64_t word = pp__slot_look(pp__cell_of(future));

	return pp__word_is_like(word, pp__word_of(future, PP__FREE)) ? pp__word_state(word) : PP__FREE;
}

/* The private box is the truth once it is made, the shared word before. */
static inline bool pp__future_has_ended(pp_future *future)
{
	return pp__is_boxed(future) || pp__state_is_end(pp__state_of(future));
}

/* slots.c; and slots.h */
void       pp__slot_give_back(pp_future *future);                        /* unused after all; submit_lock held */
void       pp__slots_harvest(pp_executor *executor);                     /* returned to free; submit_lock held */
uint64_t   pp__slots_in_use(const pp_executor *executor);                /* and blocks; submit_lock held */
void       pp__future_recycle(pp_future *future);                        /* last reference gone, ended, announced */
pp_future *pp__future_at(const pp_executor *executor, uint32_t slot);    /* NULL when there is none */

/* block.c */
void pp__block_drop(pp_block *block);                                    /* a task's reference; submit_lock held */

/* room.c */
#define PP__ROOM_IS_SHORT (-EOVERFLOW)   /* of max_bytes, now; does not leave the library */
/* As pp__arguments_take, within max_bytes; -ENOSPC also where it never fits. submit_lock held. */
int64_t pp__room_take(pp_executor *executor, struct pp__arguments *area, uint64_t size, uint32_t *place);
/* Whether a task has no room within max_bytes even when nobody else has any: its argument, and what its options need. */
bool    pp__room_never_fits(const pp_executor *executor, const pp_task_options *options, uint64_t size);
/* No lock held. 0: try again; -EAGAIN, -ETIMEDOUT. */
int     pp__room_await(pp_executor *executor, const pp_task_options *options, int64_t deadline);
void    pp__room_tell(pp_executor *executor);

/* policy.c */
static inline bool pp__policy_is_wanted(const pp_executor *executor, const pp_task_options *options)
{
	return options->retries || options->timeout_ms || options->deadline_ms || executor->has_times;
}
uint64_t pp__policy_bytes(const pp_executor *executor, const pp_task_options *options);  /* what it takes; 0: none */
int  pp__policy_make(pp_executor *executor, pp_future *future, const pp_task_options *options);  /* submit_lock held */
void pp__policy_release(pp_executor *executor, pp_future *future);                               /* submit_lock held */
void pp__policy_tell(const pp_executor *executor, const pp_future *future);      /* after it was made READY; no lock held */
void pp__policy_give_up(const pp_future *future);        /* of one that the caller has, or with submit_lock held */
void pp__policy_recall(const pp_executor *executor);     /* the supervisor looks at all tasks that wait */
/* The attempts that failed, of a future that has ended, and how many they are; NULL: none, or no memory. */
struct pp__earlier *pp__policy_history(const pp_future *future, const char *task_name, unsigned *count);
const pp_outcome *pp__policy_last(const struct pp__earlier *history, unsigned count);

/* inline.c */
/* This thread is in a task, which must not submit: in a worker it could not either. */
extern _Thread_local bool pp__inline_inside __attribute__((tls_model("initial-exec")));
int  pp__inline_begin(pp_executor *executor);            /* 0; -ECANCELED: with PP_START_ALL the initializer failed */
void pp__inline_end(pp_executor *executor);
void pp__inline_task(pp_executor *executor, const pp_task_options *options, uint32_t slot);      /* no lock held */
bool pp__inline_await(pp_executor *executor, int64_t deadline);
int  pp__inline_round(pp_executor *executor, pp_fn *fn, const void *data, size_t size);
void pp__inline_ring_fd(const pp_executor *executor);
int  pp__inline_start(pp_executor *executor);            /* in start.c: in place of pp__executor_start */

/* pause.c */
void pp__levels_publish(pp_executor *executor);                          /* submit_lock held, or before it is known */
int  pp__level_use(pp_executor *executor, enum pp__level level);         /* submit_lock held; 0, -ENOMEM, -ENOSPC */

/* submit.c */
uint32_t pp__busy_workers(const struct pp__shared *shared);
int  pp__submit(pp_executor *ex, const pp_task_options *options, pp_fn *fn, const struct pp__input *in, pp_future **future);

/* demand.c. Each is true when the supervisor is to be nudged, or nudges it. */
bool pp__demand_raise(pp_executor *executor, uint32_t more);      /* beside what the ring holds; submit_lock held */
void pp__demand_again(pp_executor *executor);                     /* after a submit, no lock held */
/* All that there may be are asked for already, and none has left since: then there is nothing to raise. */
static inline bool pp__demand_is_met(const pp_executor *executor)
{
	const struct pp__shared *shared = &executor->segment.shared;

	return atomic_load(&shared->header->wanted)
	       == pp__wanted_make(executor->max_workers, atomic_load(&shared->control->idle_exits));
}

/* future.c */
void pp__wake_sleepers(pp_future *future);

/* outcome.c */
extern const struct pp__usage pp__usage_unknown;
const pp_outcome *pp__future_outcome(pp_future *future);                 /* of one that has ended */
void              pp__box_init(struct pp__box *box);
void              pp__box_clear(struct pp__box *box);                    /* frees what it points to */
/* Fills in a result, or what was raised; bytes NULL: it was overwritten. */
void              pp__box_read(struct pp__box *box, int code, const unsigned char *bytes, uint64_t size);
struct pp__box   *pp__box_broken(const char *text, int code);
void              pp__box_free(struct pp__box *box);

/* verify.c */
/* As pp__box_read. With PP_CHECKSUM after a look at the sum of the bytes, with PP_COPY_OUT of a copy. 0; -ENOMEM. */
int pp__box_read_verified(const pp_executor *executor, struct pp__box *box, int code, const unsigned char *bytes,
                          uint64_t size, uint32_t sum);

/* watch.c; all with pp__lock held */
void pp__tell_waiters(pp_executor *executor);    /* after ends that came from no stack */
bool pp__arm(pp_future *future);                 /* false: it has ended, and nobody will push it */
void pp__end_from_outside(pp_future *future, uint64_t (*edge)(struct pp__cell *, uint32_t));     /* and submit_lock */
bool pp__watch(struct pp__watcher *watcher);     /* false: it has ended, and the watcher was not added */
void pp__unwatch(struct pp__watcher *watcher);
void pp__settle(pp_future *future);              /* its end is known: tells the watchers, once */
bool pp__is_lost(pp_future *future);             /* pp__lock held, as of the next two */
void pp__end_lost(pp_future *future);            /* as broken, by force */
void pp__settle_ended(pp_executor *executor);    /* each that has; when nobody is left who would tell of it */
bool pp__drain(pp_executor *executor);           /* takes all that the stacks hold; true: there was something */
bool pp__await_news(pp_executor *executor, int64_t deadline_ns);         /* false: the deadline has passed */

/* callback.c */
int  pp__dispatcher_start(pp_executor *executor);                        /* pp__lock held; 0, -EAGAIN */
void pp__dispatcher_stop(pp_executor *executor);
void pp__callback_queue(pp_executor *executor, struct pp__watcher *watcher);     /* pp__lock held */
void pp__callback_run(pp_executor *executor, struct pp__watcher *watcher);       /* no lock held */
bool pp__in_callback(const pp_executor *executor);        /* this thread is in one of it (NULL: of any), however deep */
unsigned pp__callbacks_run_queued(pp_executor *executor, unsigned max);  /* pp__lock held, given up meanwhile */
struct pp__watcher *pp__callbacks_take(pp_future *future);               /* pp__lock held */
void pp__ask_for_fd(pp_executor *executor);

/* tend.c */
void pp__note_cpu(const pp_executor *executor);  /* workers do not spin on the CPU of the one they wait for */
void pp__before_waiting(pp_executor *executor);  /* for a task: workers look for it at once, others may submit */
void pp__nudge(const pp_executor *executor);     /* asks the supervisor to look around; the parent knows it by itself */
void pp__tend(pp_executor *executor);            /* no lock held: looks whether the pool can still do its work */
void pp__tend_future(pp_future *future);         /* no lock held: whether this future can still end */
bool pp__tend_sometimes(pp_executor *executor);  /* at most once a slice; true: it was time */
bool pp__owner_has_left(const pp_executor *executor, uint32_t slot, uint64_t word);
void pp__pool_break(pp_executor *executor, int code, const char *text);  /* every open future ends as broken */
void pp__log_news(pp_executor *executor);        /* no lock held */

/* start.c */
/* Forks the supervisor; 0 or negative errno. */
int  pp__executor_start(pp_executor *executor, const pp_options *options);
/* This thread is in there, and holds what before_fork would take. */
extern _Thread_local bool pp__forking __attribute__((tls_model("initial-exec")));

/* executor.c */
/* Executors whose handle was given up while futures live. Whoever recycles one looks at the count, which is not part of
 * any executor: the executor may be gone as soon as its last slot is on the stack of recycled ones. */
extern _Atomic unsigned pp__orphans;
void pp__orphan_visit(pp_executor *executor);            /* frees it when its last future is gone */
uint32_t pp__live_workers(const struct pp__shared *shared, pid_t *pids, size_t n);     /* stores at most n; how many */
/* options.c */
int  pp__options_read(pp_options *to, const pp_options *from);
int  pp__map_options_read(pp_map_options *to, const pp_map_options *from);
extern const pp_task_options pp__task_defaults;
int  pp__task_options_read(pp_task_options *to, const pp_task_options *from);

#endif
