/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: shutdown, in all its ways. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define BACKLOG 50

/* One task at a gate in the only worker, and a backlog of echoes behind it. */
struct busy { struct gate gate; pp_executor *ex; pp_future *at_gate, *pending[BACKLOG]; };

static void busy_make(struct busy *busy)
{
	gate_make(&busy->gate);
	busy->ex = support_executor(1);
	busy->at_gate = support_submit(busy->ex, task_gate, &busy->gate, sizeof busy->gate);
	gate_await(&busy->gate, 1);
	for (int i = 0; i < BACKLOG; i++)
		busy->pending[i] = support_submit(busy->ex, task_echo, &i, sizeof i);
}

static void busy_assert_returned(struct busy *busy)
{
	support_assert_returned(busy->at_gate, &busy->gate, sizeof busy->gate);
	for (int i = 0; i < BACKLOG; i++)
		support_assert_returned(busy->pending[i], &i, sizeof i);
}

static void busy_assert_cancelled(struct busy *busy)
{
	for (int i = 0; i < BACKLOG; i++) {
		ck_assert(pp_future_cancelled(busy->pending[i]));
		support_assert_kind(busy->pending[i], PP_CANCELLED);
	}
}

static void busy_destroy(struct busy *busy)
{
	pp_executor_free(busy->ex);
	pp_future_free(busy->at_gate);
	for (int i = 0; i < BACKLOG; i++)
		pp_future_free(busy->pending[i]);
	gate_destroy(&busy->gate);
}

static int shutdown_for(pp_executor *ex, unsigned flags)
{
	return pp_executor_shutdown(ex, flags, SUPPORT_GUARD_MS);
}

static void assert_submit_refused(pp_executor *ex)
{
	pp_future *future = (pp_future *)1;

	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, &future), -ESHUTDOWN);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, NULL), -ESHUTDOWN);
}

START_TEST(run_after_shutdown)
{
	pp_executor *ex = support_executor(2);

	ck_assert_int_eq(shutdown_for(ex, PP_SHUTDOWN_WAIT), 0);
	assert_submit_refused(ex);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 0);
	pp_executor_free(ex);
}
END_TEST

START_TEST(shutdown_nowait)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, 0, PP_FOREVER), 0);
	ck_assert(!pp_future_done(busy.at_gate));
	assert_submit_refused(busy.ex);
	gate_open(&busy.gate, 1);
	busy_assert_returned(&busy);
	busy_destroy(&busy);
}
END_TEST

START_TEST(cancel_futures)
{
	struct busy busy;

	busy_make(&busy);
	gate_open(&busy.gate, 1);
	ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING), 0);
	support_assert_returned(busy.at_gate, &busy.gate, sizeof busy.gate);
	for (int i = 0; i < BACKLOG; i++) {
		ck_assert(pp_future_done(busy.pending[i]));      /* the gate was open: some may have run */
		if (!pp_future_cancelled(busy.pending[i]))
			support_assert_returned(busy.pending[i], &i, sizeof i);
	}
	busy_destroy(&busy);
}
END_TEST

START_TEST(cancel_futures_nowait)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	busy_assert_cancelled(&busy);
	ck_assert(pp_future_running(busy.at_gate));
	gate_open(&busy.gate, 1);
	support_assert_returned(busy.at_gate, &busy.gate, sizeof busy.gate);
	busy_destroy(&busy);
}
END_TEST

START_TEST(shutdown_kills)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING | PP_SHUTDOWN_KILL), 0);
	ck_assert(pp_future_done(busy.at_gate));
	support_assert_kind(busy.at_gate, PP_KILLED);
	busy_assert_cancelled(&busy);
	busy_destroy(&busy);
}
END_TEST

/* What was submitted still runs, and only what runs now is killed. */
START_TEST(shutdown_kills_not_pending)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_KILL), 0);
	support_assert_kind(busy.at_gate, PP_KILLED);
	for (int i = 0; i < BACKLOG; i++)
		support_assert_returned(busy.pending[i], &i, sizeof i);
	busy_destroy(&busy);
}
END_TEST

START_TEST(shutdown_twice)
{
	struct busy busy;

	busy_make(&busy);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pp_executor_shutdown(busy.ex, 0, 0), 0);
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	busy_assert_cancelled(&busy);
	gate_open(&busy.gate, 1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT), 0);
	ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING | PP_SHUTDOWN_KILL), 0);
	support_assert_returned(busy.at_gate, &busy.gate, sizeof busy.gate);
	busy_destroy(&busy);
}
END_TEST

START_TEST(shutdown_timeout)
{
	struct busy busy;

	busy_make(&busy);
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, PP_SHUTDOWN_WAIT, 0), -ETIMEDOUT);
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, PP_SHUTDOWN_WAIT, 30), -ETIMEDOUT);
	assert_submit_refused(busy.ex);
	gate_open(&busy.gate, 1);
	ck_assert_int_eq(shutdown_for(busy.ex, PP_SHUTDOWN_WAIT), 0);
	ck_assert(pp_future_done(busy.pending[BACKLOG - 1]));
	ck_assert_int_eq(pp_executor_shutdown(busy.ex, PP_SHUTDOWN_WAIT, 0), 0);
	busy_assert_returned(&busy);
	busy_destroy(&busy);
}
END_TEST

struct closer { pp_executor *ex; unsigned flags; atomic_bool *opened; bool opened_before; int rc; };

static void *closer_main(void *closer_)
{
	struct closer *closer = closer_;

	closer->rc = shutdown_for(closer->ex, closer->flags);
	closer->opened_before = *closer->opened;
	return NULL;
}

START_TEST(shutdown_from_many_threads)
{
	atomic_bool opened = false;
	struct closer closers[8];
	pthread_t threads[8];
	struct busy busy;

	busy_make(&busy);
	for (int i = 0; i < 8; i++) {
		closers[i] = (struct closer){ .ex = busy.ex, .opened = &opened, .flags = i % 4 ? PP_SHUTDOWN_WAIT : 0 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, closer_main, &closers[i]), 0);
	}
	for (int i = 0; i < 8; i += 4)
		pthread_join(threads[i], NULL);
	opened = true;
	gate_open(&busy.gate, 1);
	for (int i = 0; i < 8; i++) {
		if (i % 4) {
			pthread_join(threads[i], NULL);
			ck_assert_msg(closers[i].opened_before, "a shutdown with WAIT did not wait");
		}
		ck_assert_int_eq(closers[i].rc, 0);
	}
	busy_assert_returned(&busy);
	busy_destroy(&busy);
}
END_TEST

/* CPython gh-94440: submit, cancel, shutdown: the cancelled future must not keep the executor from ending. */
START_TEST(hang_gh94440)
{
	for (int i = 0; i < 30; i++) {
		pp_executor *ex = support_executor(1);
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		bool cancelled = pp_future_cancel(future);
		ck_assert_int_eq(shutdown_for(ex, PP_SHUTDOWN_WAIT), 0);
		ck_assert(pp_future_done(future));
		if (cancelled)
			support_assert_kind(future, PP_CANCELLED);
		else
			support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
		pp_executor_free(ex);
	}
}
END_TEST

/* The gate's task and each one behind it take their worker with them while the main thread is in shutdown. */
START_TEST(shutdown_while_worker_crashes)
{
	static const int ways[] = { DIE_SEGV, DIE_KILL, DIE_EXIT99, DIE_ABRT };
	atomic_bool opened = true;
	struct closer closer = { .opened = &opened, .flags = PP_SHUTDOWN_WAIT };
	pp_future *futures[20], *at_gate;
	struct gate gate;
	pthread_t thread;

	gate_make(&gate);
	closer.ex = support_executor(1);
	at_gate = support_submit(closer.ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	for (int i = 0; i < 20; i++)
		futures[i] = support_submit(closer.ex, i % 2 ? task_echo : task_die, &ways[i / 2 % 4], sizeof *ways);
	ck_assert_int_eq(pthread_create(&thread, NULL, closer_main, &closer), 0);
	gate_open(&gate, 1);
	pthread_join(thread, NULL);
	ck_assert_int_eq(closer.rc, 0);
	support_assert_returned(at_gate, &gate, sizeof gate);
	for (int i = 0; i < 20; i++) {
		ck_assert(pp_future_done(futures[i]));
		if (i % 2)
			support_assert_returned(futures[i], &ways[i / 2 % 4], sizeof *ways);
		else
			support_assert_kind(futures[i], ways[i / 2 % 4] == DIE_EXIT99 ? PP_EXITED : PP_CRASHED);
		pp_future_free(futures[i]);
	}
	pp_future_free(at_gate);
	pp_executor_free(closer.ex);
	gate_destroy(&gate);
}
END_TEST

/* An executor is freed with its tasks still pending: free waits for them all. */
START_TEST(free_is_shutdown)
{
	struct busy busy;

	busy_make(&busy);
	gate_open(&busy.gate, 1);
	pp_executor_free(busy.ex);
	busy.ex = NULL;
	for (int i = 0; i < BACKLOG; i++)
		ck_assert(pp_future_done(busy.pending[i]));
	busy_assert_returned(&busy);
	busy_destroy(&busy);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("shutdown");
	TCase *plain = support_tcase(suite, "plain"), *cancel = support_tcase(suite, "cancel");
	TCase *hard = support_tcase(suite, "hard");

	tcase_add_test(plain, run_after_shutdown);
	tcase_add_test(plain, shutdown_nowait);
	tcase_add_test(plain, shutdown_twice);
	tcase_add_test(plain, shutdown_timeout);
	tcase_add_test(plain, free_is_shutdown);
	tcase_add_test(cancel, cancel_futures);
	tcase_add_test(cancel, cancel_futures_nowait);
	tcase_add_test(cancel, shutdown_kills);
	tcase_add_test(cancel, shutdown_kills_not_pending);
	tcase_add_test(hard, shutdown_from_many_threads);
	tcase_add_test(hard, hang_gh94440);
	tcase_add_test(hard, shutdown_while_worker_crashes);
	return suite;
}

SUPPORT_MAIN(make_suite)
