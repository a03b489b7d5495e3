/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: ending tasks and workers on purpose. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define WORKERS 3

/* All workers at a gate. */
struct busy { struct gate gate; pp_executor *ex; pp_future *futures[WORKERS]; pid_t pids[WORKERS]; };

static void busy_make(struct busy *busy)
{
	gate_make(&busy->gate);
	busy->ex = support_executor(WORKERS);
	for (int i = 0; i < WORKERS; i++)
		busy->futures[i] = support_submit(busy->ex, task_gate, &busy->gate, sizeof busy->gate);
	gate_await(&busy->gate, WORKERS);
	ck_assert_int_eq(pp_executor_workers(busy->ex, busy->pids, WORKERS), WORKERS);
}

static void busy_destroy(struct busy *busy)
{
	for (int i = 0; i < WORKERS; i++)
		pp_future_free(busy->futures[i]);
	pp_executor_free(busy->ex);
	gate_destroy(&busy->gate);
}

static bool is_among(pid_t pid, const pid_t *pids, int n)
{
	for (int i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

static void end_all_workers(int signal)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(pp_executor_signal(busy.ex, signal), 0);
	for (int i = 0; i < WORKERS; i++) {
		support_assert_kind(busy.futures[i], PP_KILLED);
		ck_assert(is_among(support_outcome(busy.futures[i])->pid, busy.pids, WORKERS));
		ck_assert_int_eq(support_outcome(busy.futures[i])->signal, 0);
	}
	for (int i = 0; i < 2 * WORKERS; i++)
		ck_assert(!is_among(support_run_for_pid(busy.ex), busy.pids, WORKERS));
	ck_assert_ptr_null(pp_executor_broken(busy.ex));
	busy_destroy(&busy);
}

START_TEST(terminate_workers)
{
	end_all_workers(SIGTERM);
}
END_TEST

START_TEST(kill_workers)
{
	end_all_workers(SIGKILL);
}
END_TEST

/* A task that does not heed SIGTERM is killed all the same. */
static int task_deaf(pp_task *task, const void *data, size_t size)
{
	signal(SIGTERM, SIG_IGN);
	return task_gate(task, data, size);
}

START_TEST(terminate_deaf_worker)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_deaf, &gate, sizeof gate);
	gate_await(&gate, 1);
	ck_assert_int_eq(pp_executor_signal(ex, SIGTERM), 0);
	support_assert_kind(future, PP_KILLED);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* Workers that do not live (none was started; all have died; the executor has ended) cannot be killed, and that is fine. */
START_TEST(kill_workers_dead)
{
	struct busy busy;
	pp_executor *ex = support_executor(1);

	ck_assert_int_eq(pp_executor_signal(ex, SIGKILL), 0);
	ck_assert_int_ne(support_run_for_pid(ex), 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	ck_assert_int_eq(pp_executor_signal(ex, SIGKILL), 0);
	ck_assert_int_eq(pp_executor_signal(ex, SIGTERM), 0);
	pp_executor_free(ex);
	busy_make(&busy);
	for (int i = 0; i < WORKERS; i++)
		kill(busy.pids[i], SIGKILL);
	for (int i = 0; i < WORKERS; i++)
		support_assert_kind(busy.futures[i], PP_CRASHED);
	ck_assert_int_eq(pp_executor_signal(busy.ex, SIGKILL), 0);
	ck_assert(!is_among(support_run_for_pid(busy.ex), busy.pids, WORKERS));
	busy_destroy(&busy);
}
END_TEST

/* What waits is not killed by killing workers: it runs in their replacements. */
START_TEST(kill_workers_keeps_pending)
{
	pp_future *pending[50];
	struct busy busy;

	busy_make(&busy);
	for (int i = 0; i < 50; i++)
		pending[i] = support_submit(busy.ex, task_echo, &i, sizeof i);
	ck_assert_int_eq(pp_executor_signal(busy.ex, SIGKILL), 0);
	for (int i = 0; i < WORKERS; i++)
		support_assert_kind(busy.futures[i], PP_KILLED);
	for (int i = 0; i < 50; i++) {
		/* One that had just been started when the signal came is killed too. */
		if (support_outcome(pending[i])->kind != PP_KILLED)
			support_assert_returned(pending[i], &i, sizeof i);
		pp_future_free(pending[i]);
	}
	ck_assert_int_ne(support_run_for_pid(busy.ex), 0);
	busy_destroy(&busy);
}
END_TEST

START_TEST(kill_pending_is_cancel)
{
	struct busy busy;
	pp_future *pending;

	busy_make(&busy);
	pending = support_submit(busy.ex, task_echo, "x", 1);
	ck_assert_int_eq(pp_future_kill(pending), 0);
	ck_assert(pp_future_cancelled(pending));
	support_assert_kind(pending, PP_CANCELLED);
	ck_assert_int_eq(support_outcome(pending)->pid, 0);
	ck_assert_int_eq(support_outcome(pending)->worker, -1);
	ck_assert_uint_eq(support_outcome(pending)->attempt, 0);
	ck_assert_int_eq(pp_future_kill(pending), 0);
	ck_assert(pp_future_cancelled(pending));
	gate_open(&busy.gate, WORKERS);
	for (int i = 0; i < WORKERS; i++)
		support_assert_returned(busy.futures[i], &busy.gate, sizeof busy.gate);
	pp_future_free(pending);
	busy_destroy(&busy);
}
END_TEST

START_TEST(kill_running)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(pp_future_kill(busy.futures[1]), 0);
	support_assert_kind(busy.futures[1], PP_KILLED);
	ck_assert_int_ne(support_outcome(busy.futures[1])->pid, 0);
	ck_assert_uint_gt(support_outcome(busy.futures[1])->running_ns, 0);
	ck_assert(!pp_future_cancel(busy.futures[1]));
	gate_open(&busy.gate, WORKERS - 1);
	support_assert_returned(busy.futures[0], &busy.gate, sizeof busy.gate);
	support_assert_returned(busy.futures[2], &busy.gate, sizeof busy.gate);
	ck_assert_int_ne(support_run_for_pid(busy.ex), support_outcome(busy.futures[1])->pid);
	busy_destroy(&busy);
}
END_TEST

START_TEST(kill_done_changes_nothing)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_pid, NULL, 0), *failed = support_submit(ex, task_raise, NULL, 0);
	pid_t pid;

	support_assert_kind(failed, PP_RAISED);
	support_assert_kind(future, PP_RETURNED);
	memcpy(&pid, support_outcome(future)->data, sizeof pid);
	ck_assert_int_eq(pp_future_kill(future), 0);
	ck_assert_int_eq(pp_future_kill(failed), 0);
	ck_assert_int_eq(support_run_for_pid(ex), pid);
	support_assert_kind(failed, PP_RAISED);
	support_assert_returned(future, &pid, sizeof pid);
	pp_future_free(future);
	pp_future_free(failed);
	pp_executor_free(ex);
}
END_TEST

/* A kill that races with the task's end hits this task or none: never the one that its worker runs next. */
START_TEST(kill_never_hits_the_next_task)
{
	pp_executor *ex = support_executor(1);

	for (int i = 0; i < 300; i++) {
		pp_future *a = support_submit(ex, task_echo, &i, sizeof i), *b = support_submit(ex, task_echo, &i, sizeof i);
		int kind;
		if (i % 2)
			while (!pp_future_running(a) && !pp_future_done(a))
				;
		ck_assert_int_eq(pp_future_kill(a), 0);
		kind = support_outcome(a)->kind;
		ck_assert(kind == PP_KILLED || kind == PP_CANCELLED || kind == PP_RETURNED);
		support_assert_returned(b, &i, sizeof i);
		pp_future_free(a);
		pp_future_free(b);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("kill");
	TCase *workers = support_tcase(suite, "workers"), *tasks = support_tcase(suite, "tasks");

	tcase_add_test(workers, terminate_workers);
	tcase_add_test(workers, terminate_deaf_worker);
	tcase_add_test(workers, kill_workers);
	tcase_add_test(workers, kill_workers_dead);
	tcase_add_test(workers, kill_workers_keeps_pending);
	tcase_add_test(tasks, kill_pending_is_cancel);
	tcase_add_test(tasks, kill_running);
	tcase_add_test(tasks, kill_done_changes_nothing);
	tcase_add_test(tasks, kill_never_hits_the_next_task);
	return suite;
}

SUPPORT_MAIN(make_suite)
