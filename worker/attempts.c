/* SPDX-License-Identifier: MIT */
/*
 * Tasks with further attempts, and those with a deadline while they wait: the supervisor's half of policies. It finds them
 * by a bit per slot, which the parent sets, and looks at all of these at once: when one is due, when the parent or a
 * worker says that there is news, and after a death.
 *
 *   attempt failed: its record, then ─▶ DELAYED ─when due─▶ READY, with a word by which workers find it before the ring
 *
 * The record is written before that edge, while nobody else can end the future, so its memory is not another's yet.
 * Killed anywhere here, the supervisor takes the pool with it.
 */
#include <signal.h>
#include "policy.h"
#include "slot.h"
#include "supervisor.h"
#include "tally.h"
#include "wake.h"

#define LOOK_GAP_NS INT64_C(1000000)     /* deadlines that are nearer to each other are found by one look */
#define DOUBLINGS   30u

static uint64_t delay_ns(const struct pp__supervisor *s, const struct pp__policy *policy, uint32_t slot, int64_t now)
{
	uint64_t delay = policy->delay_ns;
	uint32_t doublings = policy->attempts < DOUBLINGS ? policy->attempts : DOUBLINGS;

	if (!delay)
		return 0;
	if (delay > UINT64_MAX >> (doublings + 2))
		delay = UINT64_MAX >> 2;
	else
		delay <<= doublings;
	if (policy->delay_max_ns && delay > policy->delay_max_ns)
		delay = policy->delay_max_ns;
	return delay - pp__mix(s->shared->header->nonce ^ slot ^ (uint64_t)now) % (delay / 4 + 1);
}

static void cancel(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	word = pp__slot_cancel(s->shared->cells + slot, pp__word_generation(word));
	if (!word)
		return;
	pp__tally_never_ran(pp__own_tally(s), PP_CANCELLED);
	pp__announce_for(s, slot, word);
}

/* true: the future waits for its next attempt. false: there is none, and it is the caller's to end. All is written before
 * the edge: once it is DELAYED the parent may cancel it, and give the slot and the record's memory to other tasks, while this
 * process is stopped. */
static bool try_again(struct pp__supervisor *s, uint32_t slot, uint64_t word, const struct pp__attempt *attempt)
{
	struct pp__policy *policy = pp__policy_of(s->shared, slot);
	struct pp__cell *cell = s->shared->cells + slot;
	int64_t now = pp__now_ns();

	if (!pp__policy_has_more(policy, attempt->kind))
		return false;
	policy->failed[policy->attempts] = *attempt;
	policy->resume_ns = (uint64_t)now + delay_ns(s, policy, slot, now);
	policy->attempts++;
	cell->who = 0;
	cell->start_ns = (uint64_t)now;  /* of its wait for that */
	s->timed_due_ns = 0;
	if (pp__slot_delay(cell, word)) {
		if (atomic_load(&policy->given_up))
			cancel(s, slot, word);   /* by now the record may be another's: then this edge is not there */
		return true;
	}
	policy->attempts--;              /* the parent has asked for its end meanwhile */
	cell->who = attempt->who;
	cell->start_ns = attempt->start_ns;
	return false;
}

bool pp__try_again_after_death(struct pp__supervisor *s, uint32_t slot, uint64_t word, int kind,
                               const struct pp__ending *ending)
{
	const struct pp__cell *cell = s->shared->cells + slot;
	struct pp__attempt attempt = { .kind = kind, .signal = ending->signal, .code = ending->code,
	                               .address = ending->address, .who = cell->who, .start_ns = cell->start_ns,
	                               .end_ns = (uint64_t)pp__now_ns() };

	return pp__policy_retries(pp__policy_of(s->shared, slot), kind) && try_again(s, slot, word, &attempt);
}

/* A worker makes it FAILED only where there is another attempt: without one the word was forged, and nobody else ends it. */
static void settle_failed(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	const struct pp__cell *cell = s->shared->cells + slot;
	struct pp__attempt attempt = { .kind = PP_RAISED, .code = cell->code, .who = cell->who,
	                               .start_ns = cell->start_ns, .end_ns = cell->end_ns };

	if (try_again(s, slot, word, &attempt))
		return;
	word = pp__slot_break(s->shared->cells + slot, pp__word_generation(word));
	if (!word)
		return;
	pp__tally_never_ran(pp__own_tally(s), PP_BROKEN);
	pp__announce_for(s, slot, word);
}

/* There may be more tasks that are due than words: then it is tried again soon. */
static bool offer(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		if (pp__holds_ready(s, &s->shared->workers[i].again))
			continue;
		if (!pp__slot_again(s->shared->cells + slot, word))
			return true;             /* it was cancelled */
		atomic_store(&s->shared->workers[i].again, pp__held_make(slot, ++s->noted));
		atomic_fetch_add(&s->shared->control->requeued, 1);
		pp__wake_one(s->shared);
		return true;
	}
	return false;
}

static void expire(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	word = pp__slot_expire(s->shared->cells + slot, pp__word_generation(word));
	if (!word)
		return;
	pp__tally_never_ran(pp__own_tally(s), PP_TIMED_OUT);
	pp__announce_for(s, slot, word);
}

/* Returns when it is due next. The policy may be another task's by the time it is read: then the word is too, and the
 * edge does not exist any more. */
static uint64_t look_at(struct pp__supervisor *s, uint32_t slot, uint64_t now)
{
	uint64_t word = pp__slot_look(s->shared->cells + slot), due;
	const struct pp__policy *policy;

	if (pp__word_state(word) == PP__FAILED) {
		settle_failed(s, slot, word);
		word = pp__slot_look(s->shared->cells + slot);
	}
	policy = pp__policy_of(s->shared, slot);
	if (!policy || pp__word_state(word) < PP__READY || pp__word_state(word) > PP__CLAIMED)
		return PP__NO_STOP;
	due = policy->deadline_ns ? policy->deadline_ns : PP__NO_STOP;
	if (due <= now) {
		expire(s, slot, word);
		return PP__NO_STOP;
	}
	if (pp__word_state(word) != PP__DELAYED)
		return due;
	s->delayed = true;
	if (policy->resume_ns > now)
		return policy->resume_ns < due ? policy->resume_ns : due;
	return offer(s, slot, word) ? due : now;
}

static bool has_news(struct pp__supervisor *s, int64_t now)
{
	uint32_t failures = atomic_load(&s->shared->control->failures);
	uint32_t requests = atomic_load(&s->shared->header->timed_requests);
	bool news = failures != s->failures_seen || requests != s->timed_seen || now >= s->timed_due_ns;

	s->failures_seen = failures;
	s->timed_seen = requests;
	return news;
}

bool pp__look_at_timed(struct pp__supervisor *s)
{
	uint32_t words = (atomic_load(&s->shared->header->slots) + 63u) / 64u;
	int64_t now = pp__now_ns();
	uint64_t due = PP__NO_STOP;

	if (!has_news(s, now))
		return false;
	s->delayed = false;
	for (uint32_t i = 0; i < words; i++) {
		uint64_t bits = atomic_load(s->shared->timed + i);
		for (; bits; bits &= bits - 1) {
			uint64_t one = look_at(s, i * 64u + (uint32_t)__builtin_ctzll(bits), (uint64_t)now);
			due = one < due ? one : due;
		}
	}
	if (due < (uint64_t)(now + LOOK_GAP_NS))
		due = (uint64_t)(now + LOOK_GAP_NS);
	s->timed_due_ns = due < PP__NEVER ? (int64_t)due : PP__NEVER;
	return true;
}
