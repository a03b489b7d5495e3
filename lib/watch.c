/* SPDX-License-Identifier: MIT */
/*
 * How the parent hears of ends that no thread waits for on the slot itself. A future with watchers is armed: its word
 * carries PP__WANT_PUSH, so whoever ends it pushes its slot on the completion stack, exactly once, and rings. One thread
 * at a time sleeps on the bell; it takes the whole stack by one exchange and tells the watchers; the others sleep on a
 * private condition variable, and one of them takes over when it leaves. All of this costs the same per end, however
 * many futures there are.
 *
 * Links on the stacks are writable by workers: each is checked, and a chain is followed for at most as many steps as
 * there are slots.
 */
#include "pool.h"
#include "wake.h"

#define LOOKS_PER_SLICE 4096u
#define AHEAD           6u
#define PAUSES_PER_LOOK 16

pthread_mutex_t pp__lock = PTHREAD_MUTEX_INITIALIZER;

void pp__settle(pp_future *future)
{
	pp_executor *ex = future->executor;
	struct pp__watcher *watcher = pp__extra_of(future)->watchers, *next;

	if (future->announced)
		return;
	future->announced = true;
	pp__extra_of(future)->watchers = NULL;
	for (; watcher; watcher = next) {
		struct pp__wait *wait = watcher->wait;
		next = watcher->next;
		watcher->next = NULL;
		watcher->settled = true;
		if (!wait) {
			ex->callbacks_waiting--;
			pp__callback_queue(ex, watcher);
			continue;
		}
		wait->settled++;
		*wait->ready_end = watcher;
		wait->ready_end = &watcher->next;
		if (wait->executor_count > 1)
			pthread_cond_broadcast(&wait->news);
	}
	if (ex->max_pending)
		ex->pending--;
}

/* Who sleeps on the bell, and who waits for that one. */
void pp__tell_waiters(pp_executor *ex)
{
	pthread_cond_broadcast(&ex->news);
	if (ex->drainer)
		pp__sem_post(&ex->segment.shared.control->bell);
}

/* From a stack: the slot may be forged, so only what is really awaited counts. */
static void announce(pp_future *future)
{
	if (!future || !future->in_use || !future->armed || future->announced || !pp__future_has_ended(future))
		return;
	pp__settle(future);
	if (atomic_load(&future->refs) == 0)
		pp__future_recycle(future);
}

/* A chain cannot be fetched ahead, but it mostly runs through the slots in their order, up or down. */
static void prefetch_guess(const pp_executor *ex, uint32_t top, uint32_t before)
{
	pp_future *future = pp__future_at(ex, top - 1 + AHEAD * (top - before));

	if (!future)
		return;
	__builtin_prefetch(future, 1);
	__builtin_prefetch(pp__cell_of(future));
	__builtin_prefetch(pp__extra_of(future), 1);
}

static void walk_done(pp_executor *ex, uint32_t top)
{
	uint32_t bound = atomic_load(&ex->slots), before = top;

	while (top && bound--) {
		pp_future *future = pp__future_at(ex, top - 1);
		prefetch_guess(ex, top, before);
		before = top;
		if (!future)
			return;          /* a forged link: what was behind it is found by the slices of its waiters */
		top = atomic_load_explicit(&pp__cell_of(future)->link, memory_order_relaxed);
		announce(future);
	}
}

/* The generation tells a slot that has come round since from the one that was meant. */
static void walk_notices(pp_executor *ex, uint32_t top)
{
	uint32_t bound = atomic_load(&ex->slots), noticed;

	while (top && bound--) {
		pp_future *future = pp__future_at(ex, top - 1);
		if (!future)
			return;
		top = atomic_load(&pp__cell_of(future)->notice_link);
		noticed = atomic_exchange(&pp__cell_of(future)->noticed, 0);
		if (noticed == (future->generation & PP__GENERATION_MASK) + 1)
			announce(future);
	}
}

/*
 * Notices are taken first and read last: their owners were dead before they were written, so what these pushed themselves
 * is in the done stack that is taken after, and is off it before a notice can recycle the same slot.
 */
bool pp__drain(pp_executor *ex)
{
	struct pp__control *c = ex->segment.shared.control;
	uint32_t notices = atomic_load(&c->notices) ? atomic_exchange(&c->notices, 0) : 0;
	uint32_t done = atomic_load(&c->done) ? atomic_exchange(&c->done, 0) : 0;

	if (!done && !notices)
		return false;
	walk_done(ex, done);
	walk_notices(ex, notices);
	pthread_cond_broadcast(&ex->news);
	return true;
}

/*
 * armed is set before the word has the bit, so that whoever sees the word ended also sees armed. It is taken back when the
 * future had ended before; seeing it in between only makes a free take the lock.
 */
bool pp__arm(pp_future *future)
{
	future->armed = true;
	if (!pp__slot_want(pp__cell_of(future), future->generation, PP__WANT_PUSH))
		future->armed = false;
	return future->armed;
}

/*
 * Ends an open future of somebody else's: for shutdown and for a broken pool. Armed first, so that its owner, who may
 * give it up at the same time, leaves it to the announcement, which is this.
 */
void pp__end_from_outside(pp_future *future, uint64_t (*edge)(struct pp__cell *, uint32_t))
{
	if (!future->in_use || pp__future_has_ended(future) || (!future->armed && !pp__arm(future)))
		return;
	if (!edge(pp__cell_of(future), future->generation))
		return;                  /* it has ended in another way, and will be announced */
	atomic_fetch_add(edge == pp__slot_cancel ? &future->executor->cancelled : &future->executor->broke, 1);
	if (future->has_fds)
		pp__nudge(future->executor);     /* it closes them */
	pp__future_outcome(future);
	pp__settle(future);
	pp__wake_sleepers(future);
	if (atomic_load(&future->refs) == 0)
		pp__future_recycle(future);
}

/* Given up by the caller, and its word is none any more: nobody looks after it, and it would keep its slot for ever. One
 * that is in the middle of a submit is not armed. */
bool pp__is_lost(pp_future *future)
{
	uint64_t word = pp__slot_look(pp__cell_of(future));

	return future->in_use && future->armed && atomic_load(&future->refs) == 0 && !pp__future_has_ended(future)
	       && (!pp__word_is_like(word, pp__word_of(future, PP__FREE)) || pp__word_state(word) == PP__FREE);
}

void pp__end_lost(pp_future *future)
{
	future->armed = true;
	atomic_store(&pp__cell_of(future)->word, pp__word_of(future, PP__BROKEN));
	atomic_fetch_add(&future->executor->broke, 1);
	pp__future_outcome(future);
	pp__settle(future);
	pp__wake_sleepers(future);
	if (atomic_load(&future->refs) == 0)
		pp__future_recycle(future);
}

/* What has ended and is on no stack: whoever was to push it is dead. */
void pp__settle_ended(pp_executor *ex)
{
	for (uint32_t i = 0; i < atomic_load(&ex->slots); i++) {
		pp_future *future = pp__future_at(ex, i);
		if (future->in_use)
			announce(future);
	}
}

bool pp__watch(struct pp__watcher *watcher)
{
	pp_future *future = watcher->future;
	struct pp__watcher **end = &pp__extra_of(future)->watchers;

	if (pp__future_has_ended(future) || future->announced)
		return false;
	if (!future->armed && !pp__arm(future))
		return false;
	while (*end)
		end = &(*end)->next;
	*end = watcher;
	return true;
}

void pp__unwatch(struct pp__watcher *watcher)
{
	struct pp__watcher **at = &pp__extra_of(watcher->future)->watchers;

	while (*at && *at != watcher)
		at = &(*at)->next;
	if (*at)
		*at = watcher->next;
}

/* Ended, awaited, and its owner has left without a push that is still there: the stack was overwritten. submit_lock held. */
static bool is_forgotten(const pp_executor *ex, pp_future *future)
{
	uint64_t word = pp__slot_look(pp__cell_of(future));
	enum pp__state state = pp__word_state(word);

	return future->in_use && future->armed && !future->announced && pp__word_is_like(word, pp__word_of(future, PP__FREE))
	       && state >= PP__DONE && state <= PP__MEMORY
	       && pp__owner_has_left(ex, future->slot, word);
}

/* What a push or a notice should have told of. Some slots at each slice in which nothing was heard, so that a pool of many
 * costs no more than one of few; what was pushed by one that has left is on its stack, so that is taken before. */
static void announce_forgotten(pp_executor *ex)
{
	uint32_t slots = atomic_load(&ex->slots), found = PP__NO_SLOT;
	pp_future *future;
	bool still;

	pthread_mutex_lock(&ex->submit_lock);
	for (uint32_t i = 0; i < slots && i < LOOKS_PER_SLICE && found == PP__NO_SLOT; i++) {
		ex->looked_at = ex->looked_at + 1 < slots ? ex->looked_at + 1 : 0;
		future = pp__future_at(ex, ex->looked_at);
		if (is_forgotten(ex, future) || pp__is_lost(future))
			found = ex->looked_at;
	}
	pthread_mutex_unlock(&ex->submit_lock);
	if (found == PP__NO_SLOT)
		return;
	pp__drain(ex);
	future = pp__future_at(ex, found);
	pthread_mutex_lock(&ex->submit_lock);
	still = is_forgotten(ex, future);
	pthread_mutex_unlock(&ex->submit_lock);
	if (still) {
		atomic_fetch_add(&ex->rescues, 1);
		announce(future);
	} else if (pp__is_lost(future)) {
		pp__end_lost(future);
	}
}

/* Some time between two looks lets some ends gather: the stack's line goes to and fro once for all of them. */
static bool spin(pp_executor *ex)
{
	const struct pp__control *c = ex->segment.shared.control;
	int64_t budget = pp__spin_budget(&ex->spin, atomic_load(&c->worker_cpu)), until;

	if (!budget)
		return false;
	until = pp__now_ns() + budget;
	do {
		for (int i = 0; i < PAUSES_PER_LOOK; i++)
			pp__spin_pause();
		if (atomic_load(&c->done) || atomic_load(&c->notices))
			return true;
	} while (pp__now_ns() < until);
	return false;
}

/* pp__lock held, given up meanwhile. false: nothing has come. */
static bool sleep_until_rung(pp_executor *ex, int64_t until)
{
	int64_t before;
	bool rung;

	pthread_mutex_unlock(&pp__lock);
	before = pp__now_ns();
	rung = pp__sem_wait(&ex->segment.shared.control->bell, until);
	pp__spin_learn(&ex->spin, pp__now_ns() - before);
	if (!rung)
		pp__tend(ex);
	pthread_mutex_lock(&pp__lock);
	return rung;
}

/* Looks for a while; then sleeps on the bell: arms it, looks once more, sleeps for a slice. */
static void sleep_on_bell(pp_executor *ex, int64_t until)
{
	struct pp__control *c = ex->segment.shared.control;
	bool rung;

	ex->drainer = true;
	pp__before_waiting(ex);
	pthread_mutex_unlock(&pp__lock);
	spin(ex);
	pthread_mutex_lock(&pp__lock);
	if (pp__drain(ex)) {
		ex->drainer = false;
		return;
	}
	atomic_fetch_or(&c->armed, PP__ARM_BELL);
	if (!pp__drain(ex)) {
		rung = sleep_until_rung(ex, until);
		if (!pp__drain(ex) && !rung)
			announce_forgotten(ex);
	}
	ex->drainer = false;
	pthread_cond_broadcast(&ex->news);
}

bool pp__await_news(pp_executor *ex, int64_t deadline)
{
	int64_t now = pp__now_ns(), until;

	if (now >= deadline)
		return pp__drain(ex);    /* too late to wait, but not to look */
	until = deadline - now < PP__SLICE_NS ? deadline : now + PP__SLICE_NS;
	if (!ex->drainer) {
		sleep_on_bell(ex, until);
		return true;
	}
	pp__cond_wait(&ex->news, &pp__lock, until);
	return true;
}
