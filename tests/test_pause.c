/* SPDX-License-Identifier: MIT */
/* Pause and resume: nothing starts meanwhile, what runs goes on, and nothing is lost. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

#define CALM_MS 1500             /* after which the supervisor no longer looks around by itself */
#define MANY 50
#define A_WHILE_MS 150           /* in which nothing may happen: too short can only miss a mistake */

static void submit_many(pp_executor *ex, pp_future **futures)
{
	for (int i = 0; i < MANY; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
}

static void assert_none_starts(pp_future **futures, int n)
{
	ck_assert_int_eq(pp_wait(futures, (size_t)n, PP_FIRST_COMPLETED, A_WHILE_MS), 0);
	for (int i = 0; i < n; i++)
		ck_assert_str_eq(pp_future_state(futures[i]), "pending");
}

static void take_many(pp_future **futures)
{
	for (int i = 0; i < MANY; i++) {
		support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
}

/* From workers that sleep, from none at all, and again. */
START_TEST(pause_idle)
{
	pp_executor *ex = support_executor(3);
	pp_future *futures[MANY];

	for (int round = 0; round < 3; round++) {
		ck_assert_int_eq(pp_executor_pause(ex), 0);
		ck_assert_int_eq(pp_executor_pause(ex), 0);
		submit_many(ex, futures);
		assert_none_starts(futures, MANY);
		ck_assert_int_eq(pp_executor_resume(ex), 0);
		take_many(futures);
		submit_many(ex, futures);
		take_many(futures);
	}
	ck_assert_int_eq(pp_executor_resume(ex), 0);
	pp_executor_free(ex);
}
END_TEST

/* What runs goes on and ends; what waits can be cancelled. */
START_TEST(pause_while_one_runs)
{
	struct stage stage;
	pp_future *futures[3];

	stage_make(&stage, 0);
	for (int i = 0; i < 3; i++)
		futures[i] = stage_submit(&stage, "x");
	ck_assert_int_eq(pp_executor_pause(stage.ex), 0);
	stage_let_go(&stage);
	assert_none_starts(futures, 3);
	ck_assert(pp_future_cancel(futures[1]));
	support_assert_kind(futures[1], PP_CANCELLED);
	ck_assert_int_eq(pp_executor_resume(stage.ex), 0);
	support_assert_returned(futures[0], "x", 1);
	support_assert_returned(futures[2], "x", 1);
	for (int i = 0; i < 3; i++)
		pp_future_free(futures[i]);
	stage_free(&stage);
}
END_TEST

/* A crash meanwhile is told at once, its worker is replaced, and the new one starts nothing either. */
START_TEST(pause_with_crash)
{
	struct stage stage;
	pp_future *futures[3];
	pid_t pid;

	stage_make(&stage, 0);
	for (int i = 0; i < 3; i++)
		futures[i] = stage_submit(&stage, "x");
	ck_assert_int_eq(pp_executor_pause(stage.ex), 0);
	ck_assert_int_eq(pp_executor_workers(stage.ex, &pid, 1), 1);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	support_assert_kind(stage.running, PP_CRASHED);
	assert_none_starts(futures, 3);
	ck_assert_int_eq(pp_executor_resume(stage.ex), 0);
	for (int i = 0; i < 3; i++) {
		support_assert_returned(futures[i], "x", 1);
		pp_future_free(futures[i]);
	}
	stage_free(&stage);
}
END_TEST

/* As many as there are workers run side by side after a resume: each was woken. */
START_TEST(pause_resume_wakes_all)
{
	struct gate gate;
	pp_future *futures[4];
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(4);
	for (int round = 0; round < 10; round++) {
		ck_assert_int_eq(pp_executor_pause(ex), 0);
		for (int i = 0; i < 4; i++)
			futures[i] = support_submit(ex, task_gate, &gate, sizeof gate);
		ck_assert_int_eq(pp_executor_resume(ex), 0);
		gate_await(&gate, 4);
		gate_open(&gate, 4);
		for (int i = 0; i < 4; i++) {
			support_assert_kind(futures[i], PP_RETURNED);
			pp_future_free(futures[i]);
		}
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(pause_shutdown_resumes)
{
	pp_executor *ex = support_executor(2);
	pp_future *futures[MANY];

	ck_assert_int_eq(pp_executor_pause(ex), 0);
	submit_many(ex, futures);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	take_many(futures);
	ck_assert_int_eq(pp_executor_pause(ex), -ESHUTDOWN);
	ck_assert_int_eq(pp_executor_resume(ex), -ESHUTDOWN);
	pp_executor_free(ex);
}
END_TEST

START_TEST(pause_shutdown_cancels)
{
	pp_executor *ex = support_executor(2);
	pp_future *futures[MANY];

	ck_assert_int_eq(pp_executor_pause(ex), 0);
	submit_many(ex, futures);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < MANY; i++) {
		support_assert_kind(futures[i], PP_CANCELLED);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(pause_misused)
{
	pp_executor *ex = support_executor(1);
	pid_t child;
	int status;

	ck_assert_int_eq(pp_executor_pause(NULL), -EINVAL);
	ck_assert_int_eq(pp_executor_resume(NULL), -EINVAL);
	child = fork();
	if (child == 0)
		_exit(pp_executor_pause(ex) == -ECHILD && pp_executor_resume(ex) == -ECHILD ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	pp_executor_free(ex);
}
END_TEST

static int task_counts(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)size;
	__atomic_fetch_add(*(long *const *)data, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static bool nobody_works(void *ex)
{
	return pp_executor_workers(ex, NULL, 0) == 0;
}

static bool was_counted(void *count)
{
	return __atomic_load_n((long *)count, __ATOMIC_SEQ_CST) == 1;
}

/* Idle workers leave a paused executor; a task that nobody waits for finds one all the same when it goes on. */
START_TEST(resume_after_all_have_left)
{
	pp_options options = support_options(2);
	long *count = support_counters(1);
	pp_future *future;
	pp_executor *ex;

	options.idle_timeout_ms = 30;
	ex = support_create(&options);
	future = support_submit(ex, task_echo, "x", 1);
	support_assert_returned(future, "x", 1);
	pp_future_free(future);
	ck_assert_int_eq(pp_executor_pause(ex), 0);
	support_until(nobody_works, ex, "the last worker's end");
	ck_assert_int_eq(pp_submit(ex, task_counts, PP_BYTES(count), NULL), 0);
	support_until(nobody_works, ex, "the end of whom the submit has started");
	usleep(CALM_MS * 1000);
	ck_assert_int_eq(pp_executor_resume(ex), 0);
	support_until(was_counted, count, "the task");
	pp_executor_free(ex);
	support_counters_free(count, 1);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("pause");
	TCase *pause = support_tcase(suite, "pause");

	tcase_add_test(pause, pause_idle);
	tcase_add_test(pause, resume_after_all_have_left);
	tcase_add_test(pause, pause_while_one_runs);
	tcase_add_test(pause, pause_with_crash);
	tcase_add_test(pause, pause_resume_wakes_all);
	tcase_add_test(pause, pause_shutdown_resumes);
	tcase_add_test(pause, pause_shutdown_cancels);
	tcase_add_test(pause, pause_misused);
	return suite;
}

SUPPORT_MAIN(make_suite)
