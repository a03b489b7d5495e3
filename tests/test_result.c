/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: waiting for the result of one future. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

struct asker { pp_future *future; int64_t timeout_ms; int rc; const pp_outcome *outcome; int64_t took_ms; };

static void ask_result(void *asker_)
{
	struct asker *a = asker_;
	int64_t start = now_ms();

	a->rc = pp_future_result(a->future, a->timeout_ms, &a->outcome);
	a->took_ms = now_ms() - start;
}

static void ask_exception(void *asker_)
{
	struct asker *a = asker_;
	int64_t start = now_ms();

	a->rc = pp_future_exception(a->future, a->timeout_ms, &a->outcome);
	a->took_ms = now_ms() - start;
}

static void result_while_running_for(int64_t timeout_ms)
{
	struct asker asker = { .timeout_ms = timeout_ms };
	struct sleeper sleeper;
	struct stage stage;

	stage_make(&stage, 0);
	asker.future = stage.running;
	sleeper_start(&sleeper, ask_result, &asker);
	ck_assert(!sleeper_returned(&sleeper));
	gate_open(&stage.gate, 1);
	sleeper_join(&sleeper);
	ck_assert_int_eq(asker.rc, 0);
	ck_assert_int_eq(asker.outcome->kind, PP_RETURNED);
	ck_assert_mem_eq(asker.outcome->data, &stage.gate, sizeof stage.gate);
	stage_free(&stage);
}

START_TEST(result_while_running)
{
	result_while_running_for(PP_FOREVER);
	result_while_running_for(SUPPORT_GUARD_MS);
	result_while_running_for(INT64_MAX);
}
END_TEST

static void assert_cancel_wakes(sleeper_fn *ask)
{
	struct asker asker = { .timeout_ms = PP_FOREVER };
	struct sleeper sleeper;
	struct stage stage;

	stage_make(&stage, 0);
	asker.future = stage_submit(&stage, "pending");
	sleeper_start(&sleeper, ask, &asker);
	ck_assert(!sleeper_returned(&sleeper));
	ck_assert(pp_future_cancel(asker.future));
	sleeper_join(&sleeper);
	ck_assert_int_eq(asker.rc, 0);
	ck_assert_int_eq(asker.outcome->kind, PP_CANCELLED);
	pp_future_free(asker.future);
	stage_free(&stage);
}

START_TEST(result_while_cancelled)
{
	assert_cancel_wakes(ask_result);
	assert_cancel_wakes(ask_exception);
}
END_TEST

START_TEST(result_while_killed)
{
	struct asker asker = { .timeout_ms = PP_FOREVER };
	struct sleeper sleeper;
	struct stage stage;

	stage_make(&stage, 0);
	asker.future = stage.running;
	sleeper_start(&sleeper, ask_result, &asker);
	ck_assert(!sleeper_returned(&sleeper));
	ck_assert_int_eq(pp_future_kill(stage.running), 0);
	sleeper_join(&sleeper);
	ck_assert_int_eq(asker.rc, 0);
	ck_assert_int_eq(asker.outcome->kind, PP_KILLED);
	stage_free(&stage);
}
END_TEST

START_TEST(result_from_many_threads)
{
	struct asker askers[8];
	struct sleeper sleepers[8];
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < 8; i++) {
		askers[i] = (struct asker){ .future = stage.running };
		askers[i].timeout_ms = i % 2 ? PP_FOREVER : SUPPORT_GUARD_MS;
		sleeper_start(&sleepers[i], i < 6 ? ask_result : ask_exception, &askers[i]);
	}
	gate_open(&stage.gate, 1);
	for (int i = 0; i < 8; i++) {
		sleeper_join(&sleepers[i]);
		ck_assert_int_eq(askers[i].rc, 0);
		ck_assert_ptr_eq(askers[i].outcome, i < 6 ? support_outcome(stage.running) : NULL);
	}
	support_assert_returned(stage.running, &stage.gate, sizeof stage.gate);
	stage_free(&stage);
}
END_TEST

/* Some of the threads that wait for one future give up before it ends; the others are woken all the same. */
START_TEST(result_some_give_up)
{
	struct asker askers[6];
	struct sleeper sleepers[6];
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < 6; i++) {
		askers[i] = (struct asker){ .future = stage.running, .timeout_ms = i % 2 ? PP_FOREVER : 20 };
		sleeper_start(&sleepers[i], ask_result, &askers[i]);
	}
	for (int i = 0; i < 6; i += 2) {
		sleeper_join(&sleepers[i]);
		ck_assert_int_eq(askers[i].rc, -ETIMEDOUT);
		ck_assert_ptr_null(askers[i].outcome);
	}
	gate_open(&stage.gate, 1);
	for (int i = 1; i < 6; i += 2) {
		sleeper_join(&sleepers[i]);
		ck_assert_int_eq(askers[i].rc, 0);
		ck_assert_int_eq(askers[i].outcome->kind, PP_RETURNED);
	}
	stage_free(&stage);
}
END_TEST

static void assert_times_out(pp_future *future, sleeper_fn *ask)
{
	static const int64_t timeouts[] = { 0, 1, 30, 120 };

	for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
		struct asker asker = { .future = future, .timeout_ms = timeouts[i], .outcome = (const pp_outcome *)1 };
		ask(&asker);
		ck_assert_int_eq(asker.rc, -ETIMEDOUT);
		ck_assert_ptr_null(asker.outcome);
		ck_assert_int_ge(asker.took_ms + 1, timeouts[i]);        /* two clocks are rounded down */
		ck_assert_int_lt(asker.took_ms, SUPPORT_GUARD_MS);
	}
}

START_TEST(result_timeout)
{
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "pending");
	assert_times_out(stage.running, ask_result);
	assert_times_out(pending, ask_result);
	ck_assert_int_eq(pp_future_result(pending, 0, NULL), -ETIMEDOUT);
	stage_let_go(&stage);
	support_assert_returned(pending, "pending", 7);          /* a timeout changed nothing */
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

START_TEST(exception_timeout)
{
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "pending");
	assert_times_out(stage.running, ask_exception);
	assert_times_out(pending, ask_exception);
	ck_assert_int_eq(pp_future_exception(pending, 0, NULL), -ETIMEDOUT);
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

/* Timeout 0 sees an end by itself: whoever only ever looks gets there. */
START_TEST(result_by_polling)
{
	pp_executor *ex = support_executor(1);
	const pp_outcome *outcome;
	int64_t until = now_ms() + SUPPORT_GUARD_MS;
	pp_future *future;
	int rc;

	for (int i = 0; i < 100; i++) {
		future = support_submit(ex, task_echo, &i, sizeof i);
		do
			rc = pp_future_result(future, 0, &outcome);
		while (rc == -ETIMEDOUT && now_ms() < until);
		ck_assert_int_eq(rc, 0);
		ck_assert_mem_eq(outcome->data, &i, sizeof i);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(exception_none_when_returned)
{
	pp_executor *ex = support_executor(1);
	const pp_outcome *outcome = (const pp_outcome *)1;
	pp_future *future = support_submit(ex, task_echo, "fine", 4);

	ck_assert_int_eq(pp_future_exception(future, SUPPORT_GUARD_MS, &outcome), 0);
	ck_assert_ptr_null(outcome);
	outcome = (const pp_outcome *)1;
	ck_assert_int_eq(pp_future_exception(future, 0, &outcome), 0);
	ck_assert_ptr_null(outcome);
	ck_assert_int_eq(pp_future_exception(future, 0, NULL), 0);
	ck_assert_int_eq(pp_future_result(future, 0, NULL), 0);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static void assert_exception(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int kind)
{
	pp_future *future = support_submit(ex, fn, data, size);
	const pp_outcome *outcome = NULL;

	ck_assert_int_eq(pp_future_exception(future, SUPPORT_GUARD_MS, &outcome), 0);
	ck_assert_ptr_nonnull(outcome);
	ck_assert_int_eq(outcome->kind, kind);
	ck_assert_ptr_eq(outcome, support_outcome(future));
	pp_future_free(future);
}

START_TEST(exception_of_each_kind)
{
	const pp_outcome *outcome = NULL;
	int crash = DIE_SEGV, end = DIE_EXIT99;
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "pending");
	ck_assert(pp_future_cancel(pending));
	ck_assert_int_eq(pp_future_exception(pending, 0, &outcome), 0);
	ck_assert_ptr_nonnull(outcome);
	ck_assert_int_eq(outcome->kind, PP_CANCELLED);
	stage_let_go(&stage);
	assert_exception(stage.ex, task_raise, NULL, 0, PP_RAISED);
	assert_exception(stage.ex, task_die, &crash, sizeof crash, PP_CRASHED);
	assert_exception(stage.ex, task_die, &end, sizeof end, PP_EXITED);
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

static atomic_int signals;

static void count_signal(int signal)
{
	(void)signal;
	signals++;
}

START_TEST(eintr_does_not_end_result)
{
	struct sigaction action = { .sa_handler = count_signal }, before;      /* without SA_RESTART */
	struct asker asker = { .timeout_ms = PP_FOREVER };
	struct sleeper sleeper;
	struct stage stage;

	stage_make(&stage, 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &action, &before), 0);
	asker.future = stage.running;
	sleeper_start(&sleeper, ask_result, &asker);
	for (int i = 1; i <= 50; i++) {
		pthread_kill(sleeper.thread, SIGUSR1);
		until_count(&signals, i, "the signal's handler");
	}
	ck_assert(!sleeper_returned(&sleeper));
	gate_open(&stage.gate, 1);
	sleeper_join(&sleeper);
	ck_assert_int_eq(asker.rc, 0);
	ck_assert_int_eq(sigaction(SIGUSR1, &before, NULL), 0);
	stage_free(&stage);
}
END_TEST

static int task_abort(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	abort();
}

static void nothing(pp_future *future, void *context)
{
	(void)future;
	(void)context;
}

/* What a thread gets done that was cancelled before. */
struct doomed { struct stage *stage; atomic_int done; pp_executor *other; const pp_outcome *crash; FILE *null; };

static void *doomed_main(void *doomed_)
{
	struct doomed *d = doomed_;
	pp_future *running = d->stage->running, *future = NULL, *next;
	pp_walk *walk = NULL;

	pthread_cancel(pthread_self());
	d->done += pp_future_result(running, 20, NULL) == -ETIMEDOUT;
	d->done += pp_wait(&running, 1, PP_ALL_COMPLETED, 20) == 0;
	d->done += pp_as_completed(&running, 1, 20, &walk) == 0;
	d->done += pp_walk_next(walk, &next) == -ETIMEDOUT;
	pp_walk_free(walk);
	d->done += pp_submit(d->stage->ex, task_nothing, NULL, 0, &future) == 0;
	d->done += pp_future_cancel(future);
	pp_future_free(future);
	d->done += pp_executor_dispatch(d->stage->ex, 0) == 0;
	d->done += pp_executor_shutdown(d->stage->ex, PP_SHUTDOWN_WAIT, 20) == -ETIMEDOUT;
	d->done += pp_outcome_print(d->crash, d->null) == 0;
	pp_executor_free(d->other);
	d->done++;
	if (!support_sanitized())        /* AddressSanitizer takes the unwinding for an overflow */
		pthread_testcancel();
	return NULL;
}

START_TEST(no_call_is_a_cancellation_point)
{
	struct doomed doomed = { .other = support_executor(1), .null = fopen("/dev/null", "w") };
	pp_future *crashed = support_submit(doomed.other, task_abort, NULL, 0);
	struct stage stage;
	pthread_t thread;
	void *end;

	ck_assert_ptr_nonnull(doomed.null);
	setvbuf(doomed.null, NULL, _IONBF, 0);
	ck_assert_int_eq(pp_future_result(crashed, SUPPORT_GUARD_MS, &doomed.crash), 0);
	ck_assert_int_eq(pp_future_add_done_callback(crashed, nothing, NULL), 0);
	stage_make(&stage, PP_SELF_DISPATCH);
	doomed.stage = &stage;
	ck_assert_int_eq(pthread_create(&thread, NULL, doomed_main, &doomed), 0);
	ck_assert_int_eq(pthread_join(thread, &end), 0);
	ck_assert_int_eq(doomed.done, 10);
	ck_assert(support_sanitized() || end == PTHREAD_CANCELED);
	fclose(doomed.null);
	pp_future_free(crashed);
	stage_free(&stage);
}
END_TEST

static void *create_cancelled(void *executor)
{
	pthread_cancel(pthread_self());
	return pp_executor_create(executor, NULL) == 0 ? executor : NULL;
}

/* The first of all executors, for which more is made; it is made once, or the fork would wait for itself. */
START_TEST(create_is_no_cancellation_point)
{
	pp_executor *ex = NULL;
	pthread_t thread;
	void *made;
	pid_t pid;

	ck_assert_int_eq(pthread_create(&thread, NULL, create_cancelled, &ex), 0);
	ck_assert_int_eq(pthread_join(thread, &made), 0);
	ck_assert_ptr_eq(made, &ex);
	pp_executor_free(ex);
	ex = support_executor(1);
	pid = fork();
	if (pid == 0)
		_exit(0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("result");
	TCase *blocked = support_tcase(suite, "blocked"), *timeouts = support_tcase(suite, "timeout");
	TCase *exceptions = support_tcase(suite, "exception"), *undisturbed = support_tcase(suite, "undisturbed");

	tcase_add_test(blocked, result_while_running);
	tcase_add_test(blocked, result_while_cancelled);
	tcase_add_test(blocked, result_while_killed);
	tcase_add_test(blocked, result_from_many_threads);
	tcase_add_test(blocked, result_some_give_up);
	tcase_add_test(timeouts, result_timeout);
	tcase_add_test(timeouts, exception_timeout);
	tcase_add_test(timeouts, result_by_polling);
	tcase_add_test(exceptions, exception_none_when_returned);
	tcase_add_test(exceptions, exception_of_each_kind);
	tcase_add_test(undisturbed, eintr_does_not_end_result);
	tcase_add_test(undisturbed, no_call_is_a_cancellation_point);
	tcase_add_test(undisturbed, create_is_no_cancellation_point);
	return suite;
}

SUPPORT_MAIN(make_suite)
