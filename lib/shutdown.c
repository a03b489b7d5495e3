/* SPDX-License-Identifier: MIT */
/*
 * The end of an executor. Shutdown closes the door for submits and lets the workers drain the ring; the supervisor ends
 * when none of them is left and nothing is ready. Waiting for that is waiting for the supervisor's process to end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "chunk.h"
#include "pool.h"
#include "wake.h"

#define GONE_SLICE_MS     100
#define ORPHAN_WAIT_NS    INT64_C(1000000000)

static void cancel_pending(pp_executor *ex)
{
	pthread_mutex_lock(&pp__lock);
	pthread_mutex_lock(&ex->submit_lock);
	for (uint32_t i = 0; i < atomic_load(&ex->slots); i++) {
		pp_future *future = pp__future_at(ex, i);
		if (future->in_use)
			pp__policy_give_up(future);
		pp__end_from_outside(future, pp__slot_cancel);
		if (future->in_use && future->chunk)     /* its items that have not started do not */
			pp__chunk_close(&ex->segment.shared, i, future->generation, 0);
	}
	pthread_mutex_unlock(&ex->submit_lock);
	pp__tell_waiters(ex);
	pthread_mutex_unlock(&pp__lock);
	pp__ask_for_fd(ex);
}

static void close_door(pp_executor *ex)
{
	pthread_mutex_lock(&ex->submit_lock);
	ex->closed = true;
	pthread_mutex_unlock(&ex->submit_lock);
}

/* A paused executor resumes here, not sooner: what was to be cancelled has been, and no worker was let at it. */
static void let_workers_end(pp_executor *ex)
{
	pthread_mutex_lock(&ex->submit_lock);
	ex->paused = false;              /* first: whoever sees the closing sees what is ready */
	pp__levels_publish(ex);
	atomic_store(&ex->segment.shared.header->closing, PP__CLOSING);
	pthread_mutex_unlock(&ex->submit_lock);
	pthread_mutex_lock(&pp__lock);
	pthread_cond_broadcast(&ex->news);
	pthread_mutex_unlock(&pp__lock);
}

static void request_kill(pp_executor *ex, int signal)
{
	struct pp__header *h = ex->segment.shared.header;

	atomic_store(&h->kill_signal, (uint32_t)signal);
	atomic_store(&h->kill_ns, (uint64_t)pp__now_ns());
	atomic_fetch_add(&h->kill_requests, 1);
	pp__nudge(ex);
}

static int slice_ms(int64_t deadline)
{
	int64_t left = deadline == PP__NEVER ? INT64_MAX : deadline - pp__now_ns();

	return left <= 0 ? 0 : left / 1000000 + 1 > GONE_SLICE_MS ? GONE_SLICE_MS : (int)(left / 1000000) + 1;
}

/* Until the supervisor's process has ended, be it reaped or not. false: the deadline has passed. */
static bool await_supervisor(pp_executor *ex, int64_t deadline)
{
	struct pollfd fd = { .fd = pp__pidfd_open(ex->supervisor.pid), .events = POLLIN };
	bool alive;

	while ((alive = pp__is_alive(&ex->supervisor)) && pp__now_ns() < deadline) {
		if (fd.fd >= 0)
			poll(&fd, 1, slice_ms(deadline));
		else
			poll(NULL, 0, 1);
		if (fd.fd >= 0 && fd.revents)
			break;
	}
	alive = alive && !(fd.fd >= 0 && fd.revents);
	if (fd.fd >= 0)
		close(fd.fd);
	return !alive;
}

/* Where the application is the supervisor's parent (PID 1, a child subreaper) nobody else would reap it. */
static void reap_supervisor(pp_executor *ex)
{
	struct pp__identity now = pp__identify(ex->supervisor.pid);

	if (now.start_ticks && now.start_ticks == ex->supervisor.start_ticks)
		waitpid(ex->supervisor.pid, NULL, WNOHANG);
}

/* Workers whose supervisor was killed die by the kernel's hand: that takes no message, but a moment. */
static void await_orphans(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	int64_t deadline = pp__now_ns() + ORPHAN_WAIT_NS;

	for (uint32_t i = 0; i < shared->header->entries; i++) {
		struct pp__identity worker = { .pid = atomic_load(&shared->workers[i].pid) };
		while (worker.pid > 1 && pp__is_alive(&worker) && pp__now_ns() < deadline)
			poll(NULL, 0, 1);
	}
}

/* No process is left that could end or announce anything: what they did is taken in, and what is still open is lost. */
static void settle_the_rest(pp_executor *ex)
{
	uint32_t slots = atomic_load(&ex->slots);

	pp__tend(ex);
	for (uint32_t i = 0; i < slots; i++) {
		pp_future *future = pp__future_at(ex, i);
		if (future->in_use && !pp__future_has_ended(future))
			pp__pool_break(ex, -EPIPE, "the workers ended before the task did");
	}
	pthread_mutex_lock(&pp__lock);
	pp__drain(ex);
	pp__settle_ended(ex);
	pthread_cond_broadcast(&ex->news);
	pthread_mutex_unlock(&pp__lock);
}

/* 0; -ETIMEDOUT. */
static int finish_callbacks(pp_executor *ex, int64_t deadline)
{
	int rc = 0;

	pthread_mutex_lock(&pp__lock);
	while (rc == 0) {
		if (ex->flags & PP_SELF_DISPATCH)
			pp__callbacks_run_queued(ex, UINT32_MAX);
		if (!ex->callbacks && !ex->callbacks_running)
			break;
		if (!pp__await_news(ex, deadline))
			rc = -ETIMEDOUT;
	}
	pthread_mutex_unlock(&pp__lock);
	return rc;
}

static int await_end(pp_executor *ex, int64_t timeout_ms)
{
	int64_t deadline = pp__deadline_ns(timeout_ms);
	int state = pp__cancel_hold();
	bool gone = ex->inlined ? pp__inline_await(ex, deadline) : await_supervisor(ex, deadline);

	if (gone && !ex->inlined && !atomic_load(&ex->segment.shared.control->finished))
		await_orphans(ex);
	if (gone && !ex->inlined)
		reap_supervisor(ex);
	pp__cancel_restore(state);
	if (!gone)
		return -ETIMEDOUT;
	atomic_store(&ex->deserted, true);
	settle_the_rest(ex);
	return finish_callbacks(ex, deadline);
}

int pp_executor_shutdown(pp_executor *ex, unsigned flags, int64_t timeout_ms)
{
	const unsigned known = PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING | PP_SHUTDOWN_KILL;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || flags & ~known || !pp__time_is_valid(timeout_ms))
		return -EINVAL;
	close_door(ex);
	if (flags & PP_SHUTDOWN_CANCEL_PENDING)
		cancel_pending(ex);
	let_workers_end(ex);
	if (flags & PP_SHUTDOWN_KILL)
		request_kill(ex, ex->segment.shared.header->grace_ns ? PP__KILL_ASK : SIGKILL);
	pp__wake_all(&ex->segment.shared);
	pp__nudge(ex);
	if (!(flags & PP_SHUTDOWN_WAIT))
		return 0;
	if (pp__in_callback(ex))
		return -EDEADLK;
	return await_end(ex, timeout_ms);
}

int pp_executor_signal(pp_executor *ex, int signal)
{
	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || (signal != SIGTERM && signal != SIGKILL))
		return -EINVAL;
	request_kill(ex, signal);
	return 0;
}
