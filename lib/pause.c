/* SPDX-License-Identifier: MIT */
/*
 * Which rings workers look at: those that were ever used, or none while the executor is paused. One word in the header says
 * both, read by workers at each look. Pausing only changes that word: a worker finds nothing and sleeps, and nobody is
 * woken in vain. Resuming sets it before it wakes all; a worker enters the map of sleepers before its last look, so it
 * either sees the word or is woken.
 */
#include <errno.h>
#include "pool.h"
#include "wake.h"

void pp__levels_publish(pp_executor *ex)
{
	atomic_store(&ex->segment.shared.header->levels, (ex->paused ? 0 : ex->levels) | ex->round << PP__ROUND_SHIFT);
}

int pp__level_use(pp_executor *ex, enum pp__level level)
{
	int rc;

	if (ex->levels & 1u << level)
		return 0;
	rc = pp__ring_init(&ex->rings[level], &ex->segment, level);
	if (rc < 0)
		return rc;
	ex->levels |= 1u << level;
	pp__levels_publish(ex);
	return 0;
}

static int set_paused(pp_executor *ex, bool paused)
{
	bool needs_more;
	int rc = 0;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex)
		return -EINVAL;
	if (ex->inlined)
		return -ENOTSUP;
	pthread_mutex_lock(&ex->submit_lock);
	if (ex->closed)
		rc = -ESHUTDOWN;
	else
		ex->paused = paused;
	pp__levels_publish(ex);
	needs_more = rc == 0 && !paused && pp__demand_raise(ex, 0);      /* idle workers may have left meanwhile */
	pthread_mutex_unlock(&ex->submit_lock);
	if (rc == 0 && !paused)
		pp__wake_all(&ex->segment.shared);
	if (needs_more)
		pp__nudge(ex);
	return rc;
}

int pp_executor_pause(pp_executor *ex)
{
	return set_paused(ex, true);
}

int pp_executor_resume(pp_executor *ex)
{
	return set_paused(ex, false);
}
