/* SPDX-License-Identifier: MIT */
/* Waking, for all three kinds of process; every function may run in a signal handler. */
#include "wake.h"
#include <signal.h>
#include "slot.h"

static unsigned map_words(const struct pp__shared *shared)
{
	return (shared->header->entries + 63u) / 64u;
}

void pp__wake_worker(const struct pp__shared *shared, uint32_t entry)
{
	pp__sem_post(&shared->workers[entry].wake);
}

/* PP__NO_SLOT when nobody sleeps. */
static uint32_t some_sleeper(const struct pp__shared *shared)
{
	for (unsigned i = 0; i < map_words(shared); i++) {
		uint64_t map = atomic_load(&shared->control->sleepers[i]);
		uint32_t entry = i * 64u + (map ? (uint32_t)__builtin_ctzll(map) : 0);
		if (map)
			return entry < shared->header->entries ? entry : PP__NO_SLOT;
	}
	return PP__NO_SLOT;
}

bool pp__sleepers_take(const struct pp__shared *shared, uint32_t entry)
{
	uint64_t bit = UINT64_C(1) << entry % 64u;

	return atomic_fetch_and(&shared->control->sleepers[entry / 64u], ~bit) & bit;
}

bool pp__sleepers_any(const struct pp__shared *shared)
{
	return some_sleeper(shared) != PP__NO_SLOT;
}

/*
 * The sleeper is named as the one that searches before it is taken out of the map. So one that finds work by its own look
 * meanwhile either sees the name and clears it, or has left the map before, which the waker sees, and clears the name
 * itself: no name stays on a worker that runs. Killed in between, the supervisor clears it; stopped in between, a waiter
 * that finds ready work beside sleepers does.
 */
bool pp__wake_one(const struct pp__shared *shared)
{
	_Atomic uint32_t *searching = &shared->control->searching;

	atomic_thread_fence(memory_order_seq_cst);
	if (!pp__levels_open(atomic_load_explicit(&shared->header->levels, memory_order_relaxed)))
		return true;             /* paused: whoever ends that wakes all */
	while (!atomic_load_explicit(searching, memory_order_relaxed)) {
		uint32_t entry = some_sleeper(shared), nobody = 0, name = entry + 1;
		if (entry == PP__NO_SLOT)
			return false;
		if (!atomic_compare_exchange_strong(searching, &nobody, name))
			return true;
		if (pp__sleepers_take(shared, entry)) {
			pp__wake_worker(shared, entry);
			return true;
		}
		atomic_compare_exchange_strong(searching, &name, 0);
	}
	return true;
}

void pp__wake_all(const struct pp__shared *shared)
{
	for (uint32_t i = 0; i < shared->header->entries; i++)
		if (atomic_load(&shared->workers[i].pid))
			pp__wake_worker(shared, i);
}

bool pp__worker_is_busy(const struct pp__shared *shared, uint32_t entry)
{
	uint32_t slot = atomic_load(&shared->workers[entry].cur);
	uint64_t word;

	if (slot >= atomic_load(&shared->header->slots))
		return false;
	word = pp__slot_look(shared->cells + slot);
	return pp__word_state(word) >= PP__CLAIMED && !pp__state_is_end(pp__word_state(word))
	       && pp__word_worker(word) == entry;
}

void pp__sleepers_enter(const struct pp__shared *shared, uint32_t entry)
{
	atomic_fetch_or(&shared->control->sleepers[entry / 64u], UINT64_C(1) << entry % 64u);
	atomic_thread_fence(memory_order_seq_cst);
}

void pp__sleepers_leave(const struct pp__shared *shared, uint32_t entry)
{
	uint64_t bit = UINT64_C(1) << entry % 64u;

	if (atomic_load(&shared->control->sleepers[entry / 64u]) & bit)
		atomic_fetch_and(&shared->control->sleepers[entry / 64u], ~bit);
}

bool pp__searching_begin(const struct pp__shared *shared, uint32_t entry)
{
	uint32_t nobody = 0;

	return atomic_load(&shared->control->searching) == entry + 1
	       || atomic_compare_exchange_strong(&shared->control->searching, &nobody, entry + 1);
}

bool pp__searching_end(const struct pp__shared *shared, uint32_t entry)
{
	uint32_t me = entry + 1;

	return atomic_load(&shared->control->searching) == me
	       && atomic_compare_exchange_strong(&shared->control->searching, &me, 0);
}

void pp__done_push(const struct pp__shared *shared, uint32_t slot)
{
	_Atomic uint32_t *top = &shared->control->done;
	uint32_t below = atomic_load(top);

	do
		atomic_store_explicit(&shared->cells[slot].link, below, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(top, &below, slot + 1));
}

void pp__done_ring(const struct pp__shared *shared)
{
	struct pp__control *c = shared->control;
	uint32_t armed;

	if (!atomic_load(&c->armed))
		return;
	armed = atomic_exchange(&c->armed, 0);
	if (armed & PP__ARM_BELL)
		pp__sem_post(&c->bell);
	if (armed & PP__ARM_FD) {
		atomic_fetch_add(&c->fd_requests, 1);
		pp__nudge_supervisor(shared);
	}
}

void pp__announce_end(const struct pp__shared *shared, uint32_t slot, uint64_t word)
{
	if (word & PP__WANT_WAKE)
		pp__sem_post(&shared->cells[slot].wake);
	if (word & PP__WANT_PUSH) {
		pp__done_push(shared, slot);
		pp__done_ring(shared);
	}
}

void pp__nudge_supervisor(const struct pp__shared *shared)
{
	int32_t pid = atomic_load(&shared->control->supervisor_pid);

	if (pid > 1)
		kill(pid, SIGURG);
}
