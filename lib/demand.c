/* SPDX-License-Identifier: MIT */
/*
 * How many workers the load asks for, and how many there may be at most.
 *
 * A worker that was idle for too long leaves. It raises idle_exits, and then takes itself out of the map of sleepers; if
 * it is not there any more, somebody wakes it for a task, and it stays. Whoever has submitted looks at idle_exits after
 * its task is in the ring, and the supervisor looks at the ring after it has buried the worker: one of them sees the
 * other's, so there is no instant at which a task is left with a number of workers that was counted before they left.
 */
#include <errno.h>
#include "pool.h"
#include "wake.h"

/* How many workers have a task at hand. One that has published its end counts as free at once. */
uint32_t pp__busy_workers(const struct pp__shared *shared)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < shared->header->entries; i++)
		n += atomic_load(&shared->workers[i].pid) && pp__worker_is_busy(shared, i);
	return n;
}

static uint32_t waiting(const pp_executor *ex)
{
	uint64_t n = 0;

	for (unsigned level = 0; level < PP__LEVELS; level++)
		if (ex->levels & 1u << level)
			n += pp__ring_waiting(&ex->rings[level], &ex->segment.shared);
	return n < PP__MAX_WORKERS ? (uint32_t)n : PP__MAX_WORKERS;
}

bool pp__demand_raise(pp_executor *ex, uint32_t more)
{
	struct pp__header *h = ex->segment.shared.header;
	uint32_t exits = atomic_load(&ex->segment.shared.control->idle_exits), most = ex->max_workers, needed;
	uint64_t was = atomic_load(&h->wanted);
	uint32_t wanted, now;

	if (was == pp__wanted_make(most, exits))
		return false;
	now = wanted = pp__wanted_left(was, exits);
	if (wanted < most) {
		needed = pp__busy_workers(&ex->segment.shared) + more + waiting(ex);
		if (needed > wanted)
			now = needed < most ? needed : most;
	} else {
		now = most;
	}
	if (pp__wanted_make(now, exits) != was)
		atomic_store(&h->wanted, pp__wanted_make(now, exits));
	return now > wanted;
}

void pp__demand_again(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	bool nudge;

	if (atomic_load(&shared->control->idle_exits) == pp__wanted_exits(atomic_load(&shared->header->wanted)))
		return;
	pthread_mutex_lock(&ex->submit_lock);
	nudge = pp__demand_raise(ex, 0);
	pthread_mutex_unlock(&ex->submit_lock);
	if (nudge)
		pp__nudge(ex);
}

/* Their lines have memory before anybody knows of them. Those of workers that are no more have it already. */
static int make_entries(pp_executor *ex, uint32_t workers)
{
	struct pp__header *h = ex->segment.shared.header;
	uint32_t entries = PP__ENTRIES(workers);
	int rc;

	if (entries <= h->entries)
		return 0;
	rc = pp__memory_commit(&ex->segment, h->workers, entries * sizeof(struct pp__worker));
	if (rc == 0)
		rc = pp__memory_commit(&ex->segment, h->tallies, PP__TALLIES(entries) * sizeof(struct pp__tally));
	if (rc == 0)
		atomic_store(&h->entries, entries);
	return rc;
}

/* submit_lock held. Fewer: those whose seat is given up leave by themselves, at the latest after their task. */
static int resize(pp_executor *ex, uint32_t workers)
{
	struct pp__header *h = ex->segment.shared.header;
	int rc;

	if (ex->closed)
		return -ESHUTDOWN;
	if (atomic_load(&ex->broken))
		return -EPIPE;
	rc = make_entries(ex, workers);
	if (rc < 0)
		return rc;
	if (workers > ex->most_workers)
		atomic_store(&ex->most_workers, workers);
	atomic_store(&ex->max_workers, workers);
	atomic_store(&h->max_workers, workers);
	if (ex->flags & PP_START_ALL)
		atomic_store(&h->wanted, pp__wanted_make(workers, atomic_load(&ex->segment.shared.control->idle_exits)));
	else
		pp__demand_raise(ex, 0);
	return 0;
}

int pp_executor_resize(pp_executor *ex, int workers)
{
	int rc;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || workers < 1 || workers > (int)PP__MAX_WORKERS)
		return -EINVAL;
	if (ex->inlined)
		return -ENOTSUP;
	pthread_mutex_lock(&ex->submit_lock);
	rc = resize(ex, (uint32_t)workers);
	pthread_mutex_unlock(&ex->submit_lock);
	if (rc < 0)
		return rc;
	pp__wake_all(&ex->segment.shared);
	pp__nudge(ex);
	return 0;
}
