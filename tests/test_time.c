/* SPDX-License-Identifier: MIT */
/*
 * Timeouts, and the steps by which a task is stopped. Tasks that do not give way are each of another kind; in
 * every case the future ends as it should, and the same pool runs the next task.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "app.h"
#include "stage.h"

#define SOON_MS   20
#define GRACE_MS  10
#define LONG_MS   (INT64_C(3600) * 1000)

static pp_executor *create(int n, int64_t grace_ms)
{
	pp_options options = support_options(n);

	options.grace_ms = grace_ms;
	return support_create(&options);
}

static pp_future *submit(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int64_t timeout_ms, int64_t deadline_ms)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.name = "timed";
	options.timeout_ms = timeout_ms;
	options.deadline_ms = deadline_ms;
	ck_assert_int_eq(pp_submit_with(ex, &options, fn, data, size, &future), 0);
	return future;
}

/* ------------------------------------------------------------------ tasks */

enum stubborn { BUSY, BLOCKED, IGNORES_TERM, ALL_BLOCKED, STOPPED, WITH_CHILDREN, STUBBORN_KINDS };

static void sleep_for_ever(void)
{
	for (;;)
		poll(NULL, 0, -1);
}

static void ignore_all(void)
{
	for (int s = 1; s < 32; s++)
		signal(s, SIG_IGN);
}

/* Two children that ignore signals; one has left the session. */
static void have_children(void)
{
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			ignore_all();
			if (i)
				setsid();
			sleep_for_ever();
		}
	}
}

static int task_stubborn(pp_task *task, const void *data, size_t size)
{
	enum stubborn how;
	sigset_t all;

	(void)task;
	memcpy(&how, data, size);
	if (how == BUSY)
		for (volatile unsigned n = 0; ; n = n + 1)
			;
	if (how == IGNORES_TERM)
		ignore_all();
	if (how == ALL_BLOCKED) {
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
	}
	if (how == STOPPED)
		raise(SIGSTOP);
	if (how == WITH_CHILDREN)
		have_children();
	sleep_for_ever();
	return 0;
}

/* Ends when it is asked to, and returns what remained of its time at its start. */
static int task_gives_way(pp_task *task, const void *data, size_t size)
{
	int64_t left = pp_task_remaining_ms(task);

	(void)data, (void)size;
	while (!pp_task_cancelled(task))
		poll(NULL, 0, 1);
	return pp_return(task, PP_BYTES(left));
}

static int written_to;

static void on_term(int signal)
{
	(void)signal;
	if (write(written_to, "t", 1) == 1)
		_exit(0);
}

/* Cleans up in its own handler. */
static int task_cleans_up(pp_task *task, const void *data, size_t size)
{
	(void)task;
	memcpy(&written_to, data, size);
	signal(SIGTERM, on_term);
	sleep_for_ever();
	return 0;
}

static int task_late_crash(pp_task *task, const void *data, size_t size)
{
	(void)data, (void)size;
	while (!pp_task_cancelled(task))
		poll(NULL, 0, 1);
	abort();
}

/* ------------------------------------------------------------------ stopping */

static void assert_timed_out(pp_future *future)
{
	const pp_outcome *o = support_outcome(future);

	ck_assert_msg(o->kind == PP_TIMED_OUT, "%s: %s", pp_kind_name(o->kind), o->message);
	ck_assert_uint_eq(o->attempt, 1);
	ck_assert_int_gt(o->pid, 0);
	ck_assert_str_eq(o->task_name, "timed");
	ck_assert_uint_ge(o->running_ns, SOON_MS * 1000000);
}

static void time_out(enum stubborn how, int64_t grace_ms)
{
	pp_executor *ex = create(1, grace_ms);
	pp_future *future = submit(ex, task_stubborn, &how, sizeof how, SOON_MS, 0);
	pp_future *next = support_submit(ex, task_echo, "next", 4);

	assert_timed_out(future);
	support_assert_returned(next, "next", 4);
	pp_future_free(future);
	pp_future_free(next);
	pp_executor_free(ex);
}

START_TEST(timeout_stops_stubborn)
{
	time_out((enum stubborn)_i, GRACE_MS);
}
END_TEST

START_TEST(timeout_without_grace)
{
	time_out((enum stubborn)_i, PP_NONE);
}
END_TEST

START_TEST(timeout_leaves_no_descendant)
{
	time_out(WITH_CHILDREN, GRACE_MS);
	app_until_processes(0);
}
END_TEST

/* What it publishes before the first signal stands. */
START_TEST(timeout_gives_way_and_returns)
{
	pp_executor *ex = create(1, LONG_MS);
	pp_future *future = submit(ex, task_gives_way, NULL, 0, SOON_MS, 0);
	int64_t left;

	ck_assert_int_eq(pp_outcome_value(support_outcome(future), PP_BYTES(left)), 0);
	ck_assert_int_le(left, SOON_MS);
	ck_assert_int_ge(left, 0);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(crash_after_being_asked_is_a_crash)
{
	pp_executor *ex = create(1, LONG_MS);
	pp_future *future = submit(ex, task_late_crash, NULL, 0, SOON_MS, 0);

	support_assert_kind(future, PP_CRASHED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(term_handler_cleans_up)
{
	pp_executor *ex;
	pp_future *future;
	int fds[2];
	char byte = 0;

	ck_assert_int_eq(pipe(fds), 0);
	ex = create(1, GRACE_MS);
	future = submit(ex, task_cleans_up, &fds[1], sizeof fds[1], SOON_MS, 0);
	assert_timed_out(future);
	ck_assert_int_eq(read(fds[0], &byte, 1), 1);
	ck_assert_int_eq(byte, 't');
	pp_future_free(future);
	pp_executor_free(ex);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

START_TEST(kill_goes_in_steps)
{
	enum stubborn how = IGNORES_TERM;
	pp_executor *ex = create(1, GRACE_MS);
	pp_future *future = support_submit(ex, task_stubborn, &how, sizeof how);

	support_until_running(future);
	ck_assert_int_eq(pp_future_kill(future), 0);
	ck_assert_int_eq(pp_future_kill(future), 0);
	support_assert_kind(future, PP_KILLED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(kill_lets_it_give_way)
{
	pp_executor *ex = create(1, LONG_MS);
	pp_future *future = support_submit(ex, task_gives_way, NULL, 0);
	int64_t left = PP_FOREVER;

	support_until_running(future);
	ck_assert_int_eq(pp_future_kill(future), 0);
	support_assert_returned(future, PP_BYTES(left));
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(shutdown_kill_asks_first)
{
	pp_executor *ex = create(2, LONG_MS);
	pp_future *future = support_submit(ex, task_gives_way, NULL, 0);
	int64_t left = PP_FOREVER;

	support_until_running(future);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_KILL | PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	support_assert_returned(future, PP_BYTES(left));
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* A kill that comes too late does not meet the next task of that worker. */
START_TEST(kill_never_hits_the_next)
{
	pp_executor *ex = create(1, GRACE_MS);
	pp_future *one, *two;

	for (int i = 0; i < 200; i++) {
		one = support_submit(ex, task_nothing, NULL, 0);
		two = support_submit(ex, task_echo, &i, sizeof i);
		pp_future_kill(one);
		support_assert_returned(two, &i, sizeof i);
		pp_future_free(one);
		pp_future_free(two);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("time");
	TCase *stop = support_tcase(suite, "stop");

	tcase_add_loop_test(stop, timeout_stops_stubborn, 0, STUBBORN_KINDS);
	tcase_add_loop_test(stop, timeout_without_grace, 0, STUBBORN_KINDS);
	tcase_add_test(stop, timeout_leaves_no_descendant);
	tcase_add_test(stop, timeout_gives_way_and_returns);
	tcase_add_test(stop, crash_after_being_asked_is_a_crash);
	tcase_add_test(stop, term_handler_cleans_up);
	tcase_add_test(stop, kill_goes_in_steps);
	tcase_add_test(stop, kill_lets_it_give_way);
	tcase_add_test(stop, shutdown_kill_asks_first);
	tcase_add_test(stop, kill_never_hits_the_next);
	return suite;
}

SUPPORT_MAIN(make_suite)
