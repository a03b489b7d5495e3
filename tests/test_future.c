/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: the state table. Waiting for a result is in test_result.c. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "stage.h"

/* A future in every column of the table, all of one worker, which is at the gate for the running one. */
struct columns { struct stage stage; pp_future *pending, *running, *cancelled, *finished; };

static void columns_make(struct columns *c)
{
	gate_make(&c->stage.gate);
	c->stage.ex = support_executor(1);
	c->finished = support_submit(c->stage.ex, task_echo, "finished", 8);
	support_assert_returned(c->finished, "finished", 8);
	c->running = support_submit(c->stage.ex, task_gate, &c->stage.gate, sizeof c->stage.gate);
	c->stage.running = c->running;
	gate_await(&c->stage.gate, 1);
	c->pending = stage_submit(&c->stage, "pending");
	c->cancelled = stage_submit(&c->stage, "cancelled");
	ck_assert(pp_future_cancel(c->cancelled));
}

static void columns_free(struct columns *c)
{
	pp_future_free(c->pending);
	pp_future_free(c->cancelled);
	pp_future_free(c->finished);
	stage_free(&c->stage);
}

static void assert_state(pp_future *future, const char *state, bool cancelled, bool running, bool done)
{
	ck_assert_str_eq(pp_future_state(future), state);
	ck_assert_int_eq(pp_future_cancelled(future), cancelled);
	ck_assert_int_eq(pp_future_running(future), running);
	ck_assert_int_eq(pp_future_done(future), done);
}

static void assert_pending(pp_future *future) { assert_state(future, "pending", false, false, false); }
static void assert_running(pp_future *future) { assert_state(future, "running", false, true, false); }
static void assert_cancelled(pp_future *future) { assert_state(future, "cancelled", true, false, true); }
static void assert_finished(pp_future *future) { assert_state(future, "finished", false, false, true); }

START_TEST(cancel)
{
	struct columns c;

	columns_make(&c);
	ck_assert(!pp_future_cancel(c.running));
	assert_running(c.running);
	ck_assert(!pp_future_cancel(c.finished));
	support_assert_returned(c.finished, "finished", 8);
	ck_assert(pp_future_cancel(c.cancelled));
	support_assert_kind(c.cancelled, PP_CANCELLED);
	ck_assert(pp_future_cancel(c.pending));
	assert_cancelled(c.pending);
	support_assert_kind(c.pending, PP_CANCELLED);
	stage_let_go(&c.stage);
	ck_assert(!pp_future_cancel(c.running));
	columns_free(&c);
}
END_TEST

START_TEST(cancelled)
{
	struct columns c;

	columns_make(&c);
	ck_assert(!pp_future_cancelled(c.pending));
	ck_assert(!pp_future_cancelled(c.running));
	ck_assert(pp_future_cancelled(c.cancelled));
	ck_assert(!pp_future_cancelled(c.finished));
	columns_free(&c);
}
END_TEST

START_TEST(running)
{
	struct columns c;

	columns_make(&c);
	ck_assert(!pp_future_running(c.pending));
	ck_assert(pp_future_running(c.running));
	ck_assert(!pp_future_running(c.cancelled));
	ck_assert(!pp_future_running(c.finished));
	columns_free(&c);
}
END_TEST

START_TEST(done)
{
	struct columns c;

	columns_make(&c);
	ck_assert(!pp_future_done(c.pending));
	ck_assert(!pp_future_done(c.running));
	ck_assert(pp_future_done(c.cancelled));
	ck_assert(pp_future_done(c.finished));
	columns_free(&c);
}
END_TEST

/* Each kind of end is "finished" but one. */
START_TEST(state_text)
{
	struct columns c;
	int how = DIE_ABRT;
	pp_future *raised, *crashed;

	columns_make(&c);
	raised = support_submit(c.stage.ex, task_raise, NULL, 0);
	crashed = support_submit(c.stage.ex, task_die, &how, sizeof how);
	assert_pending(c.pending);
	assert_running(c.running);
	assert_cancelled(c.cancelled);
	assert_finished(c.finished);
	stage_let_go(&c.stage);
	assert_finished(c.running);
	support_assert_returned(c.pending, "pending", 7);
	assert_finished(c.pending);
	support_assert_kind(raised, PP_RAISED);
	assert_finished(raised);
	support_assert_kind(crashed, PP_CRASHED);
	assert_finished(crashed);
	pp_future_free(raised);
	pp_future_free(crashed);
	columns_free(&c);
}
END_TEST

static int rank_of(const char *state)
{
	return strcmp(state, "pending") == 0 ? 0 : strcmp(state, "running") == 0 ? 1 : 2;
}

static int task_spin(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	for (volatile int i = 0; i < 20000; i++)
		;
	return 0;
}

static int went_back(pp_future *future)
{
	int before = 0, now, n = 0;

	do {
		now = rank_of(pp_future_state(future));
		n += now < before;
		before = now;
	} while (now < 2);
	return n;
}

/* The text is one look at the future, also when it changes meanwhile. */
START_TEST(state_text_never_goes_back)
{
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < 5000; i++) {
		pp_future *future = support_submit(ex, task_spin, NULL, 0);
		ck_assert_int_eq(went_back(future), 0);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

static int task_count(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	return 0;
}

START_TEST(cancelled_never_runs)
{
	long *counter = support_counters(1);
	struct stage stage;
	pp_future *futures[100];

	stage_make(&stage, 0);
	for (int i = 0; i < 100; i++)
		futures[i] = support_submit(stage.ex, task_count, &counter, sizeof counter);
	for (int i = 0; i < 100; i += 2)
		ck_assert(pp_future_cancel(futures[i]));
	stage_let_go(&stage);
	for (int i = 0; i < 100; i++) {
		support_assert_kind(futures[i], i % 2 ? PP_RETURNED : PP_CANCELLED);
		pp_future_free(futures[i]);
	}
	stage_free(&stage);
	ck_assert_int_eq(*counter, 50);
	support_counters_free(counter, 1);
}
END_TEST

/* Whoever wins, the task ran if and only if it was not cancelled. */
START_TEST(cancel_races_with_start)
{
	long *counter = support_counters(1);
	pp_executor *ex = support_executor(2);
	long ran = 0;

	for (int i = 0; i < 2000; i++) {
		pp_future *future = support_submit(ex, task_count, &counter, sizeof counter);
		bool cancelled_now;
		for (volatile int spin = 0; spin < i % 500 * 10; spin++)
			;
		cancelled_now = pp_future_cancel(future);
		support_assert_kind(future, cancelled_now ? PP_CANCELLED : PP_RETURNED);
		ck_assert_int_eq(pp_future_cancelled(future), cancelled_now);
		ran += !cancelled_now;
		pp_future_free(future);
	}
	pp_executor_free(ex);
	ck_assert_int_eq(*counter, ran);
	support_counters_free(counter, 1);
}
END_TEST

START_TEST(kill_pending)
{
	struct columns c;

	columns_make(&c);
	ck_assert_int_eq(pp_future_kill(c.pending), 0);
	assert_cancelled(c.pending);
	support_assert_kind(c.pending, PP_CANCELLED);
	assert_running(c.running);
	stage_let_go(&c.stage);
	columns_free(&c);
}
END_TEST

START_TEST(kill_running)
{
	const pp_outcome *outcome;
	struct columns c;

	columns_make(&c);
	ck_assert_int_eq(pp_future_kill(c.running), 0);
	ck_assert_int_eq(pp_future_kill(c.running), 0);
	ck_assert(!pp_future_cancel(c.running));
	outcome = support_outcome(c.running);
	ck_assert_int_eq(outcome->kind, PP_KILLED);
	assert_finished(c.running);
	support_assert_returned(c.pending, "pending", 7);        /* by another worker */
	ck_assert_int_ne(support_outcome(c.pending)->pid, outcome->pid);
	columns_free(&c);
}
END_TEST

START_TEST(kill_done)
{
	struct columns c;
	const pp_outcome *outcome;

	columns_make(&c);
	outcome = support_outcome(c.finished);
	ck_assert_int_eq(pp_future_kill(c.finished), 0);
	ck_assert_int_eq(pp_future_kill(c.cancelled), 0);
	assert_finished(c.finished);
	assert_cancelled(c.cancelled);
	ck_assert_ptr_eq(support_outcome(c.finished), outcome);
	support_assert_returned(c.finished, "finished", 8);
	assert_running(c.running);                               /* by the same worker: it was not hit */
	stage_let_go(&c.stage);
	ck_assert_int_eq(support_outcome(c.running)->pid, outcome->pid);
	columns_free(&c);
}
END_TEST

/* The end is killed or returned, whichever was first, and a kill never hits the worker's next task. */
START_TEST(kill_races_with_end)
{
	pp_executor *ex = support_executor(1);

	for (int i = 0; i < 300; i++) {
		pp_future *first = support_submit(ex, task_nothing, NULL, 0);
		pp_future *second = support_submit(ex, task_echo, &i, sizeof i);
		const pp_outcome *outcome;
		for (volatile int spin = 0; spin < i * 20; spin++)
			;
		ck_assert_int_eq(pp_future_kill(first), 0);
		outcome = support_outcome(first);
		if (outcome->kind != PP_KILLED && outcome->kind != PP_RETURNED && outcome->kind != PP_CANCELLED)
			ck_abort_msg("%s", pp_kind_name(outcome->kind));
		support_assert_returned(second, &i, sizeof i);
		pp_future_free(first);
		pp_future_free(second);
	}
	pp_executor_free(ex);
}
END_TEST

/* Nothing changes a future that is done. */
START_TEST(done_for_good)
{
	struct columns c;
	const pp_outcome *outcome;

	columns_make(&c);
	outcome = support_outcome(c.finished);
	for (int i = 0; i < 3; i++) {
		ck_assert_ptr_eq(support_outcome(c.finished), outcome);
		ck_assert(!pp_future_cancel(c.finished));
		ck_assert_int_eq(pp_future_kill(c.finished), 0);
	}
	ck_assert_int_eq(pp_executor_signal(c.stage.ex, SIGKILL), 0);    /* also the worker that made the result */
	support_assert_kind(c.running, PP_KILLED);
	ck_assert_ptr_eq(support_outcome(c.finished), outcome);
	support_assert_returned(c.finished, "finished", 8);
	support_assert_kind(c.cancelled, PP_CANCELLED);
	support_assert_returned(c.pending, "pending", 7);
	columns_free(&c);
}
END_TEST

/* A place of memory that is used again starts with NULL again. */
START_TEST(context)
{
	pp_executor *ex = support_executor(1);
	int mine;

	for (int i = 0; i < 5000; i++) {
		pp_future *future = support_submit(ex, task_nothing, NULL, 0);
		ck_assert_ptr_null(pp_future_context(future));
		pp_future_set_context(future, &mine);
		ck_assert_ptr_eq(pp_future_context(future), &mine);
		support_assert_returned(future, NULL, 0);
		ck_assert_ptr_eq(pp_future_context(future), &mine);
		pp_future_set_context(future, NULL);
		ck_assert_ptr_null(pp_future_context(future));
		pp_future_set_context(future, &mine);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("future");
	TCase *states = support_tcase(suite, "states"), *cancels = support_tcase(suite, "cancel");
	TCase *kills = support_tcase(suite, "kill");

	tcase_add_test(states, cancelled);
	tcase_add_test(states, running);
	tcase_add_test(states, done);
	tcase_add_test(states, state_text);
	tcase_add_test(states, state_text_never_goes_back);
	tcase_add_test(states, done_for_good);
	tcase_add_test(states, context);
	tcase_add_test(cancels, cancel);
	tcase_add_test(cancels, cancelled_never_runs);
	tcase_add_test(cancels, cancel_races_with_start);
	tcase_add_test(kills, kill_pending);
	tcase_add_test(kills, kill_running);
	tcase_add_test(kills, kill_done);
	tcase_add_test(kills, kill_races_with_end);
	return suite;
}

SUPPORT_MAIN(make_suite)
