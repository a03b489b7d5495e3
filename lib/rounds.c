/* SPDX-License-Identifier: MIT */
/*
 * A round: a function that runs once in every worker. Function and data stand in the header, and the number of the round is a
 * part of the word that workers read at each look, so it costs them nothing when there is none. Each answers in its line.
 * There is one round at a time, and its data stay until every worker that was there has answered or died: one that is
 * late may still be reading them.
 */
#include <errno.h>
#include <string.h>
#include "pool.h"
#include "wake.h"

/* Whether the worker that was there when the round began has still to answer. */
static bool is_awaited(const pp_executor *ex, uint32_t entry)
{
	struct pp__worker *line = ex->segment.shared.workers + entry;

	return ex->round_incarnations[entry] && atomic_load(&line->pid)
	       && atomic_load(&line->incarnation) + 1 == ex->round_incarnations[entry] && atomic_load(&line->round) != ex->round;
}

static bool all_answered(const pp_executor *ex)
{
	for (uint32_t i = 0; i < ex->segment.shared.header->entries; i++)
		if (is_awaited(ex, i))
			return false;
	return true;
}

/* pp__lock held, given up meanwhile. 0; -ETIMEDOUT; -EPIPE. */
static int await_answers(pp_executor *ex, int64_t deadline)
{
	while (!all_answered(ex)) {
		if (atomic_load(&ex->broken))
			return -EPIPE;
		if (pp__now_ns() >= deadline)
			return -ETIMEDOUT;
		pp__await_news(ex, deadline);
		pthread_mutex_unlock(&pp__lock);
		pp__tend_sometimes(ex);
		pthread_mutex_lock(&pp__lock);
	}
	return 0;
}

/* pp__lock and submit_lock held; nobody uses the data of the round before any more. */
static int begin(pp_executor *ex, pp_fn *fn, const void *data, size_t size)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__header *h = shared->header;
	int64_t offset = 0;

	if (ex->closed)
		return -ESHUTDOWN;
	if (atomic_load(&ex->broken))
		return -EPIPE;
	if (ex->round_size)
		pp__arguments_give(&ex->arguments, &ex->segment, ex->round_place);
	ex->round_size = 0;
	if (size) {
		offset = pp__arguments_take(&ex->arguments, &ex->segment, size, &ex->round_place);
		if (offset < 0)
			return (int)offset;
		memcpy(shared->base + offset, data, size);
	}
	ex->round_size = size;
	h->round_fn = fn;
	h->round_offset = (uint64_t)offset;
	h->round_size = size;
	ex->round = (ex->round + 1) & UINT32_MAX >> PP__ROUND_SHIFT;
	pp__levels_publish(ex);          /* first: whoever is not seen here has this number at its birth (round.c) */
	for (uint32_t i = 0; i < h->entries; i++)
		ex->round_incarnations[i] = atomic_load(&shared->workers[i].pid) > 0
		                            ? atomic_load(&shared->workers[i].incarnation) + 1 : 0;
	return 0;
}

/* In how many the function returned 0. */
static int count(const pp_executor *ex)
{
	int n = 0;

	for (uint32_t i = 0; i < ex->segment.shared.header->entries; i++) {
		struct pp__worker *line = ex->segment.shared.workers + i;
		n += ex->round_incarnations[i] == atomic_load(&line->incarnation) + 1
		     && atomic_load(&line->round_well) == ex->round;
	}
	return n;
}

/* pp__lock held: others wait until the round is over. */
static int run_round(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int64_t deadline)
{
	int rc = await_answers(ex, deadline);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&ex->submit_lock);
	rc = begin(ex, fn, data, size);
	pthread_mutex_unlock(&ex->submit_lock);
	if (rc < 0)
		return rc;
	pp__wake_all(&ex->segment.shared);
	rc = await_answers(ex, deadline);
	return rc < 0 ? rc : count(ex);
}

int pp_executor_run_on_workers(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int64_t timeout_ms)
{
	int64_t deadline;
	int rc = 0;

	if (!pp__is_original_process() || pp__inline_inside)
		return -ECHILD;
	if (!ex || !fn || (!data && size) || !pp__time_is_valid(timeout_ms))
		return -EINVAL;
	if (!pp__code_is_known(ex->code, fn))
		return -EFAULT;
	if (ex->inlined)
		return pp__inline_round(ex, fn, data, size);
	deadline = pp__deadline_ns(timeout_ms);
	pp__tend(ex);
	pthread_mutex_lock(&pp__lock);
	while (rc == 0 && ex->in_round)
		if (!pp__await_news(ex, deadline))
			rc = -ETIMEDOUT;
	if (rc == 0) {
		ex->in_round = true;
		rc = run_round(ex, fn, data, size, deadline);
		ex->in_round = false;
		pthread_cond_broadcast(&ex->news);
	}
	pthread_mutex_unlock(&pp__lock);
	if (rc < 0)
		return rc;
	pp__tend(ex);                    /* that nobody is left who would answer says nothing of a pool that broke meanwhile */
	return atomic_load(&ex->broken) ? -EPIPE : rc;
}
