/* SPDX-License-Identifier: MIT */
/* Statistics: what is counted, that it is what the outcomes say, and that it can be read at any time. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

static pp_stats stats_of(pp_executor *ex)
{
	pp_stats stats = PP_STATS_INIT;

	ck_assert_int_eq(pp_executor_stats(ex, &stats), 0);
	return stats;
}

static uint64_t sum(const uint64_t *numbers, size_t n)
{
	uint64_t total = 0;

	while (n--)
		total += numbers[n];
	return total;
}

static unsigned bucket_of(uint64_t ns)
{
	unsigned i = 0;

	while (i < 63 && ns >> (i + 1))
		i++;
	return i;
}

struct expected { pp_executor *ex; int kind; uint64_t n; };

static bool has_counted(void *context)
{
	struct expected *e = context;

	return stats_of(e->ex).outcomes[e->kind] == e->n;
}

static void until_counted(pp_executor *ex, int kind, uint64_t n)
{
	struct expected expected = { ex, kind, n };

	support_until(has_counted, &expected, pp_kind_name(kind));
}

static void run_to_end(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int kind)
{
	pp_future *future = support_submit(ex, fn, data, size);

	support_assert_kind(future, kind);
	pp_future_free(future);
}

START_TEST(stats_of_nothing)
{
	pp_executor *ex = support_executor(2);
	pp_stats stats = stats_of(ex);

	ck_assert_uint_eq(stats.submitted + stats.pending + stats.running + sum(stats.outcomes, 16), 0);
	ck_assert_uint_eq(stats.workers + stats.busy + stats.spare + stats.restarts, 0);
	ck_assert_uint_eq(sum(stats.queue_ns, 64) + sum(stats.run_ns, 64), 0);
	ck_assert_uint_eq(stats.size, sizeof stats);
	pp_executor_free(ex);
}
END_TEST

/* What a future was seen to return or raise is counted before it is seen. */
START_TEST(stats_count_outcomes)
{
	pp_executor *ex = support_executor(2);
	pp_stats stats;

	for (uint64_t i = 1; i <= 20; i++) {
		run_to_end(ex, task_nothing, NULL, 0, PP_RETURNED);
		ck_assert_uint_eq(stats_of(ex).outcomes[PP_RETURNED], i);
	}
	for (uint64_t i = 1; i <= 10; i++) {
		run_to_end(ex, task_raise, NULL, 0, PP_RAISED);
		ck_assert_uint_eq(stats_of(ex).outcomes[PP_RAISED], i);
	}
	run_to_end(ex, task_die, &(enum death){ DIE_SEGV }, sizeof(enum death), PP_CRASHED);
	run_to_end(ex, task_die, &(enum death){ DIE_KILL }, sizeof(enum death), PP_CRASHED);
	run_to_end(ex, task_die, &(enum death){ DIE_EXIT99 }, sizeof(enum death), PP_EXITED);
	run_to_end(ex, task_die, &(enum death){ DIE__EXIT }, sizeof(enum death), PP_EXITED);
	until_counted(ex, PP_CRASHED, 2);
	until_counted(ex, PP_EXITED, 2);
	stats = stats_of(ex);
	ck_assert_uint_eq(stats.submitted, 34);
	ck_assert_uint_eq(sum(stats.outcomes, 16), 34);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], 20);
	ck_assert_uint_eq(sum(stats.queue_ns, 64), 34);
	ck_assert_uint_eq(sum(stats.run_ns, 64), 34);
	ck_assert_uint_eq(stats.pending + stats.running, 0);
	ck_assert_uint_gt(stats.shared_bytes, 0);
	pp_executor_free(ex);
}
END_TEST

START_TEST(stats_pending_running_cancelled)
{
	struct stage stage;
	pp_future *futures[5];
	pp_stats stats;

	stage_make(&stage, 0);
	for (int i = 0; i < 5; i++)
		futures[i] = stage_submit(&stage, "x");
	stats = stats_of(stage.ex);
	ck_assert_uint_eq(stats.pending, 5);
	ck_assert_uint_eq(stats.running, 1);
	ck_assert_uint_eq(stats.busy, 1);
	ck_assert_uint_eq(stats.workers, 1);
	ck_assert(pp_future_cancel(futures[1]) && pp_future_cancel(futures[3]));
	stats = stats_of(stage.ex);
	ck_assert_uint_eq(stats.pending, 3);
	ck_assert_uint_eq(stats.outcomes[PP_CANCELLED], 2);
	stage_let_go(&stage);
	ck_assert_int_eq(pp_wait(futures, 5, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), 5);
	stats = stats_of(stage.ex);
	ck_assert_uint_eq(stats.submitted, 6);
	ck_assert_uint_eq(stats.pending + stats.running, 0);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], 4);
	for (int i = 0; i < 5; i++)
		pp_future_free(futures[i]);
	stage_free(&stage);
}
END_TEST

/* The histograms have the very numbers of the outcomes. */
START_TEST(stats_histograms_agree_with_outcomes)
{
	pp_executor *ex = support_executor(1);
	uint64_t queue[64] = { 0 }, run[64] = { 0 };
	pp_stats stats;

	for (int i = 0; i < 200; i++) {
		pp_future *future = support_submit(ex, i % 2 ? task_nothing : task_raise, NULL, 0);
		const pp_outcome *outcome = support_outcome(future);
		queue[bucket_of(outcome->queued_ns)]++;
		run[bucket_of(outcome->running_ns)]++;
		pp_future_free(future);
	}
	stats = stats_of(ex);
	ck_assert(memcmp(stats.queue_ns, queue, sizeof queue) == 0);
	ck_assert(memcmp(stats.run_ns, run, sizeof run) == 0);
	pp_executor_free(ex);
}
END_TEST

static bool has_a_spare(void *executor)
{
	pp_stats stats = stats_of(executor);

	return stats.spare == 1 && stats.workers == 1 && stats.restarts >= 1;
}

START_TEST(stats_of_workers)
{
	struct stage stage;
	pp_future *next;

	stage_make(&stage, 0);
	ck_assert_uint_eq(stats_of(stage.ex).restarts, 0);
	ck_assert_int_eq(pp_future_kill(stage.running), 0);
	support_assert_kind(stage.running, PP_KILLED);
	until_counted(stage.ex, PP_KILLED, 1);
	next = stage_submit(&stage, "next");
	support_assert_returned(next, "next", 4);
	support_until(has_a_spare, stage.ex, "a spare beside one worker");
	pp_future_free(next);
	stage_free(&stage);
}
END_TEST

START_TEST(stats_of_a_broken_pool)
{
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "x");
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	support_assert_kind(pending, PP_BROKEN);
	support_assert_kind(stage.running, PP_BROKEN);
	ck_assert_uint_eq(stats_of(stage.ex).outcomes[PP_BROKEN], 2);
	ck_assert_uint_eq(stats_of(stage.ex).pending, 0);
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

/* Futures that are given up at once are counted like others, and so are those of a shutdown. */
START_TEST(stats_of_detached_after_shutdown)
{
	pp_executor *ex = support_executor(2);
	pp_stats stats;

	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, NULL), 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	stats = stats_of(ex);
	ck_assert_uint_eq(stats.submitted, 100);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], 100);
	ck_assert_uint_eq(stats.workers, 0);
	pp_executor_free(ex);
}
END_TEST

/* A program built against an older header gets the fields that it knows, one against a newer gets zeros. */
START_TEST(stats_sizes)
{
	pp_executor *ex = support_executor(1);
	struct { pp_stats stats; uint64_t newer; } wide = { PP_STATS_INIT, 7 };
	pp_stats stats = PP_STATS_INIT;
	pid_t child;
	int status;

	run_to_end(ex, task_nothing, NULL, 0, PP_RETURNED);
	wide.stats.size = sizeof wide;
	ck_assert_int_eq(pp_executor_stats(ex, &wide.stats), 0);
	ck_assert_uint_eq(wide.newer, 0);
	ck_assert_uint_eq(wide.stats.size, sizeof wide);
	stats.size = offsetof(pp_stats, pending);
	stats.pending = 7;
	ck_assert_int_eq(pp_executor_stats(ex, &stats), 0);
	ck_assert_uint_eq(stats.submitted, 1);
	ck_assert_uint_eq(stats.pending, 7);
	stats.size = 0;
	ck_assert_int_eq(pp_executor_stats(ex, &stats), -EINVAL);
	ck_assert_int_eq(pp_executor_stats(ex, NULL), -EINVAL);
	ck_assert_int_eq(pp_executor_stats(NULL, &wide.stats), -EINVAL);
	child = fork();
	if (child == 0)
		_exit(pp_executor_stats(ex, &wide.stats) == -ECHILD ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	pp_executor_free(ex);
}
END_TEST

/* Counts of the supervisor's and of workers stay where they are when there are more of these. */
START_TEST(stats_after_a_resize)
{
	enum { N = 200 };
	pp_executor *ex = support_executor(1);
	pp_future *futures[N];
	pp_stats stats;

	run_to_end(ex, task_die, &(enum death){ DIE_KILL }, sizeof(enum death), PP_CRASHED);
	run_to_end(ex, task_raise, NULL, 0, PP_RAISED);
	ck_assert_int_eq(pp_executor_resize(ex, 6), 0);
	for (int i = 0; i < N; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	for (int i = 0; i < N; i++) {
		support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	run_to_end(ex, task_die, &(enum death){ DIE_KILL }, sizeof(enum death), PP_CRASHED);
	until_counted(ex, PP_CRASHED, 2);
	stats = stats_of(ex);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], N);
	ck_assert_uint_eq(stats.outcomes[PP_RAISED], 1);
	ck_assert_uint_eq(sum(stats.run_ns, 64), N + 3);
	pp_executor_free(ex);
}
END_TEST

struct watched { pp_executor *ex; atomic_bool stop; atomic_int ahead; };

static void *watch(void *watched_)
{
	struct watched *watched = watched_;
	pp_stats stats = PP_STATS_INIT;
	uint64_t ended;

	while (!watched->stop) {
		pp_executor_stats(watched->ex, &stats);
		ended = 0;
		for (int i = 0; i < 16; i++)
			ended += stats.outcomes[i];
		watched->ahead += ended > stats.submitted;
	}
	return NULL;
}

/* At no instant have more tasks ended than were submitted. */
START_TEST(stats_are_never_ahead)
{
	struct watched watched = { .ex = support_executor(2) };
	pp_future *futures[64];
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, watch, &watched), 0);
	for (int i = 0; i < support_many(5000); i++) {
		for (int k = 0; k < 64; k++)
			futures[k] = support_submit(watched.ex, task_nothing, NULL, 0);
		for (int k = 0; k < 64; k++) {
			support_assert_kind(futures[k], PP_RETURNED);
			pp_future_free(futures[k]);
		}
	}
	watched.stop = true;
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(watched.ahead, 0);
	pp_executor_free(watched.ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("stats");
	TCase *counts = support_tcase(suite, "counts"), *state = support_tcase(suite, "state");

	tcase_add_test(counts, stats_of_nothing);
	tcase_add_test(counts, stats_count_outcomes);
	tcase_add_test(counts, stats_histograms_agree_with_outcomes);
	tcase_add_test(counts, stats_of_detached_after_shutdown);
	tcase_add_test(state, stats_pending_running_cancelled);
	tcase_add_test(state, stats_of_workers);
	tcase_add_test(state, stats_after_a_resize);
	tcase_add_test(state, stats_of_a_broken_pool);
	tcase_add_test(state, stats_sizes);
	tcase_add_test(state, stats_are_never_ahead);
	return suite;
}

SUPPORT_MAIN(make_suite)
