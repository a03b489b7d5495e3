/* SPDX-License-Identifier: MIT */
/* Section 3 of the contract: pp_wait. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "stage.h"

/* A wait in a thread of its own. */
struct waiter { pp_future *futures[8]; size_t n; enum pp_when when; int64_t timeout_ms; int rc; struct sleeper sleeper; };

static void wait_here(void *waiter_)
{
	struct waiter *w = waiter_;

	w->rc = pp_wait(w->futures, w->n, w->when, w->timeout_ms);
}

#define WAITER(how, ...) { .futures = { __VA_ARGS__ }, .when = how, .timeout_ms = PP_FOREVER, \
	.n = sizeof (pp_future *[]){ __VA_ARGS__ } / sizeof(pp_future *) }

/* Returns when it sleeps, and asserts that it does not return. */
static void waiter_start(struct waiter *w)
{
	sleeper_start(&w->sleeper, wait_here, w);
	ck_assert(!sleeper_returned(&w->sleeper));
}

static void waiter_join(struct waiter *w, int rc)
{
	sleeper_join(&w->sleeper);
	ck_assert_int_eq(w->rc, rc);
}

START_TEST(first_completed)
{
	static const enum how ways[] = { HOW_RETURN, HOW_RAISE, HOW_EXIT, HOW_ABORT };

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct crowd c;
		crowd_make(&c, 2);
		struct waiter w = WAITER(PP_FIRST_COMPLETED, c.futures[0], c.futures[1]);
		waiter_start(&w);
		crowd_end(&c, (int)i % 2, ways[i]);
		waiter_join(&w, 1);
		ck_assert(pp_future_done(c.futures[i % 2]));
		ck_assert(!pp_future_done(c.futures[1 - i % 2]));
		crowd_free(&c);
	}
}
END_TEST

/* A cancelled one is done like any other. */
START_TEST(first_completed_by_cancel)
{
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, 0);
	pending = stage_submit(&stage, "");
	struct waiter w = WAITER(PP_FIRST_COMPLETED, stage.running, pending);
	waiter_start(&w);
	ck_assert(pp_future_cancel(pending));
	waiter_join(&w, 1);
	pp_future_free(pending);
	stage_free(&stage);
}
END_TEST

START_TEST(first_completed_some_already_completed)
{
	struct crowd c;

	crowd_make_done(&c, 1);
	pp_future *futures[] = { c.futures[0], c.returned, c.cancelled };
	ck_assert_int_eq(pp_wait(futures, 3, PP_FIRST_COMPLETED, PP_FOREVER), 2);
	ck_assert_int_eq(pp_wait(futures, 1, PP_FIRST_COMPLETED, 0), 0);
	crowd_free(&c);
}
END_TEST

/* how 0: killec. */
static void assert_first_exception(enum how how)
{
	struct crowd c;

	crowd_make(&c, 3);
	struct waiter w = WAITER(PP_FIRST_EXCEPTION, c.futures[0], c.futures[1], c.futures[2]);
	waiter_start(&w);
	crowd_end(&c, 2, HOW_RETURN);
	support_assert_kind(c.futures[2], PP_RETURNED);
	ck_assert(!sleeper_returned(&w.sleeper));
	if (how)
		crowd_end(&c, 1, how);
	else
		ck_assert_int_eq(pp_future_kill(c.futures[1]), 0);
	waiter_join(&w, 2);
	ck_assert(pp_future_done(c.futures[1]));
	ck_assert(!pp_future_done(c.futures[0]));
	crowd_free(&c);
}

START_TEST(first_exception)
{
	assert_first_exception(HOW_RAISE);
	assert_first_exception(HOW_ABORT);
	assert_first_exception(HOW_EXIT);
	assert_first_exception(0);
}
END_TEST

/* Those that returned or were cancelled are no exceptions: it waits for more. */
START_TEST(first_exception_some_already_complete)
{
	struct crowd c;

	crowd_make_done(&c, 2);
	struct waiter w = WAITER(PP_FIRST_EXCEPTION, c.returned, c.cancelled, c.futures[0], c.futures[1]);
	w.timeout_ms = 30;
	wait_here(&w);
	ck_assert_int_eq(w.rc, 2);
	w.timeout_ms = PP_FOREVER;
	waiter_start(&w);
	crowd_end(&c, 0, HOW_RAISE);
	waiter_join(&w, 3);
	crowd_free(&c);
}
END_TEST

START_TEST(first_exception_one_already_failed)
{
	struct crowd c;

	crowd_make_done(&c, 1);
	ck_assert_int_eq(pp_wait((pp_future *[]){ c.futures[0], c.raised }, 2, PP_FIRST_EXCEPTION, PP_FOREVER), 1);
	ck_assert_int_eq(pp_wait((pp_future *[]){ c.crashed, c.futures[0] }, 2, PP_FIRST_EXCEPTION, PP_FOREVER), 1);
	crowd_free(&c);
}
END_TEST

START_TEST(first_exception_none_is_all)
{
	struct crowd c;

	crowd_make_done(&c, 2);
	struct waiter w = WAITER(PP_FIRST_EXCEPTION, c.futures[0], c.cancelled, c.futures[1]);
	waiter_start(&w);
	crowd_end(&c, 1, HOW_RETURN);
	support_assert_kind(c.futures[1], PP_RETURNED);
	ck_assert(!sleeper_returned(&w.sleeper));
	crowd_end(&c, 0, HOW_RETURN);
	waiter_join(&w, 3);
	crowd_free(&c);
}
END_TEST

START_TEST(all_completed)
{
	struct crowd c;

	crowd_make_done(&c, 3);
	struct waiter w = WAITER(PP_ALL_COMPLETED, c.futures[0], c.cancelled, c.returned, c.raised, c.futures[1], c.crashed,
	                         c.futures[2]);
	waiter_start(&w);
	crowd_end(&c, 2, HOW_RAISE);
	support_assert_kind(c.futures[2], PP_RAISED);
	crowd_end(&c, 0, HOW_ABORT);
	support_assert_kind(c.futures[0], PP_CRASHED);
	ck_assert(!sleeper_returned(&w.sleeper));
	crowd_end(&c, 1, HOW_RETURN);
	waiter_join(&w, 7);
	crowd_free(&c);
}
END_TEST

/* No error: the return is how many are done. 0 only looks. */
START_TEST(timeout)
{
	static const int64_t timeouts[] = { 0, 1, 30, 120 };
	static const enum pp_when whens[] = { PP_ALL_COMPLETED, PP_FIRST_EXCEPTION };
	struct crowd c;

	crowd_make(&c, 2);
	crowd_end(&c, 1, HOW_RETURN);
	support_assert_kind(c.futures[1], PP_RETURNED);
	for (size_t i = 0; i < 8; i++) {
		int64_t limit = timeouts[i / 2], start = now_ms(), took;
		ck_assert_int_eq(pp_wait(c.futures, 2, whens[i % 2], limit), 1);
		took = now_ms() - start;
		ck_assert_int_ge(took + 1, limit);               /* two clocks are rounded down */
		ck_assert_int_lt(took, SUPPORT_GUARD_MS);
	}
	ck_assert_int_eq(pp_wait(c.futures, 1, PP_FIRST_COMPLETED, 30), 0);
	ck_assert(pp_future_running(c.futures[0]));
	crowd_free(&c);
}
END_TEST

START_TEST(duplicates_20369)
{
	struct crowd c;

	crowd_make(&c, 2);
	struct waiter w = WAITER(PP_ALL_COMPLETED, c.futures[0], c.futures[1], c.futures[0], c.futures[0]);
	ck_assert_int_eq(pp_wait(w.futures, w.n, PP_ALL_COMPLETED, 0), 0);
	waiter_start(&w);
	crowd_end(&c, 0, HOW_RETURN);
	crowd_end(&c, 1, HOW_RETURN);
	waiter_join(&w, 2);
	ck_assert_int_eq(pp_wait(w.futures, w.n, PP_ALL_COMPLETED, 0), 2);
	ck_assert_int_eq(pp_wait((pp_future *[]){ c.futures[1], c.futures[1] }, 2, PP_ALL_COMPLETED, PP_FOREVER), 1);
	crowd_free(&c);
}
END_TEST

START_TEST(nulls_and_nothing)
{
	struct crowd c;

	crowd_make(&c, 1);
	pp_future *futures[] = { NULL, c.futures[0], NULL }, *before[3];
	memcpy(before, futures, sizeof before);
	for (enum pp_when when = PP_ALL_COMPLETED; when <= PP_FIRST_EXCEPTION; when++) {
		ck_assert_int_eq(pp_wait(NULL, 0, when, PP_FOREVER), 0);
		ck_assert_int_eq(pp_wait(futures, 0, when, PP_FOREVER), 0);
		ck_assert_int_eq(pp_wait((pp_future *[]){ NULL, NULL }, 2, when, PP_FOREVER), 0);
		ck_assert_int_eq(pp_wait(futures, 3, when, 0), 0);
	}
	crowd_end(&c, 0, HOW_RETURN);
	ck_assert_int_eq(pp_wait(futures, 3, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), 1);
	ck_assert_mem_eq(futures, before, sizeof before);
	crowd_free(&c);
}
END_TEST

/* Four threads set up waits for the same tasks, which end at once. */
enum { ROUNDS = 200, RACERS = 4, TASKS = 8 };
struct race { pthread_barrier_t start, end; pp_future *futures[TASKS]; atomic_int next, wrong; };

static void *racer_main(void *race_)
{
	struct race *race = race_;
	int me = race->next++, rc;

	for (int i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&race->start);
		if (me == 0)
			rc = pp_wait(race->futures, TASKS, PP_FIRST_COMPLETED, SUPPORT_GUARD_MS) >= 1 ? TASKS : -1;
		else if (me == 1)
			rc = pp_wait(race->futures + 3, TASKS - 3, PP_ALL_COMPLETED, SUPPORT_GUARD_MS) + 3;
		else
			rc = pp_wait(race->futures, TASKS, me == 2 ? PP_FIRST_EXCEPTION : PP_ALL_COMPLETED, SUPPORT_GUARD_MS);
		race->wrong += rc != TASKS;
		pthread_barrier_wait(&race->end);
	}
	return NULL;
}

START_TEST(pending_calls_race)
{
	struct race race = { .next = 0 };
	pp_executor *ex = support_executor(2);
	pthread_t threads[RACERS];

	pthread_barrier_init(&race.start, NULL, RACERS + 1);
	pthread_barrier_init(&race.end, NULL, RACERS + 1);
	for (int i = 0; i < RACERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, racer_main, &race), 0);
	for (int i = 0; i < ROUNDS; i++) {
		for (int j = 0; j < TASKS; j++)
			race.futures[j] = support_submit(ex, task_nothing, NULL, 0);
		pthread_barrier_wait(&race.start);
		pthread_barrier_wait(&race.end);
		for (int j = 0; j < TASKS; j++)
			pp_future_free(race.futures[j]);
	}
	for (int i = 0; i < RACERS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(race.wrong, 0);
	pp_executor_free(ex);
	pthread_barrier_destroy(&race.start);
	pthread_barrier_destroy(&race.end);
}
END_TEST

START_TEST(mixed_executors)
{
	struct crowd c[2];

	crowd_make_done(&c[0], 2);
	crowd_make(&c[1], 1);
	struct waiter all = WAITER(PP_ALL_COMPLETED, c[1].futures[0], c[0].returned, c[0].futures[0], c[0].futures[1]);
	struct waiter first = WAITER(PP_FIRST_COMPLETED, c[0].futures[0], c[1].futures[0]);
	waiter_start(&all);
	waiter_start(&first);
	crowd_end(&c[1], 0, HOW_RETURN);
	waiter_join(&first, 1);
	crowd_end(&c[0], 1, HOW_ABORT);
	support_assert_kind(c[0].futures[1], PP_CRASHED);
	ck_assert(!sleeper_returned(&all.sleeper));
	ck_assert_int_eq(pp_wait(all.futures, all.n, PP_FIRST_EXCEPTION, PP_FOREVER), 3);
	ck_assert_int_eq(pp_wait(all.futures, all.n, PP_ALL_COMPLETED, 30), 3);
	crowd_end(&c[0], 0, HOW_RETURN);
	waiter_join(&all, 4);
	crowd_free(&c[1]);
	crowd_free(&c[0]);
}
END_TEST

static atomic_int signals;

static void count_signal(int signal)
{
	(void)signal;
	signals++;
}

static void assert_signals_do_not_end(struct waiter *w)
{
	waiter_start(w);
	for (int i = signals + 1, end = i + 50; i < end; i++) {
		pthread_kill(w->sleeper.thread, SIGUSR1);
		until_count(&signals, i, "the signal's handler");
	}
	ck_assert(!sleeper_returned(&w->sleeper));
}

START_TEST(eintr_does_not_end_wait)
{
	struct sigaction action = { .sa_handler = count_signal }, before;      /* without SA_RESTART */
	struct crowd c, other;

	crowd_make(&c, 1);
	crowd_make(&other, 1);
	ck_assert_int_eq(sigaction(SIGUSR1, &action, &before), 0);
	struct waiter one = WAITER(PP_ALL_COMPLETED, c.futures[0]);
	struct waiter mixed = WAITER(PP_ALL_COMPLETED, c.futures[0], other.futures[0]);
	assert_signals_do_not_end(&one);
	assert_signals_do_not_end(&mixed);
	crowd_end(&c, 0, HOW_RETURN);
	waiter_join(&one, 1);
	crowd_end(&other, 0, HOW_RETURN);
	waiter_join(&mixed, 2);
	ck_assert_int_eq(sigaction(SIGUSR1, &before, NULL), 0);
	crowd_free(&c);
	crowd_free(&other);
}
END_TEST

START_TEST(broken_pool_ends_wait)
{
	struct crowd c;

	crowd_make(&c, 2);
	struct waiter all = WAITER(PP_ALL_COMPLETED, c.futures[0], c.futures[1]);
	struct waiter exception = WAITER(PP_FIRST_EXCEPTION, c.futures[0]);
	waiter_start(&all);
	waiter_start(&exception);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	waiter_join(&all, 2);
	waiter_join(&exception, 1);
	crowd_free(&c);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("wait");
	TCase *first = support_tcase(suite, "first"), *exception = support_tcase(suite, "exception");
	TCase *all = support_tcase(suite, "all");

	tcase_add_test(first, first_completed);
	tcase_add_test(first, first_completed_by_cancel);
	tcase_add_test(first, first_completed_some_already_completed);
	tcase_add_test(exception, first_exception);
	tcase_add_test(exception, first_exception_some_already_complete);
	tcase_add_test(exception, first_exception_one_already_failed);
	tcase_add_test(exception, first_exception_none_is_all);
	tcase_add_test(all, all_completed);
	tcase_add_test(all, timeout);
	tcase_add_test(all, duplicates_20369);
	tcase_add_test(all, nulls_and_nothing);
	tcase_add_test(all, pending_calls_race);
	tcase_add_test(all, mixed_executors);
	tcase_add_test(all, eintr_does_not_end_wait);
	tcase_add_test(all, broken_pool_ends_wait);
	return suite;
}

SUPPORT_MAIN(make_suite)
