/* SPDX-License-Identifier: MIT */
/* Workers that had nothing to do for long enough leave, the last one too, and no task meets a worker that is leaving. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

static long load(const long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static int task_count(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static bool has_no_workers(void *ex)
{
	return pp_executor_workers(ex, NULL, 0) == 0;
}

static pp_executor *impatient(int workers, int64_t idle_timeout_ms)
{
	pp_options options = support_options(workers);

	options.idle_timeout_ms = idle_timeout_ms;
	return support_create(&options);
}

START_TEST(idle_workers_leave)
{
	pp_executor *ex;
	struct gate gate;
	pp_future *futures[3];

	gate_make(&gate);
	ex = impatient(3, 20);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			futures[i] = support_submit(ex, task_gate, &gate, sizeof gate);
		gate_await(&gate, 3);            /* so there are three */
		gate_open(&gate, 3);
		for (int i = 0; i < 3; i++) {
			support_assert_kind(futures[i], PP_RETURNED);
			pp_future_free(futures[i]);
		}
		support_until(has_no_workers, ex, "no worker any more");
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* It counts from the last task, not from the start: a busy one stays. */
START_TEST(busy_workers_stay)
{
	pp_executor *ex;
	struct gate gate;
	pp_future *future;

	gate_make(&gate);
	ex = impatient(1, 1);
	future = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	poll(NULL, 0, 30);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 1);
	gate_open(&gate, 1);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

struct tally { long *counter, wanted; };

static bool has_counted(void *tally_)
{
	const struct tally *tally = tally_;

	return load(tally->counter) >= tally->wanted;
}

/*
 * Submits that meet the very moment at which workers leave, at all phases of it. Nobody waits by a call of the library,
 * which would repair a lost task after a while: each round just looks at a counter.
 */
static void meet_leavers(int workers, int rounds)
{
	long *counters = support_counters(1);
	struct tally tally = { .counter = counters };
	pp_executor *ex = impatient(workers, 1);
	unsigned seed = 1;

	for (int i = 0; i < rounds; i++) {
		int n = 1 + rand_r(&seed) % 3;
		for (int k = 0; k < n; k++)
			ck_assert_int_eq(pp_submit(ex, task_count, PP_BYTES(counters), NULL), 0);
		tally.wanted += n;
		support_until(has_counted, &tally, "the tasks of this round");
		usleep((useconds_t)(rand_r(&seed) % 2500));
	}
	ck_assert_int_eq(load(counters), tally.wanted);
	pp_executor_free(ex);
	support_counters_free(counters, 1);
}

START_TEST(submit_meets_leaver)
{
	meet_leavers(1, support_many(600));
}
END_TEST

START_TEST(submit_meets_leavers)
{
	meet_leavers(3, support_many(600));
}
END_TEST

/* One task is long: the others need a worker that has left meanwhile. */
START_TEST(worker_comes_back_beside_a_busy_one)
{
	pp_executor *ex;
	struct gate gate;
	pp_future *busy;

	gate_make(&gate);
	ex = impatient(2, 1);
	busy = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	for (int i = 0; i < 20; i++) {
		pp_future *future = support_submit(ex, task_echo, PP_BYTES(i));
		support_assert_returned(future, PP_BYTES(i));
		pp_future_free(future);
		usleep((useconds_t)i * 200);
	}
	gate_open(&gate, 1);
	support_assert_kind(busy, PP_RETURNED);
	pp_future_free(busy);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(idle_beside_crashes_and_resize)
{
	enum { N = 60 };
	pp_executor *ex = impatient(3, 1);
	pp_future *future;

	for (int i = 0; i < N; i++) {
		int how = i % 4 ? DIE_KILL : DIE_SEGV;
		future = i % 2 ? support_submit(ex, task_die, PP_BYTES(how)) : support_submit(ex, task_echo, PP_BYTES(i));
		support_assert_kind(future, i % 2 ? PP_CRASHED : PP_RETURNED);
		pp_future_free(future);
		if (i % 5 == 0)
			ck_assert_int_eq(pp_executor_resize(ex, i / 5 % 3 + 1), 0);
		usleep((useconds_t)(i % 7) * 300);
	}
	support_until(has_no_workers, ex, "no worker any more");
	pp_executor_free(ex);
}
END_TEST

START_TEST(idle_timeout_refused)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.idle_timeout_ms = PP_NONE;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
	ck_assert_ptr_null(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("idle");
	TCase *tcase = support_tcase(suite, "idle");

	tcase_add_test(tcase, idle_workers_leave);
	tcase_add_test(tcase, busy_workers_stay);
	tcase_add_test(tcase, submit_meets_leaver);
	tcase_add_test(tcase, submit_meets_leavers);
	tcase_add_test(tcase, worker_comes_back_beside_a_busy_one);
	tcase_add_test(tcase, idle_beside_crashes_and_resize);
	tcase_add_test(tcase, idle_timeout_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
