/* SPDX-License-Identifier: MIT */
/*
 * Statistics: what the processes have counted, added up, and a look at what there is now. Nothing is stopped or locked
 * for it, so the numbers are of slightly different instants. What workers have counted stands where they can write; it
 * is shown, and decides nothing.
 */
#include <errno.h>
#include <string.h>
#include "pool.h"
#include "tally.h"

static_assert(sizeof(pp_stats) == 8 + 3 * 8 + PP__KINDS * 8 + 4 * 4 + 8 + 2 * PP__BUCKETS * 8, "no implicit padding");

/* Another process is adding to it. */
static uint64_t load(const volatile uint64_t *number)
{
	return *number;
}

/* Returns how many ended that had run. */
static uint64_t add_tally(pp_stats *stats, struct pp__tally *tally)
{
	uint64_t ran = 0, n;

	for (unsigned i = 1; i < PP__KINDS; i++)
		stats->outcomes[i] += load(&tally->outcomes[i]);
	for (unsigned i = 0; i < PP__BUCKETS; i++) {
		n = load(&tally->run_ns[i]);
		ran += n;
		stats->run_ns[i] += n;
		stats->queue_ns[i] += load(&tally->queue_ns[i]);
	}
	return ran;
}

static void add_tallies(pp_stats *stats, const struct pp__shared *shared)
{
	uint64_t ran = 0, others = 0, never_ran = 0;

	for (uint32_t i = 0; i < PP__TALLIES(shared->header->entries); i++) {
		ran += add_tally(stats, shared->tallies + i);
		never_ran += load(&shared->tallies[i].outcomes[0]);
	}
	for (unsigned i = 0; i < PP__KINDS; i++)
		others += stats->outcomes[i];
	others -= never_ran < others ? never_ran : others;
	stats->outcomes[PP_RETURNED] = ran > others ? ran - others : 0;
}

/* The private books know which slots are in use, and of which generation; the words say what became of them. */
static void add_open(pp_stats *stats, const pp_executor *ex)
{
	uint32_t slots = atomic_load(&ex->slots);

	for (uint32_t i = 0; i < slots; i++) {
		const pp_future *future = pp__future_at(ex, i);
		enum pp__state state = PP__FREE;
		if (atomic_load_explicit(&future->in_use, memory_order_relaxed))
			state = pp__state_of(future);
		if (pp__state_is_running(state))
			stats->running++;
		else if (state != PP__FREE && !pp__state_is_end(state))
			stats->pending++;
	}
}

static void add_workers(pp_stats *stats, const pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;

	stats->workers = pp__live_workers(shared, NULL, 0);
	stats->busy = pp__busy_workers(shared);
	stats->spare = atomic_load(&shared->control->spare) != 0;
	stats->restarts = (uint32_t)atomic_load(&shared->control->replaced);
	stats->shared_bytes = atomic_load(&shared->control->shared_bytes);
}

int pp_executor_stats(pp_executor *ex, pp_stats *stats)
{
	pp_stats now = { .size = sizeof now };
	size_t size;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || !stats || stats->size < sizeof stats->size)
		return -EINVAL;
	add_tallies(&now, &ex->segment.shared);
	now.outcomes[PP_CANCELLED] += atomic_load(&ex->cancelled);
	now.outcomes[PP_BROKEN] += atomic_load(&ex->broke);
	now.submitted = atomic_load(&ex->submitted);     /* after those: no more have ended than were submitted */
	add_open(&now, ex);
	add_workers(&now, ex);
	size = stats->size;
	memset(stats, 0, size);
	memcpy(stats, &now, size < sizeof now ? size : sizeof now);
	stats->size = size;
	return 0;
}
