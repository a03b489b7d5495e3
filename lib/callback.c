/* SPDX-License-Identifier: MIT */
/*
 * Callbacks: queued when their future's end is announced, run outside all locks, one after the other, by the dispatcher
 * thread or, in self-dispatch mode, by pp_executor_dispatch.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pool.h"
#include "wake.h"

/* The callbacks that this thread is in, innermost first: one may end a future whose callbacks run within it. */
struct frame { const pp_executor *executor; const struct frame *outer; };
static _Thread_local const struct frame *frames;

bool pp__in_callback(const pp_executor *ex)
{
	for (const struct frame *frame = frames; frame; frame = frame->outer)
		if (!ex || frame->executor == ex)
			return true;
	return false;
}

void pp__callback_queue(pp_executor *ex, struct pp__watcher *watcher)
{
	watcher->next = NULL;
	*ex->callbacks_end = watcher;
	ex->callbacks_end = &watcher->next;
}

/* The callbacks of a future, in order; watchers of waits stay. They count as running from here on. */
struct pp__watcher *pp__callbacks_take(pp_future *future)
{
	struct pp__watcher *list = NULL, **end = &list, **at = &pp__extra_of(future)->watchers, *watcher;

	while ((watcher = *at) != NULL) {
		if (watcher->wait) {
			at = &watcher->next;
			continue;
		}
		*at = watcher->next;
		watcher->next = NULL;
		*end = watcher;
		end = &watcher->next;
		future->executor->callbacks_waiting--;
		future->executor->callbacks_running++;
	}
	return list;
}

/* It was counted as running when it was taken. */
void pp__callback_run(pp_executor *ex, struct pp__watcher *watcher)
{
	struct frame frame = { ex, frames };
	int state = pp__cancel_hold();   /* whoever ends here would leave it counted as running for ever */

	frames = &frame;
	watcher->callback(watcher->future, watcher->context);
	frames = frame.outer;
	pp__cancel_restore(state);
	pthread_mutex_lock(&pp__lock);
	ex->callbacks_running--;
	pthread_cond_broadcast(&ex->news);
	pthread_mutex_unlock(&pp__lock);
	pp_future_free(watcher->future);
	free(watcher);
}

unsigned pp__callbacks_run_queued(pp_executor *ex, unsigned max)
{
	struct pp__watcher *watcher;
	unsigned n = 0;

	while (n < max && (watcher = ex->callbacks) != NULL) {
		ex->callbacks = watcher->next;
		if (!ex->callbacks)
			ex->callbacks_end = &ex->callbacks;
		ex->callbacks_running++;
		pthread_mutex_unlock(&pp__lock);
		pp__callback_run(ex, watcher);
		pthread_mutex_lock(&pp__lock);
		n++;
	}
	return n;
}

static void *dispatcher_main(void *executor)
{
	pp_executor *ex = executor;

	pthread_mutex_lock(&pp__lock);
	for (;;) {
		if (!(ex->flags & PP_SELF_DISPATCH) && pp__callbacks_run_queued(ex, 1))
			continue;
		if (ex->log && !(ex->flags & PP_SELF_DISPATCH)) {
			pthread_mutex_unlock(&pp__lock);
			pp__log_news(ex);
			pthread_mutex_lock(&pp__lock);
		}
		if (ex->stop_dispatcher && (!ex->callbacks || ex->flags & PP_SELF_DISPATCH))
			break;
		if (pp__drain(ex) || ex->callbacks || ex->stop_dispatcher)
			continue;
		if (ex->callbacks_waiting || ex->listeners || ex->log)
			pp__await_news(ex, PP__NEVER);
		else
			pp__cond_wait(&ex->news, &pp__lock, PP__NEVER);  /* idle: no slices */
	}
	pthread_mutex_unlock(&pp__lock);
	return NULL;
}

int pp__dispatcher_start(pp_executor *ex)
{
	sigset_t all, before;
	int rc;

	if (ex->has_dispatcher || ex->gone)
		return 0;                /* of one that is gone, every future has ended */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&ex->dispatcher, NULL, dispatcher_main, ex);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ex->has_dispatcher = rc == 0;
	return rc ? -EAGAIN : 0;
}

/* For good. Runs what is queued first. */
void pp__dispatcher_stop(pp_executor *ex)
{
	bool had;

	pthread_mutex_lock(&pp__lock);
	ex->gone = true;
	had = ex->has_dispatcher;
	ex->has_dispatcher = false;
	ex->stop_dispatcher = true;
	pthread_cond_broadcast(&ex->news);
	pp__sem_post(&ex->segment.shared.control->bell);
	pthread_mutex_unlock(&pp__lock);
	if (had)
		pthread_join(ex->dispatcher, NULL);
	ex->stop_dispatcher = false;
}

/* The supervisor holds the only write end, so that its death shows there as well. */
void pp__ask_for_fd(pp_executor *ex)
{
	if (ex->fd < 0)
		return;
	if (ex->inlined) {
		pp__inline_ring_fd(ex);
		return;
	}
	atomic_fetch_add(&ex->segment.shared.header->fd_requests, 1);
	pp__nudge(ex);
}

/* Self-dispatch: from now on a push makes the fd readable. What came before is asked for. */
static void arm_fd(pp_executor *ex)
{
	struct pp__control *c = ex->segment.shared.control;

	if (!(ex->flags & PP_SELF_DISPATCH))
		return;
	if (ex->callbacks_waiting)
		atomic_fetch_or(&c->armed, PP__ARM_FD);
	if (ex->callbacks || (ex->callbacks_waiting && (atomic_load(&c->done) || atomic_load(&c->notices))))
		pp__ask_for_fd(ex);
}

/* pp__lock held. 0; 1: it has ended, run it now. */
static int add(pp_executor *ex, struct pp__watcher *watcher)
{
	bool elsewhere = ex->flags & PP_SELF_DISPATCH;
	int rc = elsewhere || pp__future_has_ended(watcher->future) ? 0 : pp__dispatcher_start(ex);

	if (rc < 0)
		return rc;
	pp_future_ref(watcher->future);
	if (pp__watch(watcher)) {
		ex->callbacks_waiting++;
		pthread_cond_broadcast(&ex->news);
		arm_fd(ex);
		return 0;
	}
	if (elsewhere && !ex->gone) {
		pp__callback_queue(ex, watcher);
		arm_fd(ex);
		return 0;
	}
	ex->callbacks_running++;
	return 1;
}

int pp_future_add_done_callback(pp_future *future, pp_callback *callback, void *context)
{
	struct pp__watcher *watcher;
	int rc;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!future || !callback)
		return -EINVAL;
	watcher = calloc(1, sizeof *watcher);
	if (!watcher)
		return -ENOMEM;
	*watcher = (struct pp__watcher){ .future = future, .callback = callback, .context = context };
	pthread_mutex_lock(&pp__lock);
	rc = add(future->executor, watcher);
	pthread_mutex_unlock(&pp__lock);
	if (rc < 0)
		free(watcher);
	if (rc == 1)
		pp__callback_run(future->executor, watcher);
	return rc < 0 ? rc : 0;
}

/* The number may belong to a file of the application by now: then it is left alone. */
static bool fd_is_ours(const pp_executor *ex)
{
	struct stat st;

	return ex->fd >= 0 && fstat(ex->fd, &st) == 0 && st.st_dev == ex->fd_dev && st.st_ino == ex->fd_ino;
}

int pp_executor_fd(pp_executor *ex)
{
	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex)
		return -EINVAL;
	return ex->flags & PP_SELF_DISPATCH ? ex->fd : -ENOTSUP;
}

static void empty_fd(pp_executor *ex)
{
	int state = pp__cancel_hold();
	char bytes[64];

	if (fd_is_ours(ex))
		while (read(ex->fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes)
			;
	pp__cancel_restore(state);
}

static void log_outside(pp_executor *ex)
{
	if (!ex->log)
		return;
	pthread_mutex_unlock(&pp__lock);
	pp__log_news(ex);
	pthread_mutex_lock(&pp__lock);
}

int pp_executor_dispatch(pp_executor *ex, unsigned max)
{
	unsigned n = 0, waiting = 0;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex)
		return -EINVAL;
	if (!(ex->flags & PP_SELF_DISPATCH))
		return -ENOTSUP;
	if (pp__in_callback(NULL))
		return -EDEADLK;
	pp__tend_sometimes(ex);
	pthread_mutex_lock(&pp__lock);
	empty_fd(ex);
	pp__drain(ex);
	log_outside(ex);
	for (struct pp__watcher *w = ex->callbacks; w; w = w->next)
		waiting++;
	n = pp__callbacks_run_queued(ex, max && max < waiting ? max : waiting);
	arm_fd(ex);
	if (atomic_load(&ex->broken))
		pp__ask_for_fd(ex);
	pthread_mutex_unlock(&pp__lock);
	return (int)n;
}
