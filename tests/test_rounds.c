/* SPDX-License-Identifier: MIT */
/* A function run once in every worker. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

static pp_executor *all_started(int n)
{
	pp_options options = support_options(n);

	options.flags = PP_START_ALL;
	return support_create(&options);
}

/* What each process has of its own: set by a round, seen by tasks. */
static int warm;

static int task_warm_up(pp_task *task, const void *data, size_t size)
{
	(void)task;
	if (size != sizeof warm)
		return 1;
	memcpy(&warm, data, size);
	return 0;
}

static int task_is_warm(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return(task, PP_BYTES(warm));
}

static void assert_warm(pp_executor *ex, int value)
{
	for (int i = 0; i < 20; i++) {
		pp_future *future = support_submit(ex, task_is_warm, NULL, 0);
		support_assert_returned(future, PP_BYTES(value));
		pp_future_free(future);
	}
}

START_TEST(round_on_all)
{
	pp_executor *ex = all_started(4);

	assert_warm(ex, 0);
	for (int value = 1; value <= 20; value++) {
		ck_assert_int_eq(pp_executor_run_on_workers(ex, task_warm_up, PP_BYTES(value), SUPPORT_GUARD_MS), 4);
		assert_warm(ex, value);
	}
	pp_executor_free(ex);
}
END_TEST

static int refuse(pp_task *task, const void *data, size_t size)
{
	(void)data;
	return pp_raise(task, (int)size + 1, NULL);
}

START_TEST(round_of_a_broken_pool)
{
	pp_options options = support_options(2);
	pp_executor *ex;
	pp_future *future;

	options.initializer = refuse;
	ex = support_create(&options);
	future = support_submit(ex, task_nothing, NULL, 0);
	support_assert_kind(future, PP_BROKEN);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pp_executor_run_on_workers(ex, task_nothing, NULL, 0, SUPPORT_GUARD_MS), -EPIPE);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(round_without_workers)
{
	pp_executor *ex = support_executor(4);

	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_nothing, NULL, 0, SUPPORT_GUARD_MS), 0);
	pp_executor_free(ex);
}
END_TEST

/* Returns 0 in the first two that come, and an error in the others. */
static int task_counts(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	return __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED) < 2 ? 0 : pp_raise(task, 5, "not here");
}

START_TEST(round_counts_those_that_return)
{
	long *counter = support_counters(1);
	pp_executor *ex = all_started(3);

	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_counts, PP_BYTES(counter), SUPPORT_GUARD_MS), 2);
	ck_assert_int_eq(*counter, 3);
	pp_executor_free(ex);
	support_counters_free(counter, 1);
}
END_TEST

/* A busy worker runs it after its task: until then the round times out, and the next one waits for it. */
START_TEST(round_waits_for_the_busy)
{
	long *counter = support_counters(1);
	struct stage stage;
	pp_future *next;

	stage_make(&stage, 0);
	next = stage_submit(&stage, "next");
	ck_assert_int_eq(pp_executor_run_on_workers(stage.ex, task_counts, PP_BYTES(counter), 30), -ETIMEDOUT);
	ck_assert_int_eq(*counter, 0);
	ck_assert_int_eq(pp_executor_run_on_workers(stage.ex, task_counts, PP_BYTES(counter), 0), -ETIMEDOUT);
	stage_let_go(&stage);
	ck_assert_int_eq(pp_executor_run_on_workers(stage.ex, task_counts, PP_BYTES(counter), SUPPORT_GUARD_MS), 1);
	ck_assert_int_eq(*counter, 2);
	support_assert_returned(next, "next", 4);
	pp_future_free(next);
	stage_free(&stage);
	support_counters_free(counter, 1);
}
END_TEST

static int task_lasts(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	usleep(2500000);
	return 0;
}

struct patient { pp_executor *ex; int rc; };

static void call_long(void *context)
{
	struct patient *patient = context;

	patient->rc = pp_executor_run_on_workers(patient->ex, task_lasts, NULL, 0, SUPPORT_GUARD_MS);
}

/* A worker that is in it, while there are tasks to do, is not taken for one that hears nothing. */
START_TEST(round_that_lasts)
{
	struct patient patient = { NULL, -1 };
	struct sleeper sleeper;
	struct stage stage;
	pp_future *next;

	stage_make(&stage, 0);
	patient.ex = stage.ex;
	sleeper_start(&sleeper, call_long, &patient);
	next = stage_submit(&stage, "next");
	stage_let_go(&stage);
	support_assert_returned(next, "next", 4);
	sleeper_join(&sleeper);
	ck_assert_int_eq(patient.rc, 1);
	pp_future_free(next);
	stage_free(&stage);
}
END_TEST

/* The first to come dies of it. */
static int task_first_dies(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	if (__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED) == 0)
		kill(getpid(), SIGKILL);
	return 0;
}

START_TEST(round_that_kills_a_worker)
{
	long *counter = support_counters(1);
	pp_executor *ex = all_started(3);
	pp_future *futures[10];

	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_first_dies, PP_BYTES(counter), SUPPORT_GUARD_MS), 2);
	for (int i = 0; i < 10; i++)
		futures[i] = support_submit(ex, task_echo, PP_BYTES(i));
	for (int i = 0; i < 10; i++) {
		support_assert_returned(futures[i], PP_BYTES(i));
		pp_future_free(futures[i]);
	}
	ck_assert_int_eq(*counter, 3);   /* whoever replaces it does not run it */
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
	support_counters_free(counter, 1);
}
END_TEST

/* A paused executor starts no tasks, but a round is none. */
START_TEST(round_while_paused)
{
	pp_executor *ex = all_started(2);

	ck_assert_int_eq(pp_executor_pause(ex), 0);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_warm_up, PP_BYTES((int){ 9 }), SUPPORT_GUARD_MS), 2);
	ck_assert_int_eq(pp_executor_resume(ex), 0);
	assert_warm(ex, 9);
	pp_executor_free(ex);
}
END_TEST

struct caller { pp_executor *ex; long *counter; int rc; };

static void call(void *context)
{
	struct caller *caller = context;

	caller->rc = pp_executor_run_on_workers(caller->ex, task_counts, PP_BYTES(caller->counter), SUPPORT_GUARD_MS);
}

/* Threads take turns, and beside them tasks run on. */
START_TEST(round_from_threads)
{
	long *counter = support_counters(1);
	pp_executor *ex = all_started(2);
	struct caller callers[4];
	struct sleeper sleepers[4];

	for (int i = 0; i < 4; i++) {
		callers[i] = (struct caller){ ex, counter, -1 };
		sleeper_start(&sleepers[i], call, &callers[i]);
	}
	assert_warm(ex, 0);
	for (int i = 0; i < 4; i++) {
		sleeper_join(&sleepers[i]);
		ck_assert_int_ge(callers[i].rc, 0);
	}
	ck_assert_int_eq(*counter, 8);
	pp_executor_free(ex);
	support_counters_free(counter, 1);
}
END_TEST

START_TEST(round_refused)
{
	pp_executor *ex = support_executor(1);
	pid_t child;
	int status;

	ck_assert_int_eq(pp_executor_run_on_workers(NULL, task_nothing, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, NULL, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_nothing, NULL, 1, 0), -EINVAL);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_nothing, NULL, 0, -2), -EINVAL);
	child = fork();
	if (child == 0)
		_exit(pp_executor_run_on_workers(ex, task_nothing, NULL, 0, 0) == -ECHILD ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, task_nothing, NULL, 0, 0), -ESHUTDOWN);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("rounds");
	TCase *rounds = support_tcase(suite, "rounds");

	tcase_add_test(rounds, round_on_all);
	tcase_add_test(rounds, round_without_workers);
	tcase_add_test(rounds, round_of_a_broken_pool);
	tcase_add_test(rounds, round_counts_those_that_return);
	tcase_add_test(rounds, round_waits_for_the_busy);
	tcase_add_test(rounds, round_that_lasts);
	tcase_add_test(rounds, round_that_kills_a_worker);
	tcase_add_test(rounds, round_while_paused);
	tcase_add_test(rounds, round_from_threads);
	tcase_add_test(rounds, round_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
