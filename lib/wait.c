/* SPDX-License-Identifier: MIT */
/*
 * Waiting for many: pp_wait and pp_as_completed are the same thing, a place in each future's list of watchers and a queue
 * of those that have ended, in that order.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "pool.h"

#define TENDED_AT_ONCE 4096u
#define HUGE_PAGE ((size_t)2 << 20)
#define AHEAD     8u

struct pp_walk {
	struct pp__wait wait;
	int64_t         deadline;
	size_t          left;
};

static bool add_executor(struct pp__wait *wait, pp_executor *ex)
{
	pp_executor **more;

	for (size_t i = 0; i < wait->executor_count; i++)
		if (wait->executors[i] == ex)
			return true;
	more = realloc(wait->executors, (wait->executor_count + 1) * sizeof(pp_executor *));
	if (!more)
		return false;
	wait->executors = more;
	more[wait->executor_count++] = ex;
	return true;
}

/* Over several executors no one bell tells all: each then has a thread that listens, its dispatcher. */
static int start_listeners(struct pp__wait *wait)
{
	if (wait->executor_count < 2)
		return 0;
	for (size_t i = 0; i < wait->executor_count; i++) {
		if (pp__dispatcher_start(wait->executors[i]) < 0)
			return -ENOMEM;
		wait->executors[i]->listeners++;
		wait->listening++;
		pthread_cond_broadcast(&wait->executors[i]->news);
	}
	return 0;
}

static void settle_now(struct pp__wait *wait, struct pp__watcher *watcher)
{
	watcher->settled = true;
	wait->settled++;
	*wait->ready_end = watcher;
	wait->ready_end = &watcher->next;
}

/*
 * Room for n watchers, which are written one after the other. A million of them are 12000 pages, each of which would be
 * faulted in for this wait alone, so large arrays ask for huge ones.
 */
static struct pp__watcher *watchers_alloc(size_t n)
{
	size_t size = n * sizeof(struct pp__watcher);
	void *room;

	if (size < 2 * HUGE_PAGE)
		return malloc(size ? size : 1);
	size = (size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1);
	room = aligned_alloc(HUGE_PAGE, size);
	if (room)
		madvise(room, size, MADV_HUGEPAGE);
	return room;
}

/* The future and its cell are two lines that nobody has looked at for long when there are many: asked for ahead. */
static void prefetch_ahead(pp_future *const *futures, size_t i, size_t n)
{
	if (i + 2 * AHEAD < n)
		__builtin_prefetch(futures[i + 2 * AHEAD], 1);
	if (i + AHEAD < n && futures[i + AHEAD]) {
		__builtin_prefetch(pp__cell_of(futures[i + AHEAD]), 1);
		__builtin_prefetch(pp__extra_of(futures[i + AHEAD]), 1);
	}
}

/* pp__lock held. On failure what was added is taken out by wait_end. */
static int wait_begin(struct pp__wait *wait, pp_future *const *futures, size_t n)
{
	static uint64_t serial;
	uint64_t mark = ++serial;

	*wait = (struct pp__wait){ .news = PTHREAD_COND_INITIALIZER };
	wait->ready_end = &wait->ready;
	wait->watchers = watchers_alloc(n);
	if (!wait->watchers)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct pp__watcher *watcher = &wait->watchers[wait->count];
		struct pp__extra *extra = futures[i] ? pp__extra_of(futures[i]) : NULL;
		prefetch_ahead(futures, i, n);
		if (!extra || extra->mark == mark)
			continue;
		if (!add_executor(wait, futures[i]->executor))
			return -ENOMEM;
		extra->mark = mark;
		*watcher = (struct pp__watcher){ .future = futures[i], .wait = wait };
		wait->count++;
		if (!pp__watch(watcher))
			settle_now(wait, watcher);
	}
	return start_listeners(wait);
}

/* pp__lock held. */
static void wait_end(struct pp__wait *wait)
{
	for (size_t i = 0; i < wait->count; i++)
		if (!wait->watchers[i].settled)
			pp__unwatch(&wait->watchers[i]);
	for (size_t i = 0; i < wait->listening; i++)
		wait->executors[i]->listeners--;
	free(wait->watchers);
	free(wait->executors);
	pthread_cond_destroy(&wait->news);
}

static bool drain_all(struct pp__wait *wait)
{
	bool any = false;

	for (size_t i = 0; i < wait->executor_count; i++)
		any |= pp__drain(wait->executors[i]);
	return any;
}

/* pp__lock held. false: the deadline has passed, and nothing has come. */
static bool wait_for_news(struct pp__wait *wait, int64_t deadline)
{
	int64_t now = pp__now_ns(), until;

	if (wait->executor_count == 1)
		return pp__await_news(wait->executors[0], deadline);
	if (now >= deadline)
		return drain_all(wait);
	until = deadline - now < PP__SLICE_NS ? deadline : now + PP__SLICE_NS;
	pp__cond_wait(&wait->news, &pp__lock, until);
	return true;
}

static bool is_exception(pp_future *future)
{
	const pp_outcome *outcome = pp__future_outcome(future);

	return outcome && outcome->kind != PP_RETURNED && outcome->kind != PP_CANCELLED;
}

/* Takes note of exceptions among those that have ended since the last look. */
static bool is_satisfied(struct pp__wait *wait, enum pp_when when)
{
	if (wait->settled == wait->count)
		return true;
	if (when == PP_FIRST_COMPLETED)
		return wait->settled > 0;
	if (when == PP_ALL_COMPLETED)
		return false;
	while (wait->ready) {
		struct pp__watcher *watcher = wait->ready;
		wait->ready = watcher->next;
		if (!wait->ready)
			wait->ready_end = &wait->ready;
		wait->exception |= is_exception(watcher->future);
	}
	return wait->exception;
}

/* What cannot end any more through its worker has to be found: a look at some of them, in turn, when nothing was heard for
 * a slice. */
static void tend_some(struct pp__wait *wait)
{
	pthread_mutex_unlock(&pp__lock);
	for (size_t i = 0; i < wait->executor_count; i++)
		pp__tend(wait->executors[i]);
	pthread_mutex_lock(&pp__lock);
	for (size_t i = 0; i < wait->count && i < TENDED_AT_ONCE; i++) {
		struct pp__watcher *watcher = &wait->watchers[wait->tended++ % wait->count];
		if (watcher->settled)
			continue;
		pthread_mutex_unlock(&pp__lock);
		pp__tend_future(watcher->future);
		pthread_mutex_lock(&pp__lock);
	}
}

/* pp__lock held. false: timed out. */
static bool wait_until(struct pp__wait *wait, enum pp_when when, int64_t deadline)
{
	size_t before;
	int64_t started;

	while (!is_satisfied(wait, when)) {
		before = wait->settled;
		started = pp__now_ns();
		if (!wait_for_news(wait, deadline))
			return false;
		if (wait->settled == before && pp__now_ns() - started >= PP__SLICE_NS)
			tend_some(wait);
	}
	return true;
}

int pp_wait(pp_future *const *futures, size_t n, enum pp_when when, int64_t timeout_ms)
{
	int64_t deadline;
	struct pp__wait wait;
	int rc;

	if (!pp__is_original_process())
		return -ECHILD;
	if ((!futures && n) || when > PP_FIRST_EXCEPTION || !pp__time_is_valid(timeout_ms) || n > INT32_MAX)
		return -EINVAL;
	deadline = pp__deadline_ns(timeout_ms);
	pthread_mutex_lock(&pp__lock);
	rc = wait_begin(&wait, futures, n);
	if (rc == 0) {
		wait_until(&wait, when, deadline);
		for (size_t i = 0; i < wait.count; i++)
			rc += wait.watchers[i].settled || pp__future_has_ended(wait.watchers[i].future);
	}
	wait_end(&wait);
	pthread_mutex_unlock(&pp__lock);
	return rc;
}

int pp_as_completed(pp_future *const *futures, size_t n, int64_t timeout_ms, pp_walk **walk)
{
	pp_walk *w;
	int rc;

	if (walk)
		*walk = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!walk || (!futures && n) || !pp__time_is_valid(timeout_ms))
		return -EINVAL;
	w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	w->deadline = pp__deadline_ns(timeout_ms);
	pthread_mutex_lock(&pp__lock);
	rc = wait_begin(&w->wait, futures, n);
	if (rc < 0)
		wait_end(&w->wait);
	else
		for (size_t i = 0; i < w->wait.count; i++)
			pp_future_ref(w->wait.watchers[i].future);
	pthread_mutex_unlock(&pp__lock);
	if (rc < 0) {
		free(w);
		return rc;
	}
	w->left = w->wait.count;
	*walk = w;
	return 0;
}

/* pp__lock held. */
static pp_future *take_ready(struct pp__wait *wait)
{
	struct pp__watcher *watcher = wait->ready;

	wait->ready = watcher->next;
	if (!wait->ready)
		wait->ready_end = &wait->ready;
	return watcher->future;
}

int pp_walk_next(pp_walk *walk, pp_future **future)
{
	size_t before;
	int rc = 1;

	if (future)
		*future = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!walk || !future)
		return -EINVAL;
	if (!walk->left)
		return 0;
	pthread_mutex_lock(&pp__lock);
	while (rc == 1 && !walk->wait.ready) {
		int64_t started = pp__now_ns();
		before = walk->wait.settled;
		if (!wait_for_news(&walk->wait, walk->deadline))
			rc = walk->wait.ready ? 1 : -ETIMEDOUT;
		else if (walk->wait.settled == before && pp__now_ns() - started >= PP__SLICE_NS)
			tend_some(&walk->wait);
		if (rc == 1 && walk->wait.ready)
			break;
	}
	if (rc == 1) {
		*future = take_ready(&walk->wait);
		walk->left--;
	}
	pthread_mutex_unlock(&pp__lock);
	return rc;
}

size_t pp_walk_left(const pp_walk *walk)
{
	return walk && pp__is_original_process() ? walk->left : 0;
}

void pp_walk_free(pp_walk *walk)
{
	struct pp__watcher *watchers;
	size_t count;

	if (!walk || !pp__is_original_process())
		return;
	watchers = walk->wait.watchers;
	count = walk->wait.count;
	pthread_mutex_lock(&pp__lock);
	walk->wait.watchers = NULL;
	for (size_t i = 0; i < count; i++)
		if (!watchers[i].settled)
			pp__unwatch(&watchers[i]);
	walk->wait.count = 0;
	wait_end(&walk->wait);
	pthread_mutex_unlock(&pp__lock);
	for (size_t i = 0; i < count; i++)
		pp_future_free(watchers[i].future);
	free(watchers);
	free(walk);
}
