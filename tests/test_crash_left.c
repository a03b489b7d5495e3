/* SPDX-License-Identifier: MIT */
/*
 * Section 5 of the contract: threads and children that a task leaves behind in its worker, and what becomes of futures
 * when these take the worker with them later.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"

/* What a left thread does when the gate opens. */
struct left { struct gate gate; int how; };

static void *left_main(void *left_)
{
	struct left *left = left_;

	if (gate_pass(&left->gate) == 0)
		task_die(NULL, &left->how, sizeof left->how);
	return NULL;
}

/* Leaves a thread at the gate, and returns. */
static int task_leave_thread(pp_task *task, const void *data, size_t size)
{
	struct left *left = malloc(sizeof *left);
	pthread_t thread;

	if (!left || size != sizeof *left)
		return pp_raise(task, 1, "no argument");
	memcpy(left, data, size);
	if (pthread_create(&thread, NULL, left_main, left) != 0)
		return pp_raise(task, 2, "no thread");
	pthread_detach(thread);
	return pp_return(task, "left", 4);
}

/* The ways in which a thread can end a process; pthread_exit would end only the thread. */
static const int ways[] = { DIE_SEGV, DIE_ABRT, DIE_KILL, DIE_EXIT0, DIE_EXIT99, DIE__EXIT, DIE_EXEC };
#define WAYS ((int)(sizeof ways / sizeof *ways))

static bool is_exit(int how)
{
	return how == DIE_EXIT0 || how == DIE_EXIT99 || how == DIE__EXIT || how == DIE_EXEC;
}

struct absent { pp_executor *ex; pid_t pid; };

static bool is_absent(void *absent_)
{
	struct absent *absent = absent_;
	pid_t pids[8];
	int n = pp_executor_workers(absent->ex, pids, 8);

	for (int i = 0; i < n && i < 8; i++)
		if (pids[i] == absent->pid)
			return false;
	return true;
}

static pp_future *leave_thread(pp_executor *ex, struct left *left)
{
	pp_future *future = support_submit(ex, task_leave_thread, left, sizeof *left);

	support_assert_returned(future, "left", 4);
	gate_await(&left->gate, 1);
	return future;
}

/* No task runs when the thread crashes: no future fails. */
START_TEST(crash_while_idle)
{
	struct left left = { .how = ways[_i] };
	pp_future *done[2], *next;
	struct absent absent;

	gate_make(&left.gate);
	absent.ex = support_executor(1);
	done[0] = leave_thread(absent.ex, &left);
	done[1] = support_submit(absent.ex, task_echo, "done", 4);
	support_assert_returned(done[1], "done", 4);
	absent.pid = support_outcome(done[0])->pid;
	ck_assert_int_eq(support_outcome(done[1])->pid, absent.pid);
	gate_open(&left.gate, 1);
	support_until(is_absent, &absent, "the death of the idle worker");
	support_assert_returned(done[0], "left", 4);
	support_assert_returned(done[1], "done", 4);
	next = support_submit(absent.ex, task_pid, NULL, 0);
	support_assert_kind(next, PP_RETURNED);
	ck_assert_int_ne(support_outcome(next)->pid, absent.pid);
	pp_future_free(next);
	pp_future_free(done[0]);
	pp_future_free(done[1]);
	pp_executor_free(absent.ex);
	gate_destroy(&left.gate);
}
END_TEST

/* One task runs when the thread crashes: it is charged, and the one that left the thread is not. */
START_TEST(crash_of_left_thread_charged)
{
	struct left left = { .how = ways[_i] };
	pp_future *leaver, *running, *pending;
	struct gate gate;
	pp_executor *ex;

	gate_make(&left.gate);
	gate_make(&gate);
	ex = support_executor(1);
	leaver = leave_thread(ex, &left);
	running = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	pending = support_submit(ex, task_echo, "pending", 7);
	gate_open(&left.gate, 1);
	support_assert_kind(running, is_exit(ways[_i]) ? PP_EXITED : PP_CRASHED);
	ck_assert_int_eq(support_outcome(running)->pid, support_outcome(leaver)->pid);
	support_assert_returned(pending, "pending", 7);
	support_assert_returned(leaver, "left", 4);
	pp_future_free(leaver);
	pp_future_free(running);
	pp_future_free(pending);
	pp_executor_free(ex);
	gate_destroy(&left.gate);
	gate_destroy(&gate);
}
END_TEST

#define BYTES 300000

static int task_leave_thread_and_bytes(pp_task *task, const void *data, size_t size)
{
	static char bytes[BYTES];
	int rc = task_leave_thread(task, data, size);

	memset(bytes, 'b', sizeof bytes);
	return rc ? rc : pp_return(task, bytes, sizeof bytes);
}

/* Once published a result stands, also when it is in memory that its dead worker could write to. */
START_TEST(result_published_then_exit)
{
	struct left left = { .how = ways[_i] };
	char *expected = malloc(BYTES);
	struct absent absent;
	pp_future *future;

	memset(expected, 'b', BYTES);
	gate_make(&left.gate);
	absent.ex = support_executor(1);
	future = support_submit(absent.ex, task_leave_thread_and_bytes, &left, sizeof left);
	support_assert_returned(future, expected, BYTES);
	absent.pid = support_outcome(future)->pid;
	gate_await(&left.gate, 1);
	gate_open(&left.gate, 1);
	support_until(is_absent, &absent, "the death of the worker");
	support_assert_returned(future, expected, BYTES);
	for (int i = 0; i < 20; i++) {           /* its room is not given to others meanwhile */
		pp_future *other = support_submit(absent.ex, task_echo, &left, sizeof left);
		support_assert_returned(other, &left, sizeof left);
		pp_future_free(other);
	}
	support_assert_returned(future, expected, BYTES);
	pp_future_free(future);
	pp_executor_free(absent.ex);
	gate_destroy(&left.gate);
	free(expected);
}
END_TEST

/* Published, and its worker dies before anybody has looked: the result stands all the same. */
START_TEST(result_unread_then_exit)
{
	struct left left = { .how = ways[_i] };
	struct absent absent;
	pp_future *future;

	gate_make(&left.gate);
	absent.ex = support_executor(1);
	future = support_submit(absent.ex, task_leave_thread, &left, sizeof left);
	gate_await(&left.gate, 1);
	ck_assert_int_eq(pp_executor_workers(absent.ex, &absent.pid, 1), 1);
	while (!pp_future_done(future))
		;
	gate_open(&left.gate, 1);
	support_until(is_absent, &absent, "the death of the worker");
	support_assert_returned(future, "left", 4);
	pp_future_free(future);
	pp_executor_free(absent.ex);
	gate_destroy(&left.gate);
}
END_TEST

/* A child that a task leaves behind, in a session of its own, does not outlive its worker. */
static int task_leave_child(pp_task *task, const void *data, size_t size)
{
	struct gate gate;
	pid_t pid;

	memcpy(&gate, data, size);       /* the argument is not mapped in the child */
	pid = fork();
	if (pid == 0) {
		setsid();
		gate_pass(&gate);
		_exit(0);
	}
	return pp_return(task, &pid, sizeof pid);
}

START_TEST(left_child_dies_with_worker)
{
	struct absent absent;
	struct gate gate;
	pp_future *future;
	pid_t child;

	gate_make(&gate);
	absent.ex = support_executor(1);
	future = support_submit(absent.ex, task_leave_child, &gate, sizeof gate);
	support_assert_kind(future, PP_RETURNED);
	memcpy(&child, support_outcome(future)->data, sizeof child);
	gate_await(&gate, 1);
	ck_assert_int_eq(kill(child, 0), 0);
	absent.pid = support_outcome(future)->pid;
	kill(absent.pid, SIGKILL);
	support_until(is_absent, &absent, "the death of the worker");
	pp_future_free(future);
	pp_executor_free(absent.ex);     /* that the child is gone too, the fixture asserts */
	gate_destroy(&gate);
}
END_TEST

/* A child of the task calls exit(3), which runs what the worker has registered for its own end. */
static int task_child_exits(pp_task *task, const void *data, size_t size)
{
	int status = -1;
	pid_t pid = fork();

	(void)data;
	(void)size;
	if (pid == 0)
		exit(5);
	waitpid(pid, &status, 0);
	return pp_return(task, &status, sizeof status);
}

START_TEST(exit_of_child_is_its_own)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_child_exits, NULL, 0);
	int status;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&status, support_outcome(future)->data, sizeof status);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 5);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* Says how a child ended that looked at the argument, and one that returned something for its parent. */
static int task_child_looks(pp_task *task, const void *data, size_t size)
{
	const volatile char *bytes = data;
	int status[2] = { -1, -1 };

	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(i ? pp_return(task, "child", 5) == 0 : bytes[size - 1]);
		if (pid < 0 || waitpid(pid, &status[i], 0) != pid)
			return pp_raise(task, 1, "no child");
	}
	return pp_return(task, status, sizeof status);
}

/* Neither an argument within the descriptor nor one that has a place of its own; and what a child does to itself is its
 * own end. */
START_TEST(child_has_nothing_shared)
{
	static const char bytes[100000];
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_child_looks, bytes, _i ? sizeof bytes : 1);
	int status[2];

	ck_assert_int_eq(pp_outcome_value(support_outcome(future), PP_BYTES(status)), 0);
	for (int i = 0; i < 2; i++)
		ck_assert(WIFSIGNALED(status[i]) && WTERMSIG(status[i]) == SIGSEGV);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* This one has all of the worker's memory, and its handlers. */
static int task_vforked_child_aborts(pp_task *task, const void *data, size_t size)
{
	int status = -1;
	pid_t pid = vfork();

	(void)data;
	(void)size;
	if (pid == 0) {
		raise(SIGABRT);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return pp_return(task, &status, sizeof status);
}

START_TEST(crash_of_vforked_child_is_its_own)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_vforked_child_aborts, NULL, 0);
	int status;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&status, support_outcome(future)->data, sizeof status);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("crash_left");
	TCase *threads = support_tcase(suite, "threads"), *children = support_tcase(suite, "children");

	tcase_add_loop_test(threads, crash_while_idle, 0, WAYS);
	tcase_add_loop_test(threads, crash_of_left_thread_charged, 0, WAYS);
	tcase_add_loop_test(threads, result_published_then_exit, 0, WAYS);
	tcase_add_loop_test(threads, result_unread_then_exit, 0, WAYS);
	tcase_add_test(children, left_child_dies_with_worker);
	tcase_add_test(children, exit_of_child_is_its_own);
	if (!support_sanitized())        /* whose own handler ends the child by exit */
		tcase_add_loop_test(children, child_has_nothing_shared, 0, 2);
	tcase_add_test(children, crash_of_vforked_child_is_its_own);
	return suite;
}

SUPPORT_MAIN(make_suite)
