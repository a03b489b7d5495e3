/* SPDX-License-Identifier: MIT */
/*
 * Stopping a task, in steps: its time is over, or its end was asked for ─▶ its flag is raised ─grace─▶ STOPPING, SIGTERM
 * ─grace─▶ SIGKILL. The flag and STOPPING are states of the slot's word, which names the task, so neither can meet another
 * one; and after STOPPING the worker cannot leave it, so no signal can either.
 */
#include <signal.h>
#include "memory.h"
#include "policy.h"
#include "slot.h"
#include "supervisor.h"

/* What the worker says of its start is believed only as far as it is no later than the first look at it. */
static uint64_t stop_ns(const struct pp__supervisor *s, const struct pp__child *child, const struct pp__cell *cell)
{
	const struct pp__policy *policy = pp__policy_of(s->shared, (uint32_t)(cell - s->shared->cells));
	uint64_t seen = (uint64_t)child->task_ns, start;

	if (!policy)
		return PP__NO_STOP;
	start = __atomic_load_n(&cell->who, __ATOMIC_ACQUIRE) ? cell->start_ns : seen;
	return pp__policy_stop_ns(policy, start < seen ? start : seen);
}

static void be_due(struct pp__child *child, uint64_t when)
{
	if (when < (uint64_t)child->due_ns)
		child->due_ns = (int64_t)when;
}

static void step_running(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word, int64_t now)
{
	struct pp__child *child = &s->children[entry];
	uint64_t stop = stop_ns(s, child, cell);

	if (stop > (uint64_t)now) {
		be_due(child, stop);
		return;
	}
	if (!s->shared->header->grace_ns) {
		if (pp__slot_stop(cell, word, PP__STOP_TIME))
			pp__kill_worker(s, entry, SIGKILL);
	} else if (pp__slot_ask(cell, word, PP__ASKED_TIME)) {
		child->asked_ns = now;
		be_due(child, (uint64_t)(now + s->shared->header->grace_ns));
	}
}

static void step_asked(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word, int64_t now)
{
	struct pp__child *child = &s->children[entry];
	bool kill = pp__word_state(word) == PP__ASKED_KILL;
	int64_t grace = s->shared->header->grace_ns;

	if (!child->asked_ns)
		child->asked_ns = now;
	if (now - child->asked_ns < grace) {
		be_due(child, (uint64_t)(child->asked_ns + grace));
		return;
	}
	if (pp__slot_stop(cell, word, kill ? PP__STOP_KILL : PP__STOP_TIME)) {
		pp__kill_worker(s, entry, SIGTERM);
		be_due(child, (uint64_t)(now + grace));
	}
}

/* Without a grace the parent has stopped it itself. */
static void step_stopping(struct pp__supervisor *s, uint32_t entry, int64_t now)
{
	struct pp__child *child = &s->children[entry];
	int64_t grace = s->shared->header->grace_ns;

	if (child->killed_ns)
		return;
	if (child->term_ns && now - child->term_ns < grace)
		be_due(child, (uint64_t)(child->term_ns + grace));
	else
		pp__kill_worker(s, entry, SIGKILL);
}

/* Measured at each look while a task runs. What the worker had when it became live it says itself, and is believed only as far
 * as it is no more than what was seen first. */
void pp__stop_if_too_large(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word)
{
	struct pp__child *child = &s->children[entry];
	uint64_t before = atomic_load(&s->shared->workers[entry].resident);
	int64_t most = s->boot.options.limits.resident_bytes;
	struct pp__memory now;

	if (!most || !pp__state_runs(pp__word_state(word)) || !pp__memory_now(child->pid, &now))
		return;
	if (!child->resident)
		child->resident = now.resident;
	before = before < child->resident ? before : child->resident;
	if (now.resident > before + pp__limit_bytes(most) && pp__slot_stop(cell, word, PP__STOP_MEMORY))
		pp__kill_worker(s, entry, SIGKILL);
}

void pp__stop_step(struct pp__supervisor *s, uint32_t entry, struct pp__cell *cell, uint64_t word, int64_t now)
{
	struct pp__child *child = &s->children[entry];
	enum pp__state state = pp__word_state(word);

	if (child->task != pp__word_attempt(word)) {
		child->task = pp__word_attempt(word);
		child->task_ns = now;
		child->asked_ns = 0;
	}
	if (state == PP__FAILED)
		s->timed_due_ns = 0;             /* it may have been stopped before it could say so */
	else if (state == PP__RUNNING)
		step_running(s, entry, cell, word, now);
	else if (pp__state_runs(state))
		step_asked(s, entry, cell, word, now);
	else if (pp__state_stops(state) || state == PP__STOP_REQUEUE)
		step_stopping(s, entry, now);
}
