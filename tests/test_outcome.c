/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: what an outcome tells, field by field, in each kind. In words: test_describe.c. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "stage.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* What does not belong to the kind is empty. */
static void assert_no_payload(const pp_outcome *o)
{
	ck_assert_ptr_nonnull(o->data);
	ck_assert_uint_eq(o->size, 0);
}

static void assert_no_crash(const pp_outcome *o)
{
	ck_assert_int_eq(o->signal, 0);
	ck_assert_int_eq(o->signal_code, 0);
	ck_assert_uint_eq(o->fault_address, 0);
}

static void assert_ran(const pp_outcome *o, pid_t pid)
{
	ck_assert_int_eq(o->pid, pid);
	ck_assert_int_eq(o->worker, 0);
	ck_assert_uint_eq(o->attempt, 1);
	ck_assert_uint_gt(o->running_ns, 0);
}

static void assert_never_ran(const pp_outcome *o)
{
	ck_assert_int_eq(o->pid, 0);
	ck_assert_int_eq(o->worker, -1);
	ck_assert_uint_eq(o->attempt, 0);
	ck_assert_uint_eq(o->running_ns, 0);
	ck_assert_uint_gt(o->queued_ns, 0);
}

static void assert_one_line(const char *text)
{
	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_null(strchr(text, '\n'));
}

static pid_t only_worker(pp_executor *ex)
{
	pid_t pid = 0;

	ck_assert_int_eq(pp_executor_workers(ex, &pid, 1), 1);
	return pid;
}

START_TEST(returned_tells)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit_named(ex, "echo", task_echo, "bytes", 5);
	const pp_outcome *o = support_outcome(future);

	ck_assert_int_eq(o->kind, PP_RETURNED);
	ck_assert_int_eq(o->code, 0);
	ck_assert_str_eq(o->message, "");
	ck_assert_str_eq(o->task_name, "echo");
	ck_assert_mem_eq(o->data, "bytes", 5);
	assert_ran(o, only_worker(ex));
	assert_no_crash(o);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(raised_tells)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit_named(ex, "raise", task_raise, NULL, 0);
	const pp_outcome *o = support_outcome(future);

	ck_assert_int_eq(o->kind, PP_RAISED);
	ck_assert_int_eq(o->code, 7);
	ck_assert_str_eq(o->message, "raised on purpose");
	ck_assert_str_eq(o->task_name, "raise");
	assert_ran(o, only_worker(ex));
	assert_no_payload(o);
	assert_no_crash(o);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* The worker is at the gate first, so that its pid can be asked for. */
static const pp_outcome *die_after_gate(struct stage *stage, enum death how, pp_future **future, pid_t *pid)
{
	int argument = (int)how;

	*future = support_submit_named(stage->ex, "die", task_die, &argument, sizeof argument);
	*pid = only_worker(stage->ex);
	stage_let_go(stage);
	return support_outcome(*future);
}

START_TEST(crashed_tells)
{
	struct stage stage;
	pp_future *future;
	const pp_outcome *o;
	pid_t pid;

	stage_make(&stage, 0);
	o = die_after_gate(&stage, DIE_SEGV, &future, &pid);
	ck_assert_int_eq(o->kind, PP_CRASHED);
	ck_assert_int_eq(o->code, 0);
	ck_assert_int_eq(o->signal, SIGSEGV);
	ck_assert_int_eq(o->signal_code, SEGV_MAPERR);
	ck_assert_uint_eq(o->fault_address, 16);
	ck_assert_str_eq(o->task_name, "die");
	assert_one_line(o->message);
	assert_no_payload(o);
	assert_ran(o, pid);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

START_TEST(exited_tells)
{
	static const struct { enum death how; int status; } ways[] = {
		{ DIE_EXIT0, 0 }, { DIE_EXIT99, 99 }, { DIE__EXIT, 3 }, { DIE_QUICK_EXIT, 4 },
		{ DIE_PTHREAD_EXIT, 0 } };

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct stage stage;
		pp_future *future;
		const pp_outcome *o;
		pid_t pid;
		stage_make(&stage, 0);
		o = die_after_gate(&stage, ways[i].how, &future, &pid);
		ck_assert_int_eq(o->kind, PP_EXITED);
		ck_assert_int_eq(o->code, ways[i].status);
		ck_assert_str_eq(o->task_name, "die");
		assert_one_line(o->message);
		assert_no_payload(o);
		assert_no_crash(o);
		assert_ran(o, pid);
		pp_future_free(future);
		stage_free(&stage);
	}
}
END_TEST

START_TEST(killed_tells)
{
	struct stage stage;
	const pp_outcome *o;
	pid_t pid;

	stage_make(&stage, 0);
	pid = only_worker(stage.ex);
	ck_assert_int_eq(pp_future_kill(stage.running), 0);
	o = support_outcome(stage.running);
	ck_assert_int_eq(o->kind, PP_KILLED);
	ck_assert_int_eq(o->code, 0);
	assert_one_line(o->message);
	assert_no_payload(o);
	assert_no_crash(o);
	assert_ran(o, pid);
	stage_free(&stage);
}
END_TEST

/* By our own request only is it "killed". */
START_TEST(killed_from_outside_is_crashed)
{
	struct stage stage;
	const pp_outcome *o;
	pid_t pid;

	stage_make(&stage, 0);
	pid = only_worker(stage.ex);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	o = support_outcome(stage.running);
	ck_assert_int_eq(o->kind, PP_CRASHED);
	ck_assert_int_eq(o->signal, SIGKILL);
	ck_assert_uint_eq(o->fault_address, 0);
	assert_no_payload(o);
	assert_ran(o, pid);
	stage_free(&stage);
}
END_TEST

START_TEST(cancelled_tells)
{
	struct stage stage;
	const pp_outcome *o;
	pp_future *future;

	stage_make(&stage, 0);
	future = support_submit_named(stage.ex, "never", task_echo, "x", 1);
	ck_assert(pp_future_cancel(future));
	o = support_outcome(future);
	ck_assert_int_eq(o->kind, PP_CANCELLED);
	ck_assert_int_eq(o->code, 0);
	ck_assert_str_eq(o->task_name, "never");
	assert_one_line(o->message);
	assert_no_payload(o);
	assert_no_crash(o);
	assert_never_ran(o);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

static void assert_broken(const pp_outcome *o)
{
	ck_assert_int_eq(o->kind, PP_BROKEN);
	ck_assert_int_lt(o->code, 0);
	ck_assert_str_ne(o->message, "");
	assert_one_line(o->message);
	assert_no_payload(o);
	assert_no_crash(o);
}

/* The attempt says whether it had started. */
START_TEST(broken_tells)
{
	const pp_outcome *running, *pending, *why;
	struct stage stage;
	pp_future *future, *late;

	stage_make(&stage, 0);
	future = support_submit_named(stage.ex, "never", task_echo, "x", 1);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	running = support_outcome(stage.running);
	pending = support_outcome(future);
	assert_broken(running);
	ck_assert_uint_eq(running->attempt, 1);
	assert_broken(pending);
	ck_assert_str_eq(pending->task_name, "never");
	assert_never_ran(pending);
	why = pp_executor_broken(stage.ex);
	ck_assert_ptr_nonnull(why);
	assert_broken(why);
	ck_assert_int_eq(pp_submit(stage.ex, task_nothing, NULL, 0, &late), -EPIPE);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

START_TEST(times)
{
	uint64_t start = now_ns(), at_gate, opened, total;
	const pp_outcome *ran, *waited, *cancelled;
	struct stage stage;
	pp_future *pending, *dropped;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "pending");
	dropped = stage_submit(&stage, "dropped");
	at_gate = now_ns();
	poll(NULL, 0, 20);               /* so that there is something to measure */
	ck_assert(pp_future_cancel(dropped));
	opened = now_ns();
	stage_let_go(&stage);
	ran = support_outcome(stage.running);
	waited = support_outcome(pending);
	cancelled = support_outcome(dropped);
	total = now_ns() - start;
	ck_assert_uint_ge(ran->running_ns, opened - at_gate);
	ck_assert_uint_le(ran->queued_ns + ran->running_ns, total);
	ck_assert_uint_ge(waited->queued_ns, opened - at_gate);
	ck_assert_uint_le(waited->queued_ns + waited->running_ns, total);
	ck_assert_uint_ge(cancelled->queued_ns, 20000000 - 1000000);
	ck_assert_uint_le(cancelled->queued_ns, total);
	pp_future_free(pending);
	pp_future_free(dropped);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("outcome");
	TCase *kinds = support_tcase(suite, "kinds");

	tcase_add_test(kinds, returned_tells);
	tcase_add_test(kinds, raised_tells);
	tcase_add_test(kinds, crashed_tells);
	tcase_add_test(kinds, exited_tells);
	tcase_add_test(kinds, killed_tells);
	tcase_add_test(kinds, killed_from_outside_is_crashed);
	tcase_add_test(kinds, cancelled_tells);
	tcase_add_test(kinds, broken_tells);
	tcase_add_test(kinds, times);
	return suite;
}

SUPPORT_MAIN(make_suite)
