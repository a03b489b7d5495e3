/* SPDX-License-Identifier: MIT */
/* Another number of workers while the pool works: up for what waits, down without losing a task. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define MOST 64

static long load(const long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

struct count { pp_executor *ex; int workers; };

static bool has_workers(void *count_)
{
	const struct count *count = count_;

	return pp_executor_workers(count->ex, NULL, 0) == count->workers;
}

static void until_workers(pp_executor *ex, int workers)
{
	struct count count = { ex, workers };

	support_until(has_workers, &count, "that number of workers");
}

static void submit_gates(pp_executor *ex, const struct gate *gate, pp_future **futures, int n)
{
	for (int i = 0; i < n; i++)
		futures[i] = support_submit(ex, task_gate, gate, sizeof *gate);
}

static void free_returned(pp_future **futures, int n, int indices_below)
{
	for (int i = 0; i < n; i++) {
		support_assert_kind(futures[i], PP_RETURNED);
		ck_assert_int_lt(support_outcome(futures[i])->worker, indices_below);
		ck_assert_int_ge(support_outcome(futures[i])->worker, 0);
		pp_future_free(futures[i]);
	}
}

/* How many run at a time: the highest that any of them saw. */
enum { NOW, HIGHEST, COUNTERS };

static int task_crowd(pp_task *task, const void *data, size_t size)
{
	long *counters, now, highest;

	memcpy(&counters, data, size);
	now = __atomic_add_fetch(&counters[NOW], 1, __ATOMIC_SEQ_CST);
	highest = load(&counters[HIGHEST]);
	while (now > highest && !__atomic_compare_exchange_n(&counters[HIGHEST], &highest, now, false, __ATOMIC_SEQ_CST,
	                                                     __ATOMIC_SEQ_CST))
		;
	usleep(200);
	__atomic_sub_fetch(&counters[NOW], 1, __ATOMIC_SEQ_CST);
	return pp_return(task, NULL, 0);
}

static void expect_one_at_a_time(pp_executor *ex, long *counters)
{
	pp_future *futures[20];

	for (int i = 0; i < 20; i++)
		futures[i] = support_submit(ex, task_crowd, PP_BYTES(counters));
	free_returned(futures, 20, 1);
	ck_assert_int_eq(load(&counters[HIGHEST]), 1);
}

/* What waits when there are more gets them; when there are fewer, those that are busy end after their tasks. */
START_TEST(resize_up_down)
{
	long *counters = support_counters(COUNTERS);
	pp_future *futures[4];
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(2);
	submit_gates(ex, &gate, futures, 4);
	gate_await(&gate, 2);
	ck_assert_int_eq(pp_executor_resize(ex, 4), 0);
	gate_await(&gate, 2);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 4);
	ck_assert_int_eq(pp_executor_resize(ex, 1), 0);
	gate_open(&gate, 4);
	free_returned(futures, 4, 4);
	until_workers(ex, 1);
	expect_one_at_a_time(ex, counters);
	ck_assert_int_eq(pp_executor_resize(ex, 3), 0);
	submit_gates(ex, &gate, futures, 3);
	gate_await(&gate, 3);
	gate_open(&gate, 3);
	free_returned(futures, 3, 3);
	pp_executor_free(ex);
	gate_destroy(&gate);
	support_counters_free(counters, COUNTERS);
}
END_TEST

START_TEST(resize_down_wakes_the_idle)
{
	pp_options options = support_options(6);
	pp_executor *ex;

	options.flags = PP_START_ALL;
	ex = support_create(&options);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 6);
	ck_assert_int_eq(pp_executor_resize(ex, 2), 0);
	until_workers(ex, 2);
	ck_assert_int_eq(pp_executor_resize(ex, 5), 0);
	until_workers(ex, 5);            /* all of them, as at the start */
	pp_executor_free(ex);
}
END_TEST

START_TEST(resize_to_most_and_to_one)
{
	pp_future *futures[MOST];
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(1);
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(pp_executor_resize(ex, 256), 0);
		submit_gates(ex, &gate, futures, MOST);
		gate_await(&gate, MOST);         /* all at the same time */
		gate_open(&gate, MOST);
		free_returned(futures, MOST, 256);
		ck_assert_int_eq(pp_executor_resize(ex, 1), 0);
		until_workers(ex, 1);
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* Each task ends as it would, whatever the number of workers does meanwhile. */
START_TEST(resize_during_crashes)
{
	enum { N = 120 };
	static const enum death ways[] = { DIE_KILL, DIE_SEGV, DIE_EXIT99, DIE__EXIT };
	static const int kinds[] = { PP_CRASHED, PP_CRASHED, PP_EXITED, PP_EXITED };
	pp_executor *ex = support_executor(2);
	pp_future *futures[N];

	for (int i = 0; i < N; i++) {
		int way = (int)ways[i / 2 % 4];
		futures[i] = i % 2 ? support_submit(ex, task_die, PP_BYTES(way)) : support_submit(ex, task_echo, PP_BYTES(i));
		if (i % 3 == 0)
			ck_assert_int_eq(pp_executor_resize(ex, i / 3 % 2 ? 1 : 2 + i % 5), 0);
	}
	for (int i = 0; i < N; i++) {
		support_assert_kind(futures[i], i % 2 ? kinds[i / 2 % 4] : PP_RETURNED);
		pp_future_free(futures[i]);
		if (i % 8 == 0)
			ck_assert_int_eq(pp_executor_resize(ex, i / 8 % 3 + 1), 0);
	}
	ck_assert_int_eq(pp_executor_resize(ex, 1), 0);
	until_workers(ex, 1);
	pp_executor_free(ex);
}
END_TEST

/* Nobody waits for these, so nobody but those who take part could repair anything. */
START_TEST(resize_loses_nothing)
{
	long *counters = support_counters(COUNTERS);
	pp_executor *ex = support_executor(4);
	int n = support_many(4000);

	for (int i = 0; i < n; i++) {
		ck_assert_int_eq(pp_submit(ex, task_crowd, PP_BYTES(counters), NULL), 0);
		if (i % 7 == 0)
			ck_assert_int_eq(pp_executor_resize(ex, i / 7 % 4 + 1), 0);
	}
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	ck_assert_int_eq(load(&counters[NOW]), 0);
	ck_assert_int_gt(load(&counters[HIGHEST]), 0);
	pp_executor_free(ex);
	support_counters_free(counters, COUNTERS);
}
END_TEST

START_TEST(resize_refused)
{
	static const int bad[] = { 0, -1, -2, 257, 1 << 20, INT32_MIN };
	pp_executor *ex = support_executor(2);

	ck_assert_int_eq(pp_executor_resize(NULL, 2), -EINVAL);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(pp_executor_resize(ex, bad[i]), -EINVAL);
	ck_assert_int_eq(pp_executor_resize(ex, 2), 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, 0, 0), 0);
	ck_assert_int_eq(pp_executor_resize(ex, 2), -ESHUTDOWN);
	pp_executor_free(ex);
}
END_TEST

START_TEST(resize_broken)
{
	pp_executor *ex = support_executor(2);
	pp_future *future;

	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	ck_assert_int_ge(pp_submit(ex, task_nothing, NULL, 0, &future), -EPIPE);
	if (future)
		support_assert_kind(future, PP_BROKEN);
	pp_future_free(future);
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	ck_assert_int_eq(pp_executor_resize(ex, 2), -EPIPE);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("resize");
	TCase *tcase = support_tcase(suite, "resize");

	tcase_add_test(tcase, resize_up_down);
	tcase_add_test(tcase, resize_down_wakes_the_idle);
	tcase_add_test(tcase, resize_to_most_and_to_one);
	tcase_add_test(tcase, resize_during_crashes);
	tcase_add_test(tcase, resize_loses_nothing);
	tcase_add_test(tcase, resize_refused);
	tcase_add_test(tcase, resize_broken);
	return suite;
}

SUPPORT_MAIN(make_suite)
