/* SPDX-License-Identifier: MIT */
/*
 * White box: a pause that meets a worker on its way to a task, and a shutdown that meets a pause, held up at the step
 * where the other matters.
 */
#include <pthread.h>
#include <unistd.h>
#include "pool.h"
#include "stepper.h"
#include "support.h"
#include "wake.h"
#include "worker.h"

#define REUSED_WITHIN (2 * PP__SLAB)     /* submits, whatever the order of the free slots */

static enum pp__state state_of(pp_future *future)
{
	return pp__word_state(pp__slot_look(pp__cell_of(future)));
}

static pp_executor *create(void)
{
	pp_options options = support_options(1);

	options.flags = PP_START_ALL;
	return support_create(&options);
}

/* Too short can only miss a mistake. */
static void assert_stays_ready(pp_future *future, int ms)
{
	for (; ms > 0; ms--) {
		ck_assert_int_eq(state_of(future), PP__READY);
		usleep(1000);
	}
}

static void take_all(pp_future **futures, uint32_t n)
{
	while (n-- > 0) {
		support_assert_returned(futures[n], "second", 6);
		pp_future_free(futures[n]);
	}
}

/* Stopped where it begins to look, with this task to be found. It may have been on its way to one already, when it was
 * stopped first. */
static pp_future *bring_to_look(pp_executor *ex, pid_t pid)
{
	for (int try = 0; try < 100; try++) {
		pp_future *future;
		ck_assert(stepper_attach(pid));
		future = support_submit(ex, task_echo, "first", 5);
		ck_assert_int_eq(stepper_run_to(pid, (uintptr_t)pp__look, 1, 0), STEPPER_OK);
		if (state_of(future) == PP__READY)
			return future;
		stepper_release(pid);
		support_assert_returned(future, "first", 5);
		pp_future_free(future);
	}
	ck_abort_msg("it always has a task already");
	return NULL;
}

/* The worker stands so many instructions behind the begin of its look for a task, which is cancelled; another one has the
 * same slot, after a pause. false: it had the first one already. */
static bool pause_on_the_way(pp_executor *ex, pid_t pid, unsigned steps)
{
	static pp_future *futures[REUSED_WITHIN];
	pp_future *first = bring_to_look(ex, pid);
	uint32_t slot = first->slot, n = 0;
	bool cancelled;

	while (steps-- > 0)
		ck_assert_int_eq(stepper_step(pid), STEPPER_OK);
	cancelled = state_of(first) == PP__READY && pp_future_cancel(first);
	pp_future_free(first);
	ck_assert_int_eq(pp_executor_pause(ex), 0);
	do {
		ck_assert_uint_lt(n, REUSED_WITHIN);
		futures[n] = support_submit(ex, task_echo, "second", 6);
	} while (futures[n++]->slot != slot && cancelled);
	stepper_release(pid);
	if (cancelled)
		assert_stays_ready(futures[n - 1], 10);
	ck_assert_int_eq(pp_executor_resume(ex), 0);
	take_all(futures, n);
	return cancelled;
}

START_TEST(nothing_starts_that_came_after_pause)
{
	pp_executor *ex = create();
	pid_t pid = support_run_for_pid(ex);
	unsigned steps = 0;

	while (pause_on_the_way(ex, pid, steps))
		steps++;
	ck_assert_uint_gt(steps, 10);
	pp_executor_free(ex);
}
END_TEST

static void *shut_down(void *ex)
{
	return (void *)(intptr_t)pp_executor_shutdown(ex, PP_SHUTDOWN_CANCEL_PENDING, 0);
}

static bool is_closed(void *ex_)
{
	pp_executor *ex = ex_;
	bool closed;

	pthread_mutex_lock(&ex->submit_lock);
	closed = ex->closed;
	pthread_mutex_unlock(&ex->submit_lock);
	return closed;
}

/* A shutdown resumes and cancels. Held up half-way, it has not resumed yet what it is to cancel. */
START_TEST(paused_is_cancelled_before_resumed)
{
	pp_executor *ex = create();
	pp_future *future;
	pthread_t thread;
	void *rc;

	ck_assert_int_eq(pp_executor_pause(ex), 0);
	future = support_submit(ex, task_echo, "x", 1);
	pthread_mutex_lock(&pp__lock);
	ck_assert_int_eq(pthread_create(&thread, NULL, shut_down, ex), 0);
	support_until(is_closed, ex, "the shutdown has begun");
	pp__wake_all(&ex->segment.shared);
	assert_stays_ready(future, 150);
	pthread_mutex_unlock(&pp__lock);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_ptr_null(rc);
	support_assert_kind(future, PP_CANCELLED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("pause_order");

	tcase_add_test(support_tcase(suite, "shutdown"), paused_is_cancelled_before_resumed);
	if (!stepper_allowed() || support_under_valgrind()) {
		support_skip("nothing_starts_that_came_after_pause", "this process may not trace others");
		return suite;
	}
	tcase_add_test(support_tcase(suite, "claim"), nothing_starts_that_came_after_pause);
	return suite;
}

SUPPORT_MAIN(make_suite)
