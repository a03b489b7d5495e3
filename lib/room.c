/* SPDX-License-Identifier: MIT */
/*
 * The bound of max_bytes on arguments and blocks. What is freed comes back by the stack of returned slots, so that is looked
 * through before a request is refused; who waits is told by whoever frees. A wake that is missed is made good for by the
 * slices of the wait.
 */
#include <errno.h>
#include "pool.h"

static bool fits(const pp_executor *ex, uint64_t size)
{
	return ex->arguments.live - ex->init_bytes + ex->mutables.live + size <= ex->max_bytes;
}

bool pp__room_never_fits(const pp_executor *ex, const pp_task_options *o, uint64_t size)
{
	uint64_t rounded = pp__arguments_rounded(size), own = pp__policy_bytes(ex, o);

	return ex->max_bytes && (rounded < size || rounded > ex->max_bytes || own > ex->max_bytes - rounded);
}

int64_t pp__room_take(pp_executor *ex, struct pp__arguments *area, uint64_t size, uint32_t *place)
{
	uint64_t rounded = ex->max_bytes ? pp__arguments_rounded(size) : 0;

	if (rounded > ex->max_bytes || rounded < (ex->max_bytes ? size : 0))
		return -ENOSPC;
	if (ex->max_bytes && !fits(ex, rounded)) {
		pp__slots_harvest(ex);
		if (!fits(ex, rounded))
			return PP__ROOM_IS_SHORT;
	}
	return pp__arguments_take(area, &ex->segment, size, place);
}

int pp__room_await(pp_executor *ex, const pp_task_options *o, int64_t deadline)
{
	if (o->submit_timeout_ms == PP_NONE || pp__in_callback(NULL))
		return -EAGAIN;
	if (pp__now_ns() >= deadline)
		return -ETIMEDOUT;
	pthread_mutex_lock(&pp__lock);
	atomic_fetch_add(&ex->room_waiters, 1);
	pp__await_news(ex, deadline);
	atomic_fetch_sub(&ex->room_waiters, 1);
	pthread_mutex_unlock(&pp__lock);
	return 0;
}

/* One of them may sleep on the bell. */
void pp__room_tell(pp_executor *ex)
{
	pthread_cond_broadcast(&ex->news);
	pp__sem_post(&ex->segment.shared.control->bell);
}
