/* SPDX-License-Identifier: MIT */
/*
 * What a task costs in the steady state: no system call, of the parent or of the worker. Both are traced, and each
 * tells its tracer by a mark, a system call that no kernel has, from where to where its calls count. While the worker
 * sits in a gate the parent submits a round of tasks, and then the next gate; let through, the worker runs the round
 * up to that gate; then the parent takes the results. So nobody has anything to wait for but gates, which are not
 * counted.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

#define TASKS 1000
#define MARK  0x5ca11l

enum mark { MARK_END, MARK_BEGIN, MARK_LAST };

static void mark(enum mark what)
{
	syscall(MARK, what);             /* fails, and has been seen */
}

/* ------------------------------------------------------------------ the application */

struct marked_gate { struct gate gate; enum mark after; };

struct plan {
	struct gate gate, go;            /* what a worker waits at; what the application waits at until it is traced */
	pp_fn      *fn;
	bool        calls;               /* the parent makes one of its own with each submit */
	pid_t       worker;              /* told by the application */
};

/* What runs between two gates counts, the first one's end and the second one's claim with it. */
static int task_marked_gate(pp_task *task, const void *data, size_t size)
{
	struct marked_gate gate;

	(void)task;
	memcpy(&gate, data, size);
	mark(MARK_END);
	if (gate_pass(&gate.gate))
		return 1;
	mark(gate.after);
	return 0;
}

static int task_echo_calling(pp_task *task, const void *data, size_t size)
{
	syscall(SYS_getppid);
	return pp_return(task, data, size);
}

static pp_future *submit(pp_executor *ex, pp_fn *fn, const void *data, size_t size)
{
	pp_future *future = NULL;

	APP_CHECK(pp_submit(ex, fn, data, size, &future) == 0);
	return future;
}

static pp_future *submit_gate(pp_executor *ex, const struct plan *plan, enum mark after)
{
	const struct marked_gate gate = { plan->gate, after };

	return submit(ex, task_marked_gate, &gate, sizeof gate);
}

static void take(pp_future *future, const void *data, size_t size)
{
	const pp_outcome *outcome;

	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0 && outcome->kind == PP_RETURNED);
	APP_CHECK(outcome->size == size && memcmp(outcome->data, data, size) == 0);
	pp_future_free(future);
}

/* The worker is in a gate before and after it. Returns the gate that it is in. */
static pp_future *pass_round(pp_executor *ex, struct plan *plan, pp_future *gate, enum mark after)
{
	static pp_future *futures[TASKS];
	pp_future *next;

	mark(MARK_BEGIN);
	for (int i = 0; i < TASKS; i++) {
		futures[i] = submit(ex, plan->fn, "8 bytes.", 8);
		if (plan->calls)
			syscall(SYS_getppid);
	}
	mark(MARK_END);
	next = submit_gate(ex, plan, after);
	gate_open(&plan->gate, 1);
	gate_await(&plan->gate, 1);
	mark(MARK_BEGIN);
	for (int i = 0; i < TASKS; i++)
		take(futures[i], "8 bytes.", 8);
	mark(MARK_END);
	take(gate, "", 0);
	return next;
}

static int application(void *plan_)
{
	struct plan *plan = plan_;
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;
	pp_future *gate;

	options.max_workers = 1;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	gate = submit_gate(ex, plan, MARK_BEGIN);
	gate_await(&plan->gate, 1);
	APP_CHECK(pp_executor_workers(ex, &plan->worker, 1) == 1);
	gate = pass_round(ex, plan, gate, MARK_BEGIN);   /* which brings the memory that the next one needs */
	APP_CHECK(gate_pass(&plan->go) == 0);
	gate = pass_round(ex, plan, gate, MARK_LAST);
	gate_open(&plan->gate, 1);
	take(gate, "", 0);
	mark(MARK_LAST);
	pp_executor_free(ex);
	return 0;
}

/* ------------------------------------------------------------------ the tracer */

struct traced {
	pid_t pid;
	bool  counts, done;
	long  calls;
	long  last;                      /* number of the last one, for the report */
};

static bool attach(pid_t pid)
{
	int status;

	return ptrace(PTRACE_SEIZE, pid, NULL, (void *)(intptr_t)PTRACE_O_TRACESYSGOOD) == 0
	       && ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && waitpid(pid, &status, __WALL) == pid
	       && WIFSTOPPED(status);
}

static bool can_count(void)
{
	struct __ptrace_syscall_info info;
	pid_t pid = fork();
	bool ok;

	if (pid == 0)
		for (;;)
			pause();
	ok = pid > 0 && attach(pid) && ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0;
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, __WALL);
	}
	return ok;
}

/* The kernel lets these two be done without it. Where it does not, that is the machine's price. */
static bool is_free_elsewhere(long number)
{
	return number == SYS_clock_gettime || number == SYS_getcpu;
}

/* It stands at the begin or the end of a system call. */
static void note_call(struct traced *t)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof info, &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (info.entry.nr == MARK) {
		t->counts = info.entry.args[0] == MARK_BEGIN;
		t->done = info.entry.args[0] == MARK_LAST;
	} else if (t->counts && !is_free_elsewhere((long)info.entry.nr)) {
		t->calls++;
		t->last = (long)info.entry.nr;
	}
}

/* Each until its last mark. */
static void trace(struct traced *traced, int n)
{
	for (int left = n; left > 0; ) {
		int status, signal = 0;
		pid_t pid = waitpid(-1, &status, __WALL);
		struct traced *t = traced;
		while (t < traced + n && t->pid != pid)
			t++;
		if (t == traced + n || !WIFSTOPPED(status))
			ck_abort_msg("process %d, status %x, error %d", (int)pid, (unsigned)status, pid < 0 ? errno : 0);
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			note_call(t);
		else if (!(status >> 16))
			signal = WSTOPSIG(status);
		left -= t->done;
		ptrace(t->done ? PTRACE_DETACH : PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal);
	}
}

/* parent, worker */
static void count(pp_fn *fn, bool calls, struct traced traced[2])
{
	struct plan *plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct app app;

	ck_assert(plan != MAP_FAILED);
	gate_make(&plan->gate);
	gate_make(&plan->go);
	plan->fn = fn;
	plan->calls = calls;
	app_start(&app, application, plan);
	gate_await(&plan->go, 1);
	traced[0] = (struct traced){ .pid = app.pid };
	traced[1] = (struct traced){ .pid = plan->worker };
	for (int i = 0; i < 2; i++) {
		ck_assert(attach(traced[i].pid));
		ck_assert_int_eq(ptrace(PTRACE_SYSCALL, traced[i].pid, NULL, NULL), 0);
	}
	gate_open(&plan->go, 1);
	trace(traced, 2);
	app_finish(&app);
	gate_destroy(&plan->gate);
	gate_destroy(&plan->go);
	munmap(plan, sizeof *plan);
}

START_TEST(no_syscalls_in_steady_state)
{
	struct traced traced[2];

	count(task_echo, false, traced);
	ck_assert_msg(traced[0].calls == 0, "the parent: %ld in %d tasks, the last one number %ld", traced[0].calls, TASKS,
	              traced[0].last);
	ck_assert_msg(traced[1].calls == 0, "the worker: %ld in %d tasks, the last one number %ld", traced[1].calls, TASKS,
	              traced[1].last);
}
END_TEST

START_TEST(every_syscall_is_counted)
{
	struct traced traced[2];

	count(task_echo_calling, true, traced);
	ck_assert_int_eq(traced[0].calls, TASKS);
	ck_assert_int_eq(traced[1].calls, TASKS);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("syscalls");

	if (!app_tests_can_run() || support_under_valgrind() || support_sanitized()) {
		support_skip("no_syscalls_in_steady_state", "CK_FORK=no, valgrind, or a sanitizer with calls of its own");
		return suite;
	}
	if (!can_count()) {
		support_skip("no_syscalls_in_steady_state", "this process may not trace others, or not their system calls");
		return suite;
	}
	tcase_add_test(support_tcase(suite, "none"), no_syscalls_in_steady_state);
	tcase_add_test(support_tcase(suite, "counted"), every_syscall_is_counted);
	return suite;
}

SUPPORT_MAIN(make_suite)
