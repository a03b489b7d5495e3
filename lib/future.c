/* SPDX-License-Identifier: MIT */
/*
 * One future, from its owner's side: looking, waiting, cancelling, killing, giving up. The shared word is the truth until
 * the parent has seen the end; from then on the private box is.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include "policy.h"
#include "pool.h"
#include "wake.h"

#define LOOKS_PER_CLOCK 8
#define PAUSES_PER_LOOK 4
#define LATE_WAKE_NS   INT64_C(5000000)

void pp__wake_sleepers(pp_future *future)
{
	if (atomic_load(&future->sleepers))
		pp__sem_post(&pp__cell_of(future)->wake);
}

static bool give_way(pp_future *future)
{
	struct pp__spin *spin = &future->executor->spin;
	int64_t before;
	bool ended;

	if (!pp__spin_may_give_way(spin))
		return false;
	before = pp__now_ns();
	sched_yield();
	ended = pp__future_has_ended(future);
	pp__spin_gave_way(spin, pp__now_ns() - before, ended);
	return ended;
}

/* Each look takes the line away from the worker, which has to write it three times yet. */
static bool spin(pp_future *future)
{
	pp_executor *ex = future->executor;
	int64_t budget = pp__spin_budget(&ex->spin, atomic_load(&ex->segment.shared.control->worker_cpu)), until;

	if (!budget)
		return give_way(future);
	until = pp__now_ns() + budget;
	do {
		for (int i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (pp__future_has_ended(future))
				return true;
			for (int j = 0; j < PAUSES_PER_LOOK; j++)
				pp__spin_pause();
		}
	} while (pp__now_ns() < until);
	return false;
}

/* For who looks without waiting. */
static void tend_sometimes(pp_future *future)
{
	if (pp__tend_sometimes(future->executor))
		pp__tend_future(future);
}

static void tend(pp_future *future)
{
	pp__tend(future->executor);
	pp__tend_future(future);
}

/*
 * Asks to be woken, looks, sleeps; in slices, because a wake dies with its waker. A slice that finds the end, and whose
 * wake does not come right after either, is counted: outside of injected deaths and stops there must be none.
 */
static bool sleep_until_ended(pp_future *future, int64_t deadline)
{
	struct pp__cell *cell = pp__cell_of(future);
	bool asked, woken;
	int64_t now;

	while (!pp__future_has_ended(future)) {
		asked = pp__slot_want(cell, future->generation, PP__WANT_WAKE) != 0;
		now = pp__now_ns();
		if (now >= deadline)
			return pp__future_has_ended(future);
		if (!asked && pp__future_has_ended(future))
			return true;
		woken = pp__sem_wait(&cell->wake, deadline - now < PP__SLICE_NS ? deadline : now + PP__SLICE_NS);
		if (woken)
			continue;
		if (!pp__future_has_ended(future))
			tend(future);
		else if (asked && !pp__sem_wait(&cell->wake, pp__now_ns() + LATE_WAKE_NS))
			atomic_fetch_add(&future->executor->rescues, 1);
	}
	return true;
}

static bool __attribute__((noinline)) await_end(pp_future *future, int64_t timeout_ms)
{
	int64_t deadline, before;
	bool ended;

	if (timeout_ms == 0) {
		tend_sometimes(future);
		return pp__future_has_ended(future);
	}
	deadline = pp__deadline_ns(timeout_ms);
	pp__before_waiting(future->executor);
	if (spin(future))
		return true;
	atomic_fetch_add(&future->sleepers, 1);
	before = pp__now_ns();
	ended = sleep_until_ended(future, deadline);
	pp__spin_learn(&future->executor->spin, pp__now_ns() - before);
	/* One end posts one token: each that leaves passes it on. */
	if (atomic_fetch_sub(&future->sleepers, 1) > 1 && ended)
		pp__sem_post(&pp__cell_of(future)->wake);
	return ended;
}

int pp_future_result(pp_future *future, int64_t timeout_ms, const pp_outcome **outcome)
{
	if (outcome)
		*outcome = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!future || !pp__time_is_valid(timeout_ms))
		return -EINVAL;
	if (!pp__future_has_ended(future) && !await_end(future, timeout_ms))
		return -ETIMEDOUT;
	if (!outcome)
		return 0;
	*outcome = pp__future_outcome(future);
	return *outcome ? 0 : -ENOMEM;
}

int pp_future_exception(pp_future *future, int64_t timeout_ms, const pp_outcome **outcome)
{
	int rc = pp_future_result(future, timeout_ms, outcome);

	if (rc == 0 && outcome && (*outcome)->kind == PP_RETURNED)
		*outcome = NULL;
	return rc;
}

/* For predicates: in a child, and on NULL, nothing is true. */
static pp_future *usable(const pp_future *future)
{
	return future && pp__is_original_process() ? (pp_future *)(uintptr_t)future : NULL;
}

/* Somebody may look without ever waiting: then this is where a pool that has died is noticed. */
bool pp_future_done(const pp_future *future_)
{
	pp_future *future = usable(future_);

	if (!future)
		return false;
	if (!pp__future_has_ended(future))
		tend_sometimes(future);
	return pp__future_has_ended(future);
}

bool pp_future_running(const pp_future *future_)
{
	pp_future *future = usable(future_);
	enum pp__state state = future ? pp__state_of(future) : PP__FREE;

	return pp__state_is_running(state);
}

bool pp_future_cancelled(const pp_future *future_)
{
	pp_future *future = usable(future_);

	return future && pp__state_of(future) == PP__CANCELLED;
}

const char *pp_future_state(const pp_future *future_)
{
	pp_future *future = usable(future_);
	enum pp__state state;

	if (!future)
		return NULL;
	tend_sometimes(future);
	state = pp__state_of(future);            /* one look: it may change between two */
	if (state == PP__CANCELLED)
		return "cancelled";
	if (pp__state_is_end(state) || pp__is_boxed(future))
		return "finished";
	return pp__state_is_running(state) ? "running" : "pending";
}

/* Its end comes from the parent's own hand: nobody else announces it. */
static void end_here(pp_future *future)
{
	pp_executor *ex = future->executor;
	struct pp__watcher *list = NULL, *next;

	pp__future_outcome(future);              /* now, for the time that it was queued */
	pthread_mutex_lock(&pp__lock);
	if (!(ex->flags & PP_SELF_DISPATCH))
		list = pp__callbacks_take(future);
	pp__settle(future);
	pp__tell_waiters(ex);
	if (ex->callbacks)
		pp__ask_for_fd(ex);
	pthread_mutex_unlock(&pp__lock);
	pp__wake_sleepers(future);
	for (; list; list = next) {
		next = list->next;
		pp__callback_run(ex, list);
	}
}

bool pp_future_cancel(pp_future *future_)
{
	pp_future *future = usable(future_);

	if (!future)
		return false;
	if (!pp__slot_cancel(pp__cell_of(future), future->generation))
		return pp__state_of(future) == PP__CANCELLED;
	atomic_fetch_add(&future->executor->cancelled, 1);
	end_here(future);
	return true;
}

/* Whatever for. One that has failed is cancelled by the supervisor, which sees that it was given up. */
static bool is_about_to_end(const pp_future *future)
{
	enum pp__state state = pp__state_of(future);

	if (state == PP__FAILED)
		return pp__policy_of(&future->executor->segment.shared, future->slot) != NULL;
	return state == PP__ASKED_KILL || state == PP__ASKED_TIME || pp__state_stops(state);
}

static void wait_a_little(void)
{
	int state = pp__cancel_hold();

	poll(NULL, 0, 1);
	pp__cancel_restore(state);
}

int pp_future_kill(pp_future *future)
{
	uint64_t (*ask)(struct pp__cell *, uint32_t);

	if (!pp__is_original_process())
		return -ECHILD;
	if (!future)
		return -EINVAL;
	pp__policy_give_up(future);
	ask = future->executor->inlined || future->executor->segment.shared.header->grace_ns ? pp__slot_ask_kill : pp__slot_stop_kill;
	for (int looks = 0; !pp__future_has_ended(future); looks++) {
		if (ask(pp__cell_of(future), future->generation)) {
			pp__nudge(future->executor);
			return 0;
		}
		if (is_about_to_end(future) || pp_future_cancel(future))
			return 0;
		if (looks > 2)
			wait_a_little();         /* its word was overwritten, and is soon found to be */
		tend_sometimes(future);
	}
	return 0;
}

void pp_future_set_context(pp_future *future, void *context)
{
	if (usable(future))
		future->context = context;
}

void *pp_future_context(const pp_future *future)
{
	return usable(future) ? future->context : NULL;
}

pp_future *pp_future_ref(pp_future *future)
{
	if (!usable(future))
		return NULL;
	atomic_fetch_add_explicit(&future->refs, 1, memory_order_relaxed);
	return future;
}

/*
 * One reference less, of a future that has not ended or that is on the completion stack or about to be. Under pp__lock
 * there is one order of this and of the announcement, and whoever comes last recycles. Not ended: it goes on detached, and
 * asks for the push that will bring it to the announcement.
 */
static void free_slowly(pp_future *future)
{
	bool recycle = false;

	pthread_mutex_lock(&pp__lock);
	if (atomic_fetch_sub(&future->refs, 1) == 1) {
		if (!future->armed)
			pp__arm(future);
		recycle = !future->armed || future->announced;
		if (!recycle && pp__is_lost(future))
			pp__end_lost(future);    /* which recycles it */
	}
	pthread_mutex_unlock(&pp__lock);
	if (recycle)
		pp__future_recycle(future);
}

/* Ended, and nobody will announce it: that is for good, because only open futures are armed. */
void pp_future_free(pp_future *future_)
{
	pp_future *future = usable(future_);

	if (!future)
		return;
	if (!pp__future_has_ended(future) || future->armed) {
		free_slowly(future);
		return;
	}
	/* Whoever has the only reference is alone with it: nobody can add one without having one. */
	if (atomic_load_explicit(&future->refs, memory_order_acquire) == 1)
		atomic_store_explicit(&future->refs, 0, memory_order_relaxed);
	else if (atomic_fetch_sub(&future->refs, 1) != 1)
		return;
	pp__future_recycle(future);
}
