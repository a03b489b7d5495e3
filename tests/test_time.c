/* SPDX-License-Identifier: MIT */
/*
 * Timeouts, deadlines, and the steps by which a task is stopped. Tasks that do not give way are each of another kind; in
 * every case the future ends as it should, and the same pool runs the next task.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "app.h"
#include "pool.h"
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

static int task_remaining(pp_task *task, const void *data, size_t size)
{
	int64_t left = pp_task_remaining_ms(task);

	(void)data, (void)size;
	return pp_return(task, PP_BYTES(left));
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

/* ------------------------------------------------------------------ deadlines */

START_TEST(deadline_of_a_pending_task)
{
	struct stage stage;
	pp_future *future;
	const pp_outcome *o;

	stage_make(&stage, 0);
	future = submit(stage.ex, task_echo, "x", 1, 0, SOON_MS);
	o = support_outcome(future);
	ck_assert_int_eq(o->kind, PP_TIMED_OUT);
	ck_assert_uint_eq(o->attempt, 0);
	ck_assert_int_eq(o->pid, 0);
	ck_assert(!pp_future_cancel(future));
	stage_let_go(&stage);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

static void count_end(pp_future *future, void *context)
{
	atomic_int *ended = context;

	(void)future;
	atomic_fetch_add(ended, 1);
}

/* Nobody waits, nobody looks: the callback is called all the same. */
START_TEST(deadline_calls_back)
{
	struct stage stage;
	pp_future *futures[50];
	atomic_int ended = 0;

	stage_make(&stage, 0);
	for (int i = 0; i < 50; i++) {
		futures[i] = submit(stage.ex, task_echo, "x", 1, 0, SOON_MS + i % 5);
		ck_assert_int_eq(pp_future_add_done_callback(futures[i], count_end, &ended), 0);
	}
	until_count(&ended, 50, "the callbacks of those past their deadline");
	for (int i = 0; i < 50; i++) {
		support_assert_kind(futures[i], PP_TIMED_OUT);
		pp_future_free(futures[i]);
	}
	stage_let_go(&stage);
	stage_free(&stage);
}
END_TEST

START_TEST(deadline_counts_while_running)
{
	enum stubborn how = BLOCKED;
	pp_executor *ex = create(1, GRACE_MS);
	pp_future *future = submit(ex, task_stubborn, &how, sizeof how, LONG_MS, SOON_MS);

	support_assert_kind(future, PP_TIMED_OUT);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(defaults_of_the_executor)
{
	pp_options options = support_options(1);
	pp_executor *ex;
	pp_future *timed, *other;
	enum stubborn how = BUSY;
	int64_t forever = PP_FOREVER;

	options.timeout_ms = SOON_MS;
	options.deadline_ms = LONG_MS;
	ex = support_create(&options);
	timed = support_submit(ex, task_stubborn, &how, sizeof how);
	other = submit(ex, task_remaining, NULL, 0, PP_NONE, PP_NONE);
	support_assert_kind(timed, PP_TIMED_OUT);
	support_assert_returned(other, &forever, sizeof forever);
	pp_future_free(timed);
	pp_future_free(other);
	pp_executor_free(ex);
}
END_TEST

/* Timeouts that do not come to pass cost the supervisor no wake per task. */
START_TEST(many_timeouts_cost_no_polling)
{
	enum { N = 10000 };
	pp_executor *ex = create(2, GRACE_MS);
	static pp_future *futures[N];
	char path[64], line[256];
	long before = 0, after = 0;

	for (int round = 0; round < 2; round++) {
		FILE *file;
		for (int i = 0; i < N; i++)
			futures[i] = submit(ex, task_nothing, NULL, 0, LONG_MS, LONG_MS + i);
		for (int i = 0; i < N; i++) {
			support_assert_kind(futures[i], PP_RETURNED);
			pp_future_free(futures[i]);
		}
		snprintf(path, sizeof path, "/proc/%d/status", (int)ex->supervisor.pid);
		file = fopen(path, "r");
		ck_assert_ptr_nonnull(file);
		before = after;
		while (fgets(line, sizeof line, file))
			sscanf(line, "voluntary_ctxt_switches: %ld", &after);
		fclose(file);
	}
	ck_assert_int_lt(after - before, N / 20);        /* the ticks while tasks run are some ten a second */
	pp_executor_free(ex);
}
END_TEST

/* The whole job is stopped for longer than the timeout, and goes on. */
static int stopped_job(void *context)
{
	enum stubborn how = BLOCKED;
	pp_executor *ex = create(1, GRACE_MS);
	pp_future *future = submit(ex, task_stubborn, &how, sizeof how, 200, 0);
	const pp_outcome *o;

	(void)context;
	app_ready();
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == PP_TIMED_OUT);
	pp_future_free(future);
	pp_executor_free(ex);
	return 0;
}

START_TEST(timeouts_go_on_while_stopped)
{
	struct app app;

	app_start(&app, stopped_job, NULL);
	app_await_ready(&app);
	ck_assert_int_eq(kill(app.pid, SIGSTOP), 0);
	poll(NULL, 0, 300);
	ck_assert_int_eq(kill(app.pid, SIGCONT), 0);
	app_finish(&app);
}
END_TEST

START_TEST(map_items_have_timeouts)
{
	pp_executor *ex = create(1, PP_NONE);
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map *map;

	task.timeout_ms = SOON_MS;
	options.task = &task;
	options.chunk = 2;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, (pp_map_source *)(uintptr_t)abort, NULL, &map), -EINVAL);
	pp_executor_free(ex);
}
END_TEST

START_TEST(bad_times_refused)
{
	static const int64_t bad[] = { -2, INT64_MIN };
	pp_options options = support_options(1);
	pp_executor *ex = create(1, 0);
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		task.timeout_ms = bad[i];
		ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), -EINVAL);
		task.timeout_ms = 0;
		task.deadline_ms = bad[i];
		ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), -EINVAL);
		task.deadline_ms = 0;
		options.grace_ms = bad[i];
		ck_assert_int_eq(pp_executor_create(&(pp_executor *){ NULL }, &options), -EINVAL);
	}
	options.grace_ms = 0;
	options.timeout_ms = -1;
	ck_assert_int_eq(pp_executor_create(&(pp_executor *){ NULL }, &options), -EINVAL);
	ck_assert(!pp_task_cancelled(NULL));
	ck_assert_int_eq(pp_task_remaining_ms(NULL), PP_FOREVER);
	task.timeout_ms = task.deadline_ms = INT64_MAX;
	ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), 0);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("time");
	TCase *stop = support_tcase(suite, "stop"), *deadline = support_tcase(suite, "deadline");

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
	tcase_add_test(deadline, deadline_of_a_pending_task);
	tcase_add_test(deadline, deadline_calls_back);
	tcase_add_test(deadline, deadline_counts_while_running);
	tcase_add_test(deadline, defaults_of_the_executor);
	tcase_add_test(deadline, many_timeouts_cost_no_polling);
	if (app_tests_can_run())
		tcase_add_test(deadline, timeouts_go_on_while_stopped);
	tcase_add_test(deadline, map_items_have_timeouts);
	tcase_add_test(deadline, bad_times_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
