/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: how workers start, are used again, are replaced after a number of tasks, and end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

static long load(const long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void count(long *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

/* What the initializers here get. */
struct init { long *counters; char text[200]; };
enum { STARTED, FINISHED, WRONG, COUNTERS };

static bool init_is_right(const struct init *init, size_t size)
{
	return size == sizeof *init && (uintptr_t)init % 16 == 0 && strcmp(init->text, "for the initializer") == 0;
}

static int initialize(pp_task *task, const void *data, size_t size)
{
	const struct init *init = data;
	pid_t *mine = malloc(sizeof *mine);

	if (!init_is_right(init, size) || pp_task_worker_data(task) || !mine)
		return 1;
	*mine = getpid();
	pp_task_set_worker_data(task, mine);
	count(&init->counters[STARTED]);
	return 0;
}

static int finalize(pp_task *task, const void *data, size_t size)
{
	const struct init *init = data;
	const pid_t *mine = pp_task_worker_data(task);

	if (init_is_right(init, size))
		count(&init->counters[mine && *mine == getpid() ? FINISHED : WRONG]);
	return 0;
}

/* Returns the pid that the initializer of its worker left. */
static int task_worker_data(pp_task *task, const void *data, size_t size)
{
	const pid_t *mine = pp_task_worker_data(task);

	(void)data;
	(void)size;
	if (!mine || *mine != getpid())
		return pp_raise(task, 1, "not this worker's data");
	return pp_return(task, mine, sizeof *mine);
}

static pp_executor *with_hooks(struct init *init, pp_options options)
{
	pp_executor *ex;

	strcpy(init->text, "for the initializer");
	init->counters = support_counters(COUNTERS);
	options.initializer = initialize;
	options.finalizer = finalize;
	options.initializer_data = init;
	options.initializer_size = sizeof *init;
	ex = support_create(&options);
	memset(init->text, 'x', sizeof init->text);      /* it was copied */
	return ex;
}

START_TEST(initializer)
{
	struct init init;
	pp_executor *ex = with_hooks(&init, support_options(3));
	pp_future *futures[30];

	for (int i = 0; i < 30; i++)
		futures[i] = support_submit(ex, task_worker_data, NULL, 0);
	for (int i = 0; i < 30; i++) {
		support_assert_kind(futures[i], PP_RETURNED);
		ck_assert_int_eq(*(const pid_t *)support_outcome(futures[i])->data, support_outcome(futures[i])->pid);
		pp_future_free(futures[i]);
	}
	ck_assert_int_ge(load(&init.counters[STARTED]), 1);
	ck_assert_int_le(load(&init.counters[STARTED]), 3);
	pp_executor_free(ex);
	support_counters_free(init.counters, COUNTERS);
}
END_TEST

START_TEST(finalizer)
{
	struct init init;
	pp_options options = support_options(3);
	pp_executor *ex;

	options.flags = PP_START_ALL;
	ex = with_hooks(&init, options);
	ck_assert_int_eq(load(&init.counters[STARTED]), 3);
	ck_assert_int_eq(load(&init.counters[FINISHED]), 0);
	pp_executor_free(ex);
	ck_assert_int_eq(load(&init.counters[FINISHED]), 3);
	ck_assert_int_eq(load(&init.counters[WRONG]), 0);
	support_counters_free(init.counters, COUNTERS);
}
END_TEST

static int fail_with_code(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	return 5;
}

static int fail_with_text(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_raise(task, 6, "no such %s", "database");
	return 0;
}

static void check_broken(pp_executor *ex, pp_future *future, const char *text)
{
	pp_future *next = future;

	support_assert_kind(future, PP_BROKEN);
	ck_assert_int_lt(support_outcome(future)->code, 0);
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	ck_assert_int_eq(pp_executor_broken(ex)->kind, PP_BROKEN);
	ck_assert_msg(strstr(pp_executor_broken(ex)->message, text), "%s", pp_executor_broken(ex)->message);
	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, &next), -EPIPE);
	ck_assert_ptr_null(next);
}

/* One that returns an error breaks the pool when no worker of it lives: at once, however many attempts there are. */
START_TEST(initializer_fails)
{
	static const struct { pp_fn *fn; const char *text; } cases[] = { { fail_with_code, "5" }, { fail_with_text, "no such database" } };

	for (int i = 0; i < 2; i++) {
		pp_options options = support_options(2);
		pp_future *futures[10];
		pp_executor *ex;
		options.initializer = cases[i].fn;
		ex = support_create(&options);
		ck_assert_ptr_null(pp_executor_broken(ex));
		for (int k = 0; k < 10; k++)
			if (pp_submit(ex, task_nothing, NULL, 0, &futures[k]) < 0)
				ck_assert_int_gt(k, 0);  /* it may have broken meanwhile */
		for (int k = 0; k < 10 && futures[k]; k++) {
			check_broken(ex, futures[k], cases[i].text);
			pp_future_free(futures[k]);
		}
		ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
		pp_executor_free(ex);
	}
}
END_TEST

START_TEST(initializer_fails_at_start_all)
{
	pp_options options = support_options(2);
	pp_executor *ex = (pp_executor *)1;

	options.flags = PP_START_ALL;
	options.initializer = fail_with_code;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -ECANCELED);
	ck_assert_ptr_null(ex);
}
END_TEST

START_TEST(start_all)
{
	pp_options options = support_options(5);
	pid_t pids[8] = { 0 };
	pp_executor *ex;

	options.flags = PP_START_ALL;
	ex = support_create(&options);
	ck_assert_int_eq(pp_executor_workers(ex, pids, 8), 5);
	for (int i = 0; i < 5; i++)
		for (int k = 0; k < i; k++)
			ck_assert_int_ne(pids[i], pids[k]);
	ck_assert_int_eq(pids[5], 0);
	pp_executor_free(ex);
}
END_TEST

/* One after the other: the first worker is free when the next task comes, because it has published. */
START_TEST(idle_reuse_one)
{
	pp_executor *ex = support_executor(4);
	pid_t first;

	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 0);
	first = support_run_for_pid(ex);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(support_run_for_pid(ex), first);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 1);
	pp_executor_free(ex);
}
END_TEST

/* Two at a time of four: no more than two workers, however often. */
START_TEST(idle_reuse_many)
{
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(4);
	for (int i = 0; i < 50; i++) {
		pp_future *a = support_submit(ex, task_gate, &gate, sizeof gate);
		pp_future *b = support_submit(ex, task_gate, &gate, sizeof gate);
		gate_await(&gate, 2);
		ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 2);
		gate_open(&gate, 2);
		support_assert_returned(a, &gate, sizeof gate);
		support_assert_returned(b, &gate, sizeof gate);
		pp_future_free(a);
		pp_future_free(b);
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(max_tasks)
{
	pp_options options = support_options(1);
	pp_executor *ex;
	pid_t before = 0;

	options.max_tasks_per_worker = 3;
	ex = support_create(&options);
	for (int worker = 0; worker < 10; worker++) {
		pid_t pid = support_run_for_pid(ex);
		ck_assert_int_ne(pid, before);
		for (int i = 1; i < 3; i++)
			ck_assert_int_eq(support_run_for_pid(ex), pid);
		before = pid;
	}
	pp_executor_free(ex);
}
END_TEST

/* Every worker that is replaced for its age ends in good order. */
START_TEST(max_tasks_runs_finalizers)
{
	struct init init;
	pp_options options = support_options(2);
	pp_executor *ex;

	options.max_tasks_per_worker = 1;
	ex = with_hooks(&init, options);
	for (int i = 0; i < 20; i++)
		support_run_for_pid(ex);
	pp_executor_free(ex);
	ck_assert_int_ge(load(&init.counters[STARTED]), 20);
	ck_assert_int_eq(load(&init.counters[FINISHED]), load(&init.counters[STARTED]));
	ck_assert_int_eq(load(&init.counters[WRONG]), 0);
	support_counters_free(init.counters, COUNTERS);
}
END_TEST

#define BACKLOG 100

/* CPython gh-115634: workers that leave for their age, while more is pending than there are workers. */
static void recycle_with_backlog(uint64_t limit, bool wait_in_shutdown)
{
	pp_options options = support_options(2);
	pp_future *futures[BACKLOG];
	pp_executor *ex;

	options.max_tasks_per_worker = limit;
	ex = support_create(&options);
	for (int i = 0; i < BACKLOG; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	if (wait_in_shutdown)
		ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < BACKLOG; i++) {
		if (wait_in_shutdown)
			ck_assert(pp_future_done(futures[i]));
		support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
}

START_TEST(max_tasks_pending_gh115634)
{
	for (uint64_t limit = 1; limit <= 4; limit++)
		recycle_with_backlog(limit, false);
}
END_TEST

/* CPython gh-119592: shutdown while workers are to be replaced: the replacements come all the same. */
START_TEST(max_tasks_shutdown_gh119592)
{
	for (uint64_t limit = 1; limit <= 4; limit++)
		recycle_with_backlog(limit, true);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("worker");
	TCase *hooks = support_tcase(suite, "hooks");
	TCase *start = support_tcase(suite, "start"), *age = support_tcase(suite, "age");

	tcase_add_test(hooks, initializer);
	tcase_add_test(hooks, finalizer);
	tcase_add_test(hooks, initializer_fails);
	tcase_add_test(hooks, initializer_fails_at_start_all);
	tcase_add_test(start, start_all);
	tcase_add_test(start, idle_reuse_one);
	tcase_add_test(start, idle_reuse_many);
	tcase_add_test(age, max_tasks);
	tcase_add_test(age, max_tasks_runs_finalizers);
	tcase_add_test(age, max_tasks_pending_gh115634);
	tcase_add_test(age, max_tasks_shutdown_gh119592);
	return suite;
}

SUPPORT_MAIN(make_suite)
