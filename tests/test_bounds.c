/* SPDX-License-Identifier: MIT */
/* Section 4 of the contract: the two bounds that an executor has, on futures that are not done and on workers. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include "support.h"

/* Two tasks at a gate in an executor that takes two at a time. */
struct full { struct gate gate; pp_executor *ex; pp_future *futures[2]; };

static void full_make(struct full *full)
{
	pp_options options = support_options(1);

	gate_make(&full->gate);
	options.max_pending = 2;
	full->ex = support_create(&options);
	for (int i = 0; i < 2; i++)
		full->futures[i] = support_submit(full->ex, task_gate, &full->gate, sizeof full->gate);
}

static void full_destroy(struct full *full, int still_at_gate)
{
	gate_open(&full->gate, still_at_gate);
	for (int i = 0; i < 2; i++) {
		support_assert_returned(full->futures[i], &full->gate, sizeof full->gate);
		pp_future_free(full->futures[i]);
	}
	pp_executor_free(full->ex);
	gate_destroy(&full->gate);
}

static int submit_within(pp_executor *ex, int64_t timeout_ms, pp_future **future)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.submit_timeout_ms = timeout_ms;
	return pp_submit_with(ex, &options, task_echo, "third", 5, future);
}

struct submitter { pp_executor *ex; pp_future *future; atomic_bool opened; bool opened_before; int rc; };

static void *submitter_main(void *submitter_)
{
	struct submitter *s = submitter_;

	s->rc = submit_within(s->ex, 0, &s->future);
	s->opened_before = s->opened;
	return NULL;
}

START_TEST(max_pending_blocks)
{
	struct submitter s = { .future = NULL };
	pp_future *refused;
	struct full full;
	pthread_t thread;

	full_make(&full);
	s.ex = full.ex;
	ck_assert_int_eq(pthread_create(&thread, NULL, submitter_main, &s), 0);
	gate_await(&full.gate, 1);
	refused = s.future;
	ck_assert_int_eq(submit_within(full.ex, 50, &refused), -ETIMEDOUT);
	ck_assert_ptr_null(refused);
	s.opened = true;
	gate_open(&full.gate, 1);
	pthread_join(thread, NULL);
	ck_assert_int_eq(s.rc, 0);
	ck_assert_msg(s.opened_before, "submit did not wait");
	gate_open(&full.gate, 1);
	support_assert_returned(s.future, "third", 5);
	pp_future_free(s.future);
	full_destroy(&full, 0);
}
END_TEST

START_TEST(max_pending_eagain)
{
	pp_future *third = (pp_future *)1;
	struct full full;

	full_make(&full);
	gate_await(&full.gate, 1);
	ck_assert_int_eq(submit_within(full.ex, PP_NONE, &third), -EAGAIN);
	ck_assert_ptr_null(third);
	ck_assert(pp_future_cancel(full.futures[1]));    /* a cancelled one is done */
	ck_assert_int_eq(submit_within(full.ex, PP_NONE, &third), 0);
	pp_future_free(full.futures[1]);
	full.futures[1] = third;
	ck_assert_int_eq(submit_within(full.ex, PP_NONE, &third), -EAGAIN);
	gate_open(&full.gate, 1);
	support_assert_returned(full.futures[0], &full.gate, sizeof full.gate);
	support_assert_returned(full.futures[1], "third", 5);
	ck_assert_int_eq(submit_within(full.ex, PP_NONE, NULL), 0);
	for (int i = 0; i < 2; i++)
		pp_future_free(full.futures[i]);
	pp_executor_free(full.ex);
	gate_destroy(&full.gate);
}
END_TEST

START_TEST(max_pending_ended_by_shutdown)
{
	struct submitter s = { .future = (pp_future *)1 };
	struct full full;
	pthread_t thread;

	full_make(&full);
	s.ex = full.ex;
	gate_await(&full.gate, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, submitter_main, &s), 0);
	ck_assert_int_eq(pp_executor_shutdown(full.ex, 0, 0), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(s.rc, -ESHUTDOWN);
	ck_assert_ptr_null(s.future);
	full_destroy(&full, 2);
}
END_TEST

static void callback_submits(pp_future *future, void *submitter_)
{
	struct submitter *s = submitter_;

	(void)future;
	s->rc = submit_within(s->ex, 0, &s->future);
	s->opened = true;
}

static bool has_submitted(void *submitter_)
{
	return ((struct submitter *)submitter_)->opened;
}

START_TEST(max_pending_never_blocks_a_callback)
{
	struct submitter s = { .future = (pp_future *)1 };
	pp_future *done;
	struct full full;

	full_make(&full);
	s.ex = full.ex;
	gate_await(&full.gate, 1);
	done = full.futures[1];
	ck_assert(pp_future_cancel(done));
	ck_assert_int_eq(submit_within(full.ex, PP_NONE, &full.futures[1]), 0);
	ck_assert_int_eq(pp_future_add_done_callback(done, callback_submits, &s), 0);
	support_until(has_submitted, &s, "the callback");
	ck_assert_int_eq(s.rc, -EAGAIN);
	ck_assert_ptr_null(s.future);
	pp_future_free(done);
	gate_open(&full.gate, 1);
	for (int i = 0; i < 2; i++) {
		support_assert_kind(full.futures[i], PP_RETURNED);
		pp_future_free(full.futures[i]);
	}
	pp_executor_free(full.ex);
	gate_destroy(&full.gate);
}
END_TEST

START_TEST(max_workers_refused)
{
	static const int32_t counts[] = { -1, -3, INT32_MIN, 257, 1000, 65536, INT32_MAX };
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		options.max_workers = counts[i];
		ex = (pp_executor *)1;
		ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
		ck_assert_ptr_null(ex);
	}
	options.max_workers = 256;
	ex = support_create(&options);
	pp_executor_free(ex);
}
END_TEST

START_TEST(max_workers_default)
{
	pp_options options = PP_OPTIONS_INIT;
	cpu_set_t all, some;
	pp_executor *ex;

	options.flags = PP_START_ALL;
	ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
	CPU_ZERO(&some);
	for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&some) < 3; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_SET(cpu, &some);
		ck_assert_int_eq(sched_setaffinity(0, sizeof some, &some), 0);
		ex = support_create(&options);
		ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), CPU_COUNT(&some));
		pp_executor_free(ex);
	}
	ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("bounds");
	TCase *pending = support_tcase(suite, "pending"), *workers = support_tcase(suite, "workers");

	tcase_add_test(pending, max_pending_blocks);
	tcase_add_test(pending, max_pending_eagain);
	tcase_add_test(pending, max_pending_ended_by_shutdown);
	tcase_add_test(pending, max_pending_never_blocks_a_callback);
	tcase_add_test(workers, max_workers_refused);
	tcase_add_test(workers, max_workers_default);
	return suite;
}

SUPPORT_MAIN(make_suite)
