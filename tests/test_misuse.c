/* SPDX-License-Identifier: MIT */
/*
 * Hostile callers: what create, submit, shutdown and their kin refuse. Each refused call leaves the executor as it was,
 * and the out parameter NULL. For futures, waits and forked children see test_refused.c and test_fork.c.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define ANY_EXECUTOR ((pp_executor *)(uintptr_t)1)
#define ANY_FUTURE   ((pp_future *)(uintptr_t)1)

static void assert_works(pp_executor *ex)
{
	pp_future *future = support_submit(ex, task_echo, "works", 5);

	support_assert_returned(future, "works", 5);
	pp_future_free(future);
}

/* ---- create */

static void assert_create_refuses(const pp_options *options)
{
	pp_executor *ex = ANY_EXECUTOR;
	int rc = pp_executor_create(&ex, options);

	ck_assert_int_eq(rc, -EINVAL);
	ck_assert_ptr_null(ex);
}

START_TEST(create_refuses)
{
	pp_options options = support_options(1);

	ck_assert_int_eq(pp_executor_create(NULL, NULL), -EINVAL);
	ck_assert_int_eq(pp_executor_create(NULL, &options), -EINVAL);
	for (int bit = 12; bit < 32; bit++) {
		options = support_options(1);
		options.flags = 1u << bit;
		assert_create_refuses(&options);
	}
	options = support_options(1);
	options.flags = PP_MEMFD_ONLY | PP_SHM_ONLY;
	assert_create_refuses(&options);
	options = support_options(1);
	options.reserved = 1;
	assert_create_refuses(&options);
	options = support_options(1);
	options.start_attempts = -1;
	assert_create_refuses(&options);
	options = support_options(1);
	options.initializer = task_nothing;
	options.initializer_size = 1;    /* of NULL */
	assert_create_refuses(&options);
}
END_TEST

/* Code that is none, or that no worker would have. */
START_TEST(create_refuses_unknown_code)
{
	static int some_data;
	void *heap = malloc(16);
	pp_fn *none[] = { (pp_fn *)(uintptr_t)1, (pp_fn *)(uintptr_t)&some_data, (pp_fn *)(uintptr_t)heap };

	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		pp_options options = support_options(1);
		options.initializer = none[i];
		assert_create_refuses(&options);
		options.initializer = NULL;
		options.finalizer = none[i];
		assert_create_refuses(&options);
	}
	free(heap);
}
END_TEST

/* Structs of programs that were built against other versions of the header. */
START_TEST(create_options_of_any_size)
{
	struct { pp_options known; unsigned char later[64]; } newer = { .known = support_options(1) };
	static const size_t too_small[] = { 0, 1, 4, 7 };
	pp_options older = support_options(3);
	pp_executor *ex;

	for (size_t i = 0; i < sizeof too_small / sizeof *too_small; i++) {
		pp_options options = support_options(1);
		options.size = too_small[i];
		assert_create_refuses(&options);
	}
	for (size_t i = 0; i < sizeof newer.later; i += 21) {
		newer.known.size = sizeof newer;
		newer.later[i] = 1;      /* a field that this version does not know */
		assert_create_refuses(&newer.known);
		newer.later[i] = 0;
	}
	ex = support_create(&newer.known);
	assert_works(ex);
	pp_executor_free(ex);
	older.size = offsetof(pp_options, max_pending);
	older.flags = PP_START_ALL;
	older.reserved = 1;              /* behind its end: not looked at */
	older.initializer = (pp_fn *)(uintptr_t)1;
	ex = support_create(&older);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 3);
	assert_works(ex);
	pp_executor_free(ex);
}
END_TEST

START_TEST(create_without_options)
{
	pp_executor *ex = support_create(NULL);

	assert_works(ex);
	pp_executor_free(ex);
}
END_TEST

/* ---- submit */

static int submit_sized(pp_executor *ex, size_t options_size, int64_t timeout_ms)
{
	struct { pp_task_options known; unsigned char later[32]; } options = { .known = PP_TASK_OPTIONS_INIT };
	pp_future *future = ANY_FUTURE;
	int rc;

	options.known.size = options_size;
	options.known.submit_timeout_ms = timeout_ms;
	memset(options.later, 1, sizeof options.later);
	rc = pp_submit_with(ex, &options.known, task_echo, "works", 5, &future);
	if (rc < 0) {
		ck_assert_ptr_null(future);
		return rc;
	}
	support_assert_returned(future, "works", 5);
	pp_future_free(future);
	return rc;
}

static void assert_submit(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int wanted)
{
	pp_future *future = ANY_FUTURE;

	ck_assert_int_eq(pp_submit(ex, fn, data, size, &future), wanted);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_submit(ex, fn, data, size, NULL), wanted);
}

START_TEST(submit_refuses)
{
	pp_executor *ex = support_executor(1);

	assert_submit(NULL, task_nothing, NULL, 0, -EINVAL);
	assert_submit(ex, NULL, NULL, 0, -EINVAL);
	assert_submit(ex, task_nothing, NULL, 1, -EINVAL);
	assert_submit(ex, task_nothing, NULL, SIZE_MAX, -EINVAL);
	ck_assert_int_eq(submit_sized(ex, 0, 0), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, 7, 0), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, sizeof(pp_task_options) + 1, 0), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, sizeof(pp_task_options) + 32, 0), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, sizeof(pp_task_options), -2), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, sizeof(pp_task_options), INT64_MIN), -EINVAL);
	ck_assert_int_eq(submit_sized(ex, sizeof(pp_task_options), INT64_MAX), 0);
	ck_assert_int_eq(submit_sized(ex, offsetof(pp_task_options, submit_timeout_ms), -2), 0);
	assert_works(ex);
	pp_executor_free(ex);
}
END_TEST

/* Sizes that no memory has: refused before a byte is read, and what is there goes on. */
START_TEST(submit_of_absurd_sizes)
{
	static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1, SIZE_MAX / 2, (size_t)1 << 47, (size_t)1 << 37 };
	pp_options options = support_options(1);
	pp_executor *ex = support_create(&options);

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		assert_submit(ex, task_nothing, "four", sizes[i], -ENOMEM);
	assert_works(ex);
	pp_executor_free(ex);
	options.initializer = task_nothing;
	options.initializer_data = "four";
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		options.initializer_size = sizes[i];
		ex = ANY_EXECUTOR;
		ck_assert_int_eq(pp_executor_create(&ex, &options), -ENOMEM);
		ck_assert_ptr_null(ex);
	}
}
END_TEST

/* ---- the rest of the executor */

START_TEST(shutdown_refuses)
{
	static const int64_t bad_times[] = { -2, -1000, INT64_MIN };
	pp_executor *ex = support_executor(1);

	ck_assert_int_eq(pp_executor_shutdown(NULL, 0, 0), -EINVAL);
	for (int bit = 3; bit < 32; bit++)
		ck_assert_int_eq(pp_executor_shutdown(ex, 1u << bit, 0), -EINVAL);
	for (size_t i = 0; i < sizeof bad_times / sizeof *bad_times; i++) {
		ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, bad_times[i]), -EINVAL);
		ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_KILL, bad_times[i]), -EINVAL);
	}
	assert_works(ex);                /* none of these has shut it down */
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, INT64_MAX), 0);
	pp_executor_free(ex);
	pp_executor_free(NULL);
}
END_TEST

START_TEST(workers_and_signal_refuse)
{
	static const int signals[] = { 0, -1, SIGINT, SIGSEGV, SIGSTOP, SIGCONT, SIGUSR1, SIGTERM + 64, 1000, INT32_MAX };
	pp_executor *ex = support_executor(1);
	pid_t pids[2] = { -7, -7 };

	ck_assert_int_eq(pp_executor_workers(NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(pp_executor_workers(NULL, pids, 2), -EINVAL);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 1), -EINVAL);
	ck_assert_int_eq(pp_executor_workers(ex, pids, 0), 0);
	assert_works(ex);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 1);
	ck_assert_int_eq(pp_executor_workers(ex, pids, 0), 1);
	ck_assert_int_eq(pids[0], -7);
	ck_assert_int_eq(pp_executor_workers(ex, pids, 2), 1);
	ck_assert_int_gt(pids[0], 1);
	ck_assert_int_eq(pids[1], -7);
	ck_assert_int_eq(pp_executor_signal(NULL, SIGKILL), -EINVAL);
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		ck_assert_int_eq(pp_executor_signal(ex, signals[i]), -EINVAL);
	assert_works(ex);
	ck_assert_int_eq(pp_executor_workers(ex, &pids[1], 1), 1);
	ck_assert_int_eq(pids[1], pids[0]);      /* no worker was harmed */
	ck_assert_ptr_null(pp_executor_broken(NULL));
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
}
END_TEST

/* ---- in a worker, upon the executor that it works for; returns the number of the first call that was not refused */

static int own_calls(pp_executor *ex)
{
	pp_executor *made = ANY_EXECUTOR;
	pp_future *future = ANY_FUTURE;
	pid_t pid;

	if (pp_submit(ex, task_nothing, NULL, 0, &future) != -ECHILD || future)
		return 1;
	if (pp_submit(ex, task_nothing, NULL, 0, NULL) != -ECHILD)
		return 2;
	if (pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, PP_FOREVER) != -ECHILD)
		return 3;
	if (pp_executor_signal(ex, SIGKILL) != -ECHILD)
		return 4;
	if (pp_executor_workers(ex, &pid, 1) != -ECHILD)
		return 5;
	if (pp_executor_create(&made, NULL) != -ECHILD || made)
		return 6;
	return pp_executor_broken(ex) ? 7 : 0;
}

static int task_calls_own_executor(pp_task *task, const void *data, size_t size)
{
	pp_executor *ex;
	int n;

	memcpy(&ex, data, size);
	n = own_calls(ex);
	return n ? pp_raise(task, n, "call %d was not refused", n) : 0;
}

static int hook_creates(pp_task *task, const void *data, size_t size)
{
	pp_executor *made = ANY_EXECUTOR;
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	if (pp_executor_create(&made, NULL) == -ECHILD && !made)
		__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	return 0;
}

START_TEST(submit_from_worker_refused)
{
	pp_options options = support_options(1);
	long *counter = support_counters(1);
	pp_executor *ex;
	pp_future *future;

	options.initializer = hook_creates;
	options.finalizer = hook_creates;
	options.initializer_data = &counter;
	options.initializer_size = sizeof counter;
	ex = support_create(&options);
	for (int i = 0; i < 3; i++) {
		future = support_submit(ex, task_calls_own_executor, &ex, sizeof ex);
		support_assert_returned(future, NULL, 0);
		pp_future_free(future);
	}
	pp_executor_free(ex);
	ck_assert_int_eq(*counter, 2);           /* one worker: its initializer and its finalizer */
	support_counters_free(counter, 1);
}
END_TEST

/* ---- shutdown from a callback */

struct closing { pp_executor *ex; int rc_wait, rc_kill; pp_future *refused; int rc_submit; atomic_bool called; };

static void close_in_callback(pp_future *future, void *closing_)
{
	struct closing *closing = closing_;

	(void)future;
	closing->rc_wait = pp_executor_shutdown(closing->ex, PP_SHUTDOWN_WAIT, PP_FOREVER);
	closing->rc_kill = pp_executor_shutdown(closing->ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_KILL, 0);
	closing->refused = ANY_FUTURE;
	closing->rc_submit = pp_submit(closing->ex, task_nothing, NULL, 0, &closing->refused);
	closing->called = true;
}

static bool was_called(void *closing)
{
	return ((struct closing *)closing)->called;
}

/* It is not waited for, but shut down it is. */
START_TEST(shutdown_wait_from_callback)
{
	struct closing closing = { .called = false };
	struct gate gate;
	pp_future *future;

	gate_make(&gate);
	closing.ex = support_executor(1);
	future = support_submit(closing.ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	ck_assert_int_eq(pp_future_add_done_callback(future, close_in_callback, &closing), 0);
	gate_open(&gate, 1);
	support_until(was_called, &closing, "the callback");
	ck_assert_int_eq(closing.rc_wait, -EDEADLK);
	ck_assert_int_eq(closing.rc_kill, -EDEADLK);
	ck_assert_int_eq(closing.rc_submit, -ESHUTDOWN);
	ck_assert_ptr_null(closing.refused);
	support_assert_returned(future, &gate, sizeof gate);
	ck_assert_int_eq(pp_executor_shutdown(closing.ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	pp_future_free(future);
	pp_executor_free(closing.ex);
	gate_destroy(&gate);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("misuse");
	TCase *create = support_tcase(suite, "create"), *submit = support_tcase(suite, "submit");
	TCase *rest = support_tcase(suite, "executor");

	tcase_add_test(create, create_refuses);
	tcase_add_test(create, create_refuses_unknown_code);
	tcase_add_test(create, create_options_of_any_size);
	tcase_add_test(create, create_without_options);
	tcase_add_test(submit, submit_refuses);
	tcase_add_test(submit, submit_of_absurd_sizes);
	tcase_add_test(submit, submit_from_worker_refused);
	tcase_add_test(rest, shutdown_refuses);
	tcase_add_test(rest, workers_and_signal_refuse);
	tcase_add_test(rest, shutdown_wait_from_callback);
	return suite;
}

SUPPORT_MAIN(make_suite)
