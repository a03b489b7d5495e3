/* SPDX-License-Identifier: MIT */
/*
 * Section 5 of the contract: what becomes of an executor whose parent or supervisor ends. The parents here are
 * applications in processes of their own (app.h); what they leave is found by the mark that the fixture gives to all
 * descendants of the test.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

/* Leaves a grandchild in a session of its own, which holds nothing but what it inherited, and waits at the gate itself. */
static int task_with_descendants(pp_task *task, const void *data, size_t size)
{
	struct gate gate;
	pid_t pid;

	memcpy(&gate, data, size);
	pid = fork();
	if (pid == 0) {
		setsid();
		if (fork() == 0)
			for (;;)
				pause();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	gate_pass(&gate);
	return pp_return(task, NULL, 0);
}

/* Two workers at the gate, with descendants, and a backlog. */
static pp_executor *busy_executor(struct gate *gate)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	options.max_workers = 2;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 2; i++)
		APP_CHECK(pp_submit(ex, task_with_descendants, gate, sizeof *gate, NULL) == 0);
	for (int i = 0; i < 100; i++)
		APP_CHECK(pp_submit(ex, task_echo, &i, sizeof i, NULL) == 0);
	return ex;
}

static int app_busy(void *gate)
{
	busy_executor(gate);
	return app_stay();
}

static int app_busy_twice(void *gate)
{
	busy_executor(gate);
	busy_executor(gate);
	return app_stay();
}

static void kill_parent(app_fn *fn, int tasks)
{
	struct gate gate;
	struct app app;
	pid_t pids[64];

	gate_make(&gate);
	app_start(&app, fn, &gate);
	gate_await(&gate, tasks);
	app_await_ready(&app);
	ck_assert_uint_ge(support_pool_processes(pids, 64), 1 + 3 * (size_t)tasks / 2 + (size_t)tasks);
	app_kill(&app);
	app_until_processes(0);
	gate_destroy(&gate);
}

START_TEST(parent_sigkill_leaves_nothing)
{
	kill_parent(app_busy, 2);
}
END_TEST

START_TEST(parent_sigkill_two_executors)
{
	kill_parent(app_busy_twice, 4);
}
END_TEST

/* The child holds all descriptors that the application has, so no end of file tells of the application's death. */
struct family { struct gate tasks, child; };

static int app_with_child(void *family_)
{
	struct family *family = family_;

	busy_executor(&family->tasks);
	if (fork() == 0) {
		gate_pass(&family->child);
		_exit(0);
	}
	return app_stay();
}

START_TEST(parent_sigkill_with_forked_child)
{
	struct family family;
	struct app app;

	gate_make(&family.tasks);
	gate_make(&family.child);
	app_start(&app, app_with_child, &family);
	gate_await(&family.tasks, 2);
	gate_await(&family.child, 1);
	app_await_ready(&app);
	app_kill(&app);
	app_until_processes(1);
	gate_open(&family.child, 1);
	app_until_processes(0);
	gate_destroy(&family.tasks);
	gate_destroy(&family.child);
}
END_TEST

/* The application ends in each of the usual ways while tasks run and wait: nothing is waited for, nothing is left. */
enum ending { BY_RETURN, BY_EXIT, BY_ABORT, BY_SIGTERM, ENDINGS };
struct dropped { struct gate gate; enum ending how; };

static int app_dropped(void *dropped_)
{
	struct dropped *dropped = dropped_;

	busy_executor(&dropped->gate);
	app_ready();
	switch (dropped->how) {
	case BY_EXIT: exit(0);
	case BY_ABORT: abort();
	case BY_SIGTERM: raise(SIGTERM); return 1;
	default: return 0;
	}
}

START_TEST(dropped_without_shutdown)
{
	static const int signals[ENDINGS] = { 0, 0, SIGABRT, SIGTERM };
	struct dropped dropped = { .how = (enum ending)_i };
	struct app app;
	int status;

	gate_make(&dropped.gate);
	app_start(&app, app_dropped, &dropped);
	app_await_ready(&app);
	status = app_wait(&app);
	ck_assert_int_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signals[_i]);
	ck_assert_int_eq(WIFEXITED(status) ? WEXITSTATUS(status) : 0, 0);
	app_until_processes(0);
	gate_destroy(&dropped.gate);
}
END_TEST

static pp_executor *atexit_executor;

static void submit_at_exit(void)
{
	const pp_outcome *outcome;
	pp_future *future;

	if (!atexit_executor)
		APP_CHECK(pp_executor_create(&atexit_executor, NULL) == 0);
	APP_CHECK(pp_submit(atexit_executor, task_echo, "late", 4, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0);
	APP_CHECK(outcome->kind == PP_RETURNED && outcome->size == 4 && memcmp(outcome->data, "late", 4) == 0);
	pp_future_free(future);
	pp_executor_free(atexit_executor);
	_exit(0);
}

/* The executor is there when the program begins to end, or is made then. */
static int app_atexit(void *early)
{
	if (*(int *)early)
		APP_CHECK(pp_executor_create(&atexit_executor, NULL) == 0);
	APP_CHECK(atexit(submit_at_exit) == 0);
	exit(3);                         /* the handler makes it 0 */
}

START_TEST(submit_from_atexit)
{
	app_run(app_atexit, &(int){ _i });
	app_until_processes(0);
}
END_TEST

/* Every future ends as broken, the pool says why, and nothing hangs; the application itself goes on. */
START_TEST(sigkill_supervisor_all_end)
{
	pp_future *running[2], *pending[100], *next = (pp_future *)1;
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(2);
	for (int i = 0; i < 2; i++)
		running[i] = support_submit(ex, task_gate, &gate, sizeof gate);
	for (int i = 0; i < 100; i++)
		pending[i] = support_submit(ex, task_echo, &i, sizeof i);
	gate_await(&gate, 2);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	for (int i = 0; i < 2; i++)
		support_assert_kind(running[i], PP_BROKEN);
	for (int i = 0; i < 100; i++)
		support_assert_kind(pending[i], PP_BROKEN);
	ck_assert_uint_eq(support_outcome(running[0])->attempt, 1);      /* it had started; */
	ck_assert_uint_eq(support_outcome(pending[99])->attempt, 0);     /* this had not */
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	ck_assert_int_eq(pp_executor_broken(ex)->kind, PP_BROKEN);
	ck_assert_int_lt(pp_executor_broken(ex)->code, 0);
	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, &next), -EPIPE);
	ck_assert_ptr_null(next);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	pp_executor_free(ex);
	for (int i = 0; i < 2; i++)
		pp_future_free(running[i]);
	for (int i = 0; i < 100; i++)
		pp_future_free(pending[i]);
	gate_destroy(&gate);
}
END_TEST

static bool is_broken(void *ex)
{
	return pp_executor_broken(ex) != NULL;
}

/* Nobody waits for anything when it dies; and the next executor is not concerned. */
START_TEST(sigkill_supervisor_while_idle)
{
	pp_executor *ex = support_executor(2), *other;
	pp_future *future = support_submit(ex, task_echo, "before", 6);

	support_assert_returned(future, "before", 6);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	support_until(is_broken, ex, "the pool to be broken");
	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, NULL), -EPIPE);
	support_assert_returned(future, "before", 6);
	pp_future_free(future);
	other = support_executor(1);
	future = support_submit(other, task_echo, "after", 5);
	support_assert_returned(future, "after", 5);
	pp_future_free(future);
	pp_executor_free(other);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("parent");
	TCase *supervisor = support_tcase(suite, "supervisor"), *parent;

	tcase_add_test(supervisor, sigkill_supervisor_all_end);
	tcase_add_test(supervisor, sigkill_supervisor_while_idle);
	if (!app_tests_can_run()) {
		support_skip("parent_sigkill_leaves_nothing and its kin", "CK_FORK=no");
		return suite;
	}
	parent = support_tcase(suite, "parent");
	tcase_add_test(parent, parent_sigkill_leaves_nothing);
	tcase_add_test(parent, parent_sigkill_two_executors);
	tcase_add_test(parent, parent_sigkill_with_forked_child);
	tcase_add_loop_test(parent, dropped_without_shutdown, 0, ENDINGS);
	tcase_add_loop_test(parent, submit_from_atexit, 0, 2);
	return suite;
}

SUPPORT_MAIN(make_suite)
