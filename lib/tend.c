/* SPDX-License-Identifier: MIT */
/*
 * What a wait does before it begins, and when a slice passed and nothing was heard: can the pool still do its work, and can this future still
 * end? In a healthy pool these looks find nothing. They are how the death of the supervisor is noticed, and how the pool
 * heals after a worker has written where it should not.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include "policy.h"
#include "pool.h"
#include "wake.h"

/* Every future that has not ended ends here; each by one compare-and-swap, so that no end is overwritten. Whoever is in the
 * middle of a submit sees that the pool is broken, or has made its future ready before this loop. One that has ended
 * before, and whose worker and supervisor died before they told of it, is told of here. */
static void break_open_futures(pp_executor *ex)
{
	pthread_mutex_lock(&pp__lock);
	pthread_mutex_lock(&ex->submit_lock);
	for (uint32_t i = 0; i < atomic_load(&ex->slots); i++) {
		pp_future *future = pp__future_at(ex, i);
		pp__end_from_outside(future, pp__slot_break);
		if (pp__is_lost(future))
			pp__end_lost(future);
	}
	pp__settle_ended(ex);
	pthread_mutex_unlock(&ex->submit_lock);
	pp__tell_waiters(ex);
	pthread_mutex_unlock(&pp__lock);
}

void pp__pool_break(pp_executor *ex, int code, const char *text)
{
	struct pp__box *box = pp__box_broken(text, code), *none = NULL;

	if (!box || !atomic_compare_exchange_strong(&ex->broken, &none, box)) {
		if (box)
			pp__box_free(box);
		return;
	}
	break_open_futures(ex);
	pp__ask_for_fd(ex);
}

/* The text is in memory that workers can write: bounded, and printable. */
static void broken_text(const struct pp__control *c, char *text)
{
	memcpy(text, c->broken_text, PP__TEXT);
	text[PP__TEXT - 1] = 0;
	for (; *text; text++)
		if ((unsigned char)*text < ' ')
			*text = ' ';
}

void pp__note_cpu(const pp_executor *ex)
{
	_Atomic uint32_t *noted = &ex->segment.shared.header->submit_cpu;
	uint32_t cpu = pp__cpu_here();

	if (atomic_load_explicit(noted, memory_order_relaxed) != cpu)
		atomic_store_explicit(noted, cpu, memory_order_relaxed);
}

void pp__before_waiting(pp_executor *ex)
{
	pp__note_cpu(ex);
	pp__end_gathering(&ex->segment.shared);
	pp__turns_leave(&ex->turns, &ex->submit_lock);
}

void pp__nudge(const pp_executor *ex)
{
	if (ex->supervisor.pid > 1)
		kill(ex->supervisor.pid, SIGURG);
}

void pp__tend(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__control *c = shared->control;
	char text[PP__TEXT];
	int code = atomic_load(&c->broken);

	atomic_store(&ex->looked_ns, pp__now_ns());
	if (atomic_load(&ex->broken) || ex->inlined)
		return;
	if (code) {
		broken_text(c, text);
		pp__pool_break(ex, code < 0 ? code : -EPIPE, text);
		return;
	}
	if (!pp__is_alive(&ex->supervisor)) {
		/* It may have ended in good order, if it was asked to: that is said before the process ends. */
		if (!(atomic_load(&shared->header->closing) && atomic_load(&c->finished)) && !atomic_load(&c->broken))
			pp__pool_break(ex, -EPIPE, "the supervisor is gone");
		return;
	}
	if (pp__ring_has_ready(shared) && pp__sleepers_any(shared)) {
		atomic_store(&c->searching, 0);  /* the one that was woken has been stopped, or its wake is lost */
		pp__wake_one(shared);
	}
	if (atomic_load(&c->supervisor_wakes_ns) == PP__NEVER)
		pp__nudge(ex);
}

bool pp__tend_sometimes(pp_executor *ex)
{
	if (pp__now_ns() - atomic_load(&ex->looked_ns) < PP__SLICE_NS)
		return false;
	pp__tend(ex);
	return true;
}

/*
 * Whether the word's owner has nothing to do with the slot any more: it was buried, is at another slot, or sleeps (it
 * leaves the map of sleepers between claiming and running). It names the slot before it claims it and goes on only after
 * it has told of its end, so word must be looked at once more after this: if it is the same, its owner will neither end
 * the future nor tell of it.
 */
bool pp__owner_has_left(const pp_executor *ex, uint32_t slot, uint64_t word)
{
	const struct pp__shared *shared = &ex->segment.shared;
	uint32_t worker = pp__word_worker(word);
	enum pp__state state = pp__word_state(word);

	if (worker >= shared->header->entries || !atomic_load(&shared->workers[worker].pid)
	    || (atomic_load(&shared->workers[worker].incarnation) & PP__INCARNATION_MASK) != pp__word_incarnation(word))
		return true;
	if (atomic_load(&shared->workers[worker].cur) != slot)
		return true;
	return state != PP__CLAIMED && state != PP__STOP_REQUEUE
	       && atomic_load(&shared->control->sleepers[worker / 64]) & UINT64_C(1) << worker % 64;
}

/* Nobody can end it any more by the rules: its word is no word, or its owner has left without it. The caller of this
 * has a reference. */
static void end_unless_ended(pp_future *future)
{
	pthread_mutex_lock(&pp__lock);
	if (!pp__future_has_ended(future)) {
		pp__end_lost(future);
		pp__tell_waiters(future->executor);
	}
	pthread_mutex_unlock(&pp__lock);
}

/* Whoever has no task is woken, be it in the map of sleepers or not, and the supervisor looks around. Once a slice. */
static void rouse(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	int64_t now = pp__now_ns(), last = atomic_load(&ex->offered_ns);

	if (now - last < PP__SLICE_NS || !atomic_compare_exchange_strong(&ex->offered_ns, &last, now))
		return;
	for (uint32_t i = 0; i < shared->header->entries; i++)
		if (!pp__worker_is_busy(shared, i))
			pp__wake_worker(shared, i);
	pp__nudge(ex);
}

/* Ready for a slice. The ring may not have it, because a forged head has passed it or is nowhere: an entry more does no
 * harm. Or whoever should take it sleeps where nobody looks. */
static void offer_again(pp_future *future)
{
	pp_executor *ex = future->executor;
	struct pp__ring_writer *ring = &ex->rings[future->level];

	if (!pp__levels_open(atomic_load(&ex->segment.shared.header->levels)))
		return;                  /* paused */
	pthread_mutex_lock(&ex->submit_lock);
	pp__ring_repair(ring, &ex->segment);
	if (!pp__ring_level_has_ready(&ex->segment.shared, ring->level))
		pp__ring_push(ring, &ex->segment, future->slot);
	pthread_mutex_unlock(&ex->submit_lock);
	rouse(ex);
}

void pp__tend_future(pp_future *future)
{
	pp_executor *ex = future->executor;
	uint64_t word = pp__slot_look(pp__cell_of(future));
	enum pp__state state = pp__word_state(word);
	bool lost = !pp__word_is_like(word, pp__word_of(future, PP__FREE)) || state == PP__FREE
	            || (state >= PP__CLAIMED && pp__owner_has_left(ex, future->slot, word))
	            || ((state == PP__DELAYED || state == PP__FAILED) && !pp__policy_of(&ex->segment.shared, future->slot));

	if (ex->inlined || pp__future_has_ended(future) || word != pp__slot_look(pp__cell_of(future)))
		return;                  /* it lives: a death is settled before its owner is buried */
	if (lost)
		end_unless_ended(future);
	else if (state == PP__READY)
		offer_again(future);
	else if (state == PP__DELAYED || state == PP__FAILED)
		pp__policy_recall(ex);
}

static void log_count(pp_executor *ex, int level, const char *what, uint64_t now, uint64_t *before)
{
	char text[96];

	if (now == *before)
		return;
	snprintf(text, sizeof text, "%s: %llu more, %llu in all", what, (unsigned long long)(now - *before),
	         (unsigned long long)now);
	*before = now;
	ex->log(level, text, ex->log_context);
}

/* One thread at a time comes here: the dispatcher, or whoever dispatches. */
void pp__log_news(pp_executor *ex)
{
	struct pp__control *c = ex->segment.shared.control;
	const struct pp__box *broken = atomic_load(&ex->broken);

	log_count(ex, LOG_WARNING, "workers died", atomic_load(&c->deaths), &ex->logged_deaths);
	log_count(ex, LOG_INFO, "workers started", atomic_load(&c->restarts), &ex->logged_restarts);
	log_count(ex, LOG_WARNING, "workers that cannot be killed", atomic_load(&c->quarantined),
	          &ex->logged_quarantined);
	log_count(ex, LOG_WARNING, "wakes repaired", atomic_load(&ex->rescues), &ex->logged_rescues);
	if (broken && !ex->logged_broken)
		ex->log(LOG_ERR, broken->outcome.message, ex->log_context);
	ex->logged_broken = broken != NULL;
}
