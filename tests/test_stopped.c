/* SPDX-License-Identifier: MIT */
/*
 * Section 5 of the contract: processes that are stopped (a debugger, a frozen cgroup, SIGSTOP) and continued. One that
 * is stopped is not dead: its task is neither lost nor run twice, and the others go on.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

static char state_of(pid_t pid)
{
	char path[64], text[512], *paren, state = '?';
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "r");
	if (!file)
		return 'X';
	paren = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
	if (paren && paren[1] == ' ')
		state = paren[2];
	fclose(file);
	return state;
}

static bool is_stopped(void *pid)
{
	return state_of(*(pid_t *)pid) == 'T';
}

static void stop(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	support_until(is_stopped, &pid, "stopped");
}

static void assert_works(pp_executor *ex, int n)
{
	pp_future *futures[200];

	for (int i = 0; i < n; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	for (int i = 0; i < n; i++) {
		support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
}

/* Two workers, both at the gate. */
struct pair { struct gate gate; pp_executor *ex; pp_future *futures[2]; pid_t pids[2]; };

static void pair_make(struct pair *pair)
{
	gate_make(&pair->gate);
	pair->ex = support_executor(2);
	for (int i = 0; i < 2; i++)
		pair->futures[i] = support_submit(pair->ex, task_gate, &pair->gate, sizeof pair->gate);
	gate_await(&pair->gate, 2);
	ck_assert_int_eq(pp_executor_workers(pair->ex, pair->pids, 2), 2);
}

static void pair_pass_gate(struct pair *pair)
{
	gate_open(&pair->gate, 2);
	for (int i = 0; i < 2; i++)
		support_assert_returned(pair->futures[i], &pair->gate, sizeof pair->gate);
}

static void pair_destroy(struct pair *pair)
{
	for (int i = 0; i < 2; i++)
		pp_future_free(pair->futures[i]);
	pp_executor_free(pair->ex);
	gate_destroy(&pair->gate);
}

/* Stopped in the middle of a task: it is RUNNING for as long as it takes, and then returns. */
START_TEST(stopped_and_continued)
{
	struct pair pair;
	pp_future *free_one, *stopped_one;

	pair_make(&pair);
	stop(pair.pids[0]);
	gate_open(&pair.gate, 1);
	ck_assert_int_eq(pp_wait(pair.futures, 2, PP_FIRST_COMPLETED, SUPPORT_GUARD_MS), 1);
	free_one = pp_future_done(pair.futures[0]) ? pair.futures[0] : pair.futures[1];
	stopped_one = free_one == pair.futures[0] ? pair.futures[1] : pair.futures[0];
	ck_assert_int_eq(support_outcome(free_one)->pid, pair.pids[1]);
	assert_works(pair.ex, 200);
	ck_assert(pp_future_running(stopped_one));
	gate_open(&pair.gate, 1);
	kill(pair.pids[0], SIGCONT);
	support_assert_returned(stopped_one, &pair.gate, sizeof pair.gate);
	ck_assert_int_eq(support_outcome(stopped_one)->pid, pair.pids[0]);
	assert_works(pair.ex, 20);
	pair_destroy(&pair);
}
END_TEST

/* Stopped while it sleeps: it may be the one that is woken for a task. */
START_TEST(idle_worker_stopped)
{
	for (int i = 0; i < 2; i++) {
		struct pair pair;
		pair_make(&pair);
		pair_pass_gate(&pair);
		assert_works(pair.ex, 20);
		stop(pair.pids[i]);
		for (int k = 0; k < 5; k++)
			assert_works(pair.ex, 20);
		kill(pair.pids[i], SIGCONT);
		assert_works(pair.ex, 20);
		pair_destroy(&pair);
	}
}
END_TEST

/* What a stopped worker has at hand can be killed. */
START_TEST(stopped_task_killed)
{
	struct pair pair;
	int victim;

	pair_make(&pair);
	stop(pair.pids[0]);
	stop(pair.pids[1]);
	ck_assert_int_eq(pp_future_kill(pair.futures[0]), 0);
	support_assert_kind(pair.futures[0], PP_KILLED);
	victim = support_outcome(pair.futures[0])->pid == pair.pids[1];
	ck_assert(pp_future_running(pair.futures[1]));
	assert_works(pair.ex, 20);
	kill(pair.pids[!victim], SIGCONT);
	gate_open(&pair.gate, 1);
	support_assert_returned(pair.futures[1], &pair.gate, sizeof pair.gate);
	pair_destroy(&pair);
}
END_TEST

/* Work goes on without it; deaths wait for it, but for what a worker could settle by itself. */
START_TEST(supervisor_stopped)
{
	struct pair pair;
	int segv = DIE_SEGV, sigkill = DIE_KILL;
	pp_future *dying[2];
	pid_t supervisor;

	pair_make(&pair);
	supervisor = support_supervisor();
	pair_pass_gate(&pair);
	stop(supervisor);
	assert_works(pair.ex, 100);
	dying[0] = support_submit(pair.ex, task_die, &segv, sizeof segv);
	support_assert_kind(dying[0], PP_CRASHED);
	assert_works(pair.ex, 100);
	dying[1] = support_submit(pair.ex, task_die, &sigkill, sizeof sigkill);
	kill(supervisor, SIGCONT);
	support_assert_kind(dying[1], PP_CRASHED);
	assert_works(pair.ex, 100);
	pp_future_free(dying[0]);
	pp_future_free(dying[1]);
	pair_destroy(&pair);
}
END_TEST

/* A terminal's Ctrl-C and Ctrl-Z, a hang-up: these are for the parent to decide. */
START_TEST(terminal_signals_reach_nobody)
{
	static const int to_supervisor[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGUSR1 };
	struct pair pair;
	pid_t supervisor;

	pair_make(&pair);
	supervisor = support_supervisor();
	for (size_t i = 0; i < sizeof to_supervisor / sizeof *to_supervisor; i++)
		ck_assert_int_eq(kill(supervisor, to_supervisor[i]), 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(kill(pair.pids[i], SIGINT), 0);
	pair_pass_gate(&pair);
	assert_works(pair.ex, 20);
	ck_assert_ptr_null(pp_executor_broken(pair.ex));
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(getpgid(pair.pids[i]), pair.pids[i]);
	pair_destroy(&pair);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("stopped");
	TCase *tcase = support_tcase(suite, "stopped");

	tcase_add_test(tcase, stopped_and_continued);
	tcase_add_test(tcase, idle_worker_stopped);
	tcase_add_test(tcase, stopped_task_killed);
	tcase_add_test(tcase, supervisor_stopped);
	tcase_add_test(tcase, terminal_signals_reach_nobody);
	return suite;
}

SUPPORT_MAIN(make_suite)
