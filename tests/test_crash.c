/* SPDX-License-Identifier: MIT */
/*
 * Section 5 of the contract: one test case per way in which a task can take its process with it. Each runs the same
 * tests, with the way as their loop variable. The way of a C++ exception is in test_cxx.cc.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define KERNEL_TELLS 1           /* fault_address and a positive si_code are there */

/* What each way has to be reported as. */
struct way { const char *name; int kind, signal, code, signal_code, flags, how_many; };

static const struct way ways[] = {
	[DIE_SEGV]          = { "SIGSEGV", PP_CRASHED, SIGSEGV, 0, SEGV_MAPERR, KERNEL_TELLS, 1000 },
	[DIE_ABRT]          = { "SIGABRT", PP_CRASHED, SIGABRT, 0, SI_TKILL, 0, 50 },
	[DIE_KILL]          = { "SIGKILL_from_outside", PP_CRASHED, SIGKILL, 0, 0, 0, 1000 },
	[DIE_FPE]           = { "SIGFPE", PP_CRASHED, SIGFPE, 0, FPE_INTDIV, KERNEL_TELLS, 50 },
	[DIE_BUS]           = { "SIGBUS", PP_CRASHED, SIGBUS, 0, BUS_ADRERR, KERNEL_TELLS, 50 },
	[DIE_ILL]           = { "SIGILL", PP_CRASHED, SIGILL, 0, ILL_ILLOPN, KERNEL_TELLS, 50 },
	[DIE_STACK]         = { "stack_overflow", PP_CRASHED, SIGSEGV, 0, 0, KERNEL_TELLS, 50 },
	[DIE_EXIT0]         = { "exit_0", PP_EXITED, 0, 0, 0, 0, 50 },
	[DIE_EXIT99]        = { "exit_99", PP_EXITED, 0, 99, 0, 0, 1000 },
	[DIE__EXIT]         = { "_exit", PP_EXITED, 0, 3, 0, 0, 50 },
	[DIE_QUICK_EXIT]    = { "quick_exit", PP_EXITED, 0, 4, 0, 0, 50 },
	[DIE_PTHREAD_EXIT]  = { "pthread_exit", PP_EXITED, 0, 0, 0, 0, 50 },
	[DIE_EXEC]          = { "execve", PP_EXITED, 0, 0, 0, 0, 50 },
	[DIE_HEAP]          = { "corrupted_heap", PP_CRASHED, SIGABRT, 0, SI_TKILL, 0, 50 },
	[DIE_CHILD_RETURNS] = { "child_returns", PP_RETURNED, 0, 0, 0, 0, 50 },
};
#define WAYS ((int)(sizeof ways / sizeof *ways))

static pp_future *submit_death(pp_executor *ex, int how)
{
	return support_submit(ex, task_die, &how, sizeof how);
}

static void assert_reported(pp_future *future, int how)
{
	support_assert_kind(future, ways[how].kind);
	if (ways[how].kind == PP_RETURNED) {
		support_assert_returned(future, "parent", 6);
		return;
	}
	ck_assert_int_eq(support_outcome(future)->signal, ways[how].signal);
	ck_assert_int_eq(support_outcome(future)->code, ways[how].code);
}

/* Tasks that run beside it, and such as wait behind it, return what they should. */
START_TEST(crash_fails_only_its_task)
{
	pp_future *beside[2], *dying, *behind[20];
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(3);
	for (int i = 0; i < 2; i++)
		beside[i] = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 2);
	dying = submit_death(ex, _i);
	for (int i = 0; i < 20; i++)
		behind[i] = support_submit(ex, task_echo, &i, sizeof i);
	assert_reported(dying, _i);
	for (int i = 0; i < 20; i++)
		support_assert_returned(behind[i], &i, sizeof i);
	for (int i = 0; i < 2; i++)
		ck_assert(pp_future_running(beside[i]));
	gate_open(&gate, 2);
	for (int i = 0; i < 2; i++) {
		support_assert_returned(beside[i], &gate, sizeof gate);
		pp_future_free(beside[i]);
	}
	for (int i = 0; i < 20; i++)
		pp_future_free(behind[i]);
	pp_future_free(dying);
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

static void assert_cause(const pp_outcome *o, const struct way *way)
{
	char text[256];
	int length = pp_outcome_describe(o, text, sizeof text);

	ck_assert_int_eq(o->kind, way->kind);
	ck_assert_int_eq(o->signal, way->signal);
	ck_assert_int_eq(o->code, way->code);
	if (way->signal_code || !way->signal)
		ck_assert_int_eq(o->signal_code, way->signal_code);
	if (way->flags & KERNEL_TELLS) {
		ck_assert_int_gt(o->signal_code, 0);
		ck_assert_uint_ne(o->fault_address, 0);
	} else {
		ck_assert_uint_eq(o->fault_address, 0);
	}
	ck_assert_uint_gt(strlen(o->message), 0);
	ck_assert_ptr_nonnull(o->data);
	ck_assert_uint_eq(o->size, 0);
	ck_assert_int_gt(length, 0);
	ck_assert_msg(strstr(text, way->signal ? "crashed" : "exited"), "%s", text);
	ck_assert_msg(strchr(text, '\n') == NULL, "%s", text);
}

START_TEST(crash_reports_cause)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_executor *ex = support_executor(1);
	pp_future *future, *before = support_submit(ex, task_pid, NULL, 0);
	const pp_outcome *o, *exception;
	int how = _i;

	options.name = "the one that dies";
	support_assert_kind(before, PP_RETURNED);
	ck_assert_int_eq(pp_submit_with(ex, &options, task_die, &how, sizeof how, &future), 0);
	o = support_outcome(future);
	ck_assert_str_eq(o->task_name, "the one that dies");
	ck_assert_int_eq(o->pid, support_outcome(before)->pid);
	ck_assert_int_eq(o->worker, 0);
	ck_assert_uint_eq(o->attempt, 1);
	ck_assert_uint_gt(o->running_ns, 0);
	ck_assert_int_eq(pp_future_exception(future, 0, &exception), 0);
	if (how == DIE_CHILD_RETURNS) {
		ck_assert_ptr_null(exception);
		support_assert_returned(future, "parent", 6);
	} else {
		ck_assert_ptr_eq(exception, o);
		assert_cause(o, &ways[how]);
	}
	if (how == DIE_SEGV)
		ck_assert_uint_eq(o->fault_address, 16);
	ck_assert_str_eq(pp_future_state(future), "finished");
	pp_future_free(before);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(crash_then_next_task_runs)
{
	pp_executor *ex = support_executor(1);

	for (int i = 0; i < 3; i++) {
		pp_future *dying = submit_death(ex, _i), *next;
		assert_reported(dying, _i);
		next = support_submit(ex, task_pid, NULL, 0);
		support_assert_kind(next, PP_RETURNED);
		if (_i != DIE_CHILD_RETURNS)
			ck_assert_int_ne(support_outcome(next)->pid, support_outcome(dying)->pid);
		ck_assert_int_eq(support_outcome(next)->worker, 0);
		pp_future_free(dying);
		pp_future_free(next);
	}
	pp_executor_free(ex);
}
END_TEST

/* CPython loses all of the hundred; here it is none. */
START_TEST(crash_with_100_pending)
{
	pp_future *at_gate, *dying, *pending[100];
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(1);
	at_gate = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	dying = submit_death(ex, _i);
	for (int i = 0; i < 100; i++)
		pending[i] = support_submit(ex, task_echo, &i, sizeof i);
	ck_assert(!pp_future_done(dying));
	gate_open(&gate, 1);
	for (int i = 0; i < 100; i++) {
		support_assert_returned(pending[i], &i, sizeof i);
		pp_future_free(pending[i]);
	}
	assert_reported(dying, _i);
	support_assert_returned(at_gate, &gate, sizeof gate);
	pp_future_free(dying);
	pp_future_free(at_gate);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* Four workers, and nothing but tasks that end them; then everything works as before. */
START_TEST(every_task_crashes)
{
	int n = ways[_i].how_many;
	pp_executor *ex = support_executor(4);
	pp_future *futures[1000];

	for (int i = 0; i < n; i++)
		futures[i] = submit_death(ex, _i);
	for (int i = 0; i < n; i++) {
		assert_reported(futures[i], _i);
		pp_future_free(futures[i]);
	}
	ck_assert_ptr_null(pp_executor_broken(ex));
	for (int i = 0; i < 20; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("crash");

	for (int how = 0; how < WAYS; how++) {
		TCase *tcase = support_tcase(suite, ways[how].name);
		tcase_add_loop_test(tcase, crash_fails_only_its_task, how, how + 1);
		tcase_add_loop_test(tcase, crash_reports_cause, how, how + 1);
		tcase_add_loop_test(tcase, crash_then_next_task_runs, how, how + 1);
		tcase_add_loop_test(tcase, crash_with_100_pending, how, how + 1);
		tcase_add_loop_test(tcase, every_task_crashes, how, how + 1);
	}
	return suite;
}

SUPPORT_MAIN(make_suite)
