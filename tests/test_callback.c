/* SPDX-License-Identifier: MIT */
/*
 * Section 2 of the contract: when and where callbacks run. What they may call is in test_callback_calls.c, and
 * self-dispatch in test_dispatch.c.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "stage.h"

/* What one callback saw. It asserts nothing: in another thread that would be lost. */
struct seen { atomic_int calls; pp_future *future; int kind, rc; pid_t thread; bool done; };

static void see(pp_future *future, void *seen_)
{
	struct seen *seen = seen_;
	const pp_outcome *outcome = NULL;

	seen->future = future;
	seen->thread = gettid();
	seen->done = pp_future_done(future);
	seen->rc = pp_future_result(future, 0, &outcome);
	seen->kind = outcome ? outcome->kind : 0;
	seen->calls++;
}

static void assert_seen(struct seen *seen, pp_future *future, int kind)
{
	until_count(&seen->calls, 1, "the callback");
	ck_assert_ptr_eq(seen->future, future);
	ck_assert(seen->done);
	ck_assert_int_eq(seen->rc, 0);
	ck_assert_msg(seen->kind == kind, "%s", pp_kind_name(seen->kind));
}

/* The task is at the gate behind another when the callback is added, and runs in the dispatcher afterwards. */
static void assert_called_back(pp_fn *fn, const void *data, size_t size, int kind)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	future = support_submit(stage.ex, fn, data, size);
	ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen), 0);
	ck_assert_int_eq(seen.calls, 0);
	stage_let_go(&stage);
	assert_seen(&seen, future, kind);
	ck_assert_int_ne(seen.thread, gettid());
	pp_future_free(future);
	stage_free(&stage);
	ck_assert_int_eq(seen.calls, 1);
}

START_TEST(callback_with_result)
{
	assert_called_back(task_echo, "result", 6, PP_RETURNED);
}
END_TEST

START_TEST(callback_with_exception)
{
	assert_called_back(task_raise, NULL, 0, PP_RAISED);
}
END_TEST

START_TEST(callback_with_crash)
{
	static const enum death ways[] = { DIE_SEGV, DIE_ABRT, DIE_KILL };
	int how;

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		how = (int)ways[i];
		assert_called_back(task_die, &how, sizeof how, PP_CRASHED);
	}
	how = DIE__EXIT;
	assert_called_back(task_die, &how, sizeof how, PP_EXITED);
}
END_TEST

START_TEST(callback_with_kill)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;

	stage_make(&stage, 0);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, see, &seen), 0);
	ck_assert_int_eq(pp_future_kill(stage.running), 0);
	assert_seen(&seen, stage.running, PP_KILLED);
	ck_assert_int_ne(seen.thread, gettid());
	stage_free(&stage);
	ck_assert_int_eq(seen.calls, 1);
}
END_TEST

/* In the thread that cancels, before cancel returns; and once only. */
START_TEST(callback_with_cancel)
{
	struct seen seen[2] = { { .calls = 0 }, { .calls = 0 } };
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	future = stage_submit(&stage, "");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen[i]), 0);
	ck_assert(pp_future_cancel(future));
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(seen[i].calls, 1);
		assert_seen(&seen[i], future, PP_CANCELLED);
		ck_assert_int_eq(seen[i].thread, gettid());
	}
	ck_assert(pp_future_cancel(future));
	ck_assert_int_eq(pp_future_kill(future), 0);
	stage_let_go(&stage);
	pp_future_free(future);
	stage_free(&stage);
	ck_assert_int_eq(seen[0].calls, 1);
	ck_assert_int_eq(seen[1].calls, 1);
}
END_TEST

START_TEST(callback_with_broken_pool)
{
	struct seen seen[2] = { { .calls = 0 }, { .calls = 0 } };
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "");
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, see, &seen[0]), 0);
	ck_assert_int_eq(pp_future_add_done_callback(pending, see, &seen[1]), 0);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	assert_seen(&seen[0], stage.running, PP_BROKEN);
	assert_seen(&seen[1], pending, PP_BROKEN);
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

static void assert_called_at_once(pp_future *future, int kind)
{
	struct seen seen = { .calls = 0 };

	support_assert_kind(future, kind);
	for (int i = 1; i <= 2; i++) {
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen), 0);
		ck_assert_int_eq(seen.calls, i);
		ck_assert_int_eq(seen.thread, gettid());
		ck_assert_ptr_eq(seen.future, future);
		ck_assert_int_eq(seen.kind, kind);
		ck_assert(seen.done);
	}
	pp_future_free(future);
}

START_TEST(callback_already_done)
{
	pp_executor *ex = support_executor(1);

	assert_called_at_once(support_submit(ex, task_echo, "result", 6), PP_RETURNED);
	pp_executor_free(ex);
}
END_TEST

START_TEST(callback_already_failed)
{
	pp_executor *ex = support_executor(1);
	int crash = DIE_SEGV, end = DIE_EXIT99;

	assert_called_at_once(support_submit(ex, task_raise, NULL, 0), PP_RAISED);
	assert_called_at_once(support_submit(ex, task_die, &crash, sizeof crash), PP_CRASHED);
	assert_called_at_once(support_submit(ex, task_die, &end, sizeof end), PP_EXITED);
	pp_executor_free(ex);
}
END_TEST

START_TEST(callback_already_cancelled)
{
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	future = stage_submit(&stage, "");
	ck_assert(pp_future_cancel(future));
	assert_called_at_once(future, PP_CANCELLED);
	stage_free(&stage);
}
END_TEST

/* Each notes its number in the next place. */
struct order { atomic_int n; int numbers[100]; };
struct turn { struct order *order; int number; };

static void take_turn(pp_future *future, void *turn_)
{
	struct turn *turn = turn_;

	(void)future;
	turn->order->numbers[turn->order->n] = turn->number;
	turn->order->n++;
}

static void assert_order(bool by_cancel)
{
	struct order order = { .n = 0 };
	struct turn turns[100];
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	future = stage_submit(&stage, "");
	for (int i = 0; i < 100; i++) {
		turns[i] = (struct turn){ &order, i };
		ck_assert_int_eq(pp_future_add_done_callback(future, take_turn, &turns[i]), 0);
	}
	if (by_cancel)
		ck_assert(pp_future_cancel(future));
	else
		stage_let_go(&stage);
	until_count(&order.n, 100, "all callbacks");
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(order.numbers[i], i);
	pp_future_free(future);
	stage_free(&stage);
}

START_TEST(callback_order)
{
	assert_order(false);
	assert_order(true);
}
END_TEST

/* Many futures with many callbacks that are added while their tasks end: each runs, and once. */
START_TEST(callback_each_once)
{
	enum { N = 3000 };
	static struct seen seen[N];
	pp_executor *ex = support_executor(2);
	pp_future *futures[N / 3];
	int wrong = 0;

	for (int i = 0; i < N / 3; i++) {
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
		for (int j = 0; j < 3; j++)
			wrong += pp_future_add_done_callback(futures[i], see, &seen[3 * i + j]) != 0;
	}
	ck_assert_int_eq(wrong, 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < N; i++)
		wrong += seen[i].calls != 1 || seen[i].future != futures[i / 3] || seen[i].kind != PP_RETURNED;
	ck_assert_int_eq(wrong, 0);
	for (int i = 0; i < N / 3; i++)
		pp_future_free(futures[i]);
	pp_executor_free(ex);
}
END_TEST

struct meeting { pp_future *future; struct seen seen; atomic_bool waiter_returned, met; };

static void wait_for_result(void *meeting_)
{
	struct meeting *m = meeting_;

	m->waiter_returned = pp_future_result(m->future, SUPPORT_GUARD_MS, NULL) == 0;
}

/* Waits for the waiter: if that one were not woken before, the two would never meet. */
static void meet_waiter(pp_future *future, void *meeting_)
{
	struct meeting *m = meeting_;
	int64_t until = now_ms() + SUPPORT_GUARD_MS / 2;

	while (!m->waiter_returned && now_ms() < until)
		sched_yield();
	m->met = m->waiter_returned;
	see(future, &m->seen);
}

static void assert_waiters_first(bool by_cancel)
{
	struct meeting m = { .met = false };
	struct sleeper sleeper;
	struct stage stage;

	stage_make(&stage, 0);
	m.future = stage_submit(&stage, "");
	sleeper_start(&sleeper, wait_for_result, &m);
	ck_assert_int_eq(pp_future_add_done_callback(m.future, meet_waiter, &m), 0);
	if (by_cancel)
		ck_assert(pp_future_cancel(m.future));
	else
		stage_let_go(&stage);
	until_count(&m.seen.calls, 1, "the callback");
	ck_assert(m.met);
	sleeper_join(&sleeper);
	pp_future_free(m.future);
	stage_free(&stage);
}

START_TEST(callback_after_waiters_were_woken)
{
	assert_waiters_first(false);
	assert_waiters_first(true);
}
END_TEST

struct mask { atomic_int calls; int unblocked; };

static void note_mask(pp_future *future, void *mask_)
{
	struct mask *mask = mask_;
	sigset_t set;

	(void)future;
	pthread_sigmask(SIG_SETMASK, NULL, &set);
	for (int i = 1; i <= SIGRTMAX; i++)      /* those below SIGRTMIN are libc's own */
		if (i != SIGKILL && i != SIGSTOP && (i < 32 || i >= SIGRTMIN))
			mask->unblocked += sigismember(&set, i) == 0;
	mask->calls++;
}

START_TEST(callback_thread_blocks_signals)
{
	struct mask mask = { .calls = 0 };
	sigset_t before, after;
	struct stage stage;

	memset(&before, 0, sizeof before);       /* the kernel's set is shorter */
	memset(&after, 0, sizeof after);
	stage_make(&stage, 0);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, note_mask, &mask), 0);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
	ck_assert_mem_eq(&before, &after, sizeof before);
	stage_let_go(&stage);
	until_count(&mask.calls, 1, "the callback");
	ck_assert_int_eq(mask.unblocked, 0);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("callback");
	TCase *with = support_tcase(suite, "with"), *already = support_tcase(suite, "already");
	TCase *order = support_tcase(suite, "order"), *thread = support_tcase(suite, "thread");

	tcase_add_test(with, callback_with_result);
	tcase_add_test(with, callback_with_exception);
	tcase_add_test(with, callback_with_crash);
	tcase_add_test(with, callback_with_kill);
	tcase_add_test(with, callback_with_cancel);
	tcase_add_test(with, callback_with_broken_pool);
	tcase_add_test(already, callback_already_done);
	tcase_add_test(already, callback_already_failed);
	tcase_add_test(already, callback_already_cancelled);
	tcase_add_test(order, callback_order);
	tcase_add_test(order, callback_each_once);
	tcase_add_test(order, callback_after_waiters_were_woken);
	tcase_add_test(thread, callback_thread_blocks_signals);
	return suite;
}

SUPPORT_MAIN(make_suite)
