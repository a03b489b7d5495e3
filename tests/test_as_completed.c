/* SPDX-License-Identifier: MIT */
/* Section 3 of the contract: walks over futures in the order in which they end. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "stage.h"

static pp_walk *walk_over(pp_future *const *futures, size_t n, int64_t timeout_ms)
{
	pp_walk *walk = NULL;

	ck_assert_int_eq(pp_as_completed(futures, n, timeout_ms, &walk), 0);
	ck_assert_ptr_nonnull(walk);
	return walk;
}

static void assert_next(pp_walk *walk, pp_future *wanted)
{
	size_t left = pp_walk_left(walk);
	pp_future *future = NULL;

	ck_assert_int_eq(pp_walk_next(walk, &future), 1);
	ck_assert_ptr_eq(future, wanted);
	ck_assert(pp_future_done(future));
	ck_assert_uint_eq(pp_walk_left(walk), left - 1);
}

static void assert_no_next(pp_walk *walk, int rc)
{
	size_t left = pp_walk_left(walk);
	pp_future *future = (pp_future *)(uintptr_t)1;

	ck_assert_int_eq(pp_walk_next(walk, &future), rc);
	ck_assert_ptr_null(future);
	ck_assert_uint_eq(pp_walk_left(walk), left);
}

static void assert_end(pp_walk *walk)
{
	ck_assert_uint_eq(pp_walk_left(walk), 0);
	assert_no_next(walk, 0);
	pp_walk_free(walk);
}

/* A call of pp_walk_next in a thread of its own. */
struct stepping { pp_walk *walk; pp_future *future; int rc; struct sleeper sleeper; };

static void step(void *stepping_)
{
	struct stepping *s = stepping_;

	s->rc = pp_walk_next(s->walk, &s->future);
}

/* Each is given while the next is still at its gate. */
START_TEST(no_timeout)
{
	static const int order[] = { 2, 0, 3, 1 };
	static const enum how ways[] = { HOW_RETURN, HOW_RAISE, HOW_ABORT, HOW_EXIT };
	struct crowd c;
	pp_walk *walk;

	crowd_make(&c, 4);
	walk = walk_over(c.futures, 4, PP_FOREVER);
	ck_assert_uint_eq(pp_walk_left(walk), 4);
	for (int i = 0; i < 4; i++) {
		struct stepping s = { .walk = walk };
		sleeper_start(&s.sleeper, step, &s);
		ck_assert(!sleeper_returned(&s.sleeper));
		crowd_end(&c, order[i], ways[i]);
		sleeper_join(&s.sleeper);
		ck_assert_int_eq(s.rc, 1);
		ck_assert_ptr_eq(s.future, c.futures[order[i]]);
		ck_assert_uint_eq(pp_walk_left(walk), 3 - (size_t)i);
	}
	assert_end(walk);
	crowd_free(&c);
}
END_TEST

START_TEST(done_ones_first)
{
	struct crowd c;
	pp_walk *walk;

	crowd_make_done(&c, 1);
	walk = walk_over((pp_future *[]){ c.futures[0], c.raised, c.cancelled, c.returned }, 4, PP_FOREVER);
	assert_next(walk, c.raised);
	assert_next(walk, c.cancelled);
	assert_next(walk, c.returned);
	crowd_end(&c, 0, HOW_RETURN);
	assert_next(walk, c.futures[0]);
	assert_end(walk);
	crowd_free(&c);
}
END_TEST

/* Nobody steps meanwhile; a cancel is announced before it returns, so the order is known. */
START_TEST(order_of_finishing)
{
	enum { N = 100 };
	pp_future *futures[N];
	struct stage stage;
	pp_walk *walk;

	stage_make(&stage, 0);
	for (int i = 0; i < N; i++)
		futures[i] = stage_submit(&stage, "");
	walk = walk_over(futures, N, PP_FOREVER);
	for (int i = 0; i < N; i++)
		ck_assert(pp_future_cancel(futures[i * 37 % N]));
	for (int i = 0; i < N; i++)
		assert_next(walk, futures[i * 37 % N]);
	assert_end(walk);
	for (int i = 0; i < N; i++)
		pp_future_free(futures[i]);
	stage_free(&stage);
}
END_TEST

START_TEST(timeout_zero)
{
	struct crowd c;
	pp_walk *walk;

	crowd_make_done(&c, 1);
	walk = walk_over((pp_future *[]){ c.returned, c.futures[0], c.cancelled }, 3, 0);
	assert_next(walk, c.returned);
	assert_next(walk, c.cancelled);
	assert_no_next(walk, -ETIMEDOUT);
	assert_no_next(walk, -ETIMEDOUT);
	ck_assert_uint_eq(pp_walk_left(walk), 1);
	pp_walk_free(walk);
	crowd_free(&c);
}
END_TEST

/* One time for the whole walk: what the first two take is not given to the third. */
START_TEST(timeout_partial)
{
	struct crowd c;
	pp_walk *walk;
	int64_t start, took;

	crowd_make(&c, 3);
	start = now_ms();
	walk = walk_over(c.futures, 3, 1500);
	for (int i = 0; i < 2; i++) {
		crowd_end(&c, i, HOW_RETURN);
		assert_next(walk, c.futures[i]);
	}
	assert_no_next(walk, -ETIMEDOUT);
	took = now_ms() - start;
	ck_assert_int_ge(took + 1, 1500);                /* two clocks are rounded down */
	ck_assert_int_lt(took, SUPPORT_GUARD_MS);
	start = now_ms();
	assert_no_next(walk, -ETIMEDOUT);
	ck_assert_int_lt(now_ms() - start, 1000);        /* it does not start anew */
	pp_walk_free(walk);
	crowd_free(&c);
}
END_TEST

struct look { pp_walk *walk; pp_future *future; };

static bool gives_one(void *look_)
{
	struct look *look = look_;

	return pp_walk_next(look->walk, &look->future) == 1;
}

/* A timeout ends nothing: it goes on looking, and what is done since is still given. */
START_TEST(walk_left_after_timeout)
{
	struct crowd c;
	struct look look;

	crowd_make(&c, 3);
	crowd_end(&c, 1, HOW_RETURN);
	support_assert_kind(c.futures[1], PP_RETURNED);
	look.walk = walk_over(c.futures, 3, 20);
	assert_next(look.walk, c.futures[1]);
	assert_no_next(look.walk, -ETIMEDOUT);
	ck_assert_uint_eq(pp_walk_left(look.walk), 2);
	crowd_end(&c, 2, HOW_RETURN);
	support_until(gives_one, &look, "the one that is done since");
	ck_assert_ptr_eq(look.future, c.futures[2]);
	assert_no_next(look.walk, -ETIMEDOUT);
	ck_assert_uint_eq(pp_walk_left(look.walk), 1);
	pp_walk_free(look.walk);
	crowd_free(&c);
}
END_TEST

START_TEST(duplicate_futures)
{
	struct crowd c;
	pp_walk *walk;

	crowd_make_done(&c, 1);
	pp_future *running = c.futures[0];
	walk = walk_over((pp_future *[]){ running, c.raised, running, NULL, c.raised, running }, 6, PP_FOREVER);
	ck_assert_uint_eq(pp_walk_left(walk), 2);
	assert_next(walk, c.raised);
	crowd_end(&c, 0, HOW_RETURN);
	assert_next(walk, running);
	assert_end(walk);
	crowd_free(&c);
}
END_TEST

START_TEST(walk_over_nothing)
{
	assert_end(walk_over(NULL, 0, PP_FOREVER));
	assert_end(walk_over((pp_future *[]){ NULL, NULL }, 2, PP_FOREVER));
	assert_end(walk_over(NULL, 0, 0));
}
END_TEST

/* At every point of the walk; the futures then end as if nobody had walked. */
START_TEST(leave_early)
{
	enum { N = 50 };
	struct stage stage;
	pp_future *futures[N], *future;

	stage_make(&stage, 0);
	for (int i = 0; i < N; i++)
		futures[i] = stage_submit(&stage, "");
	pp_walk_free(walk_over(futures, N, PP_FOREVER));
	pp_walk *early = walk_over(futures, N, PP_FOREVER), *late = walk_over(futures, N, PP_FOREVER);
	stage_let_go(&stage);
	for (int i = 0; i < N / 2; i++)
		ck_assert_int_eq(pp_walk_next(late, &future), 1);
	pp_walk_free(early);
	pp_walk_free(late);
	for (int i = 0; i < N; i++) {
		support_assert_returned(futures[i], "", 0);
		pp_future_free(futures[i]);
	}
	stage_free(&stage);
}
END_TEST

/* The walk has references of its own. */
START_TEST(walk_keeps_futures)
{
	enum { N = 500 };
	pp_executor *ex = support_executor(2);
	pp_future *futures[N], *future;
	long sum = 0;
	pp_walk *walk;

	for (int i = 0; i < N; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	walk = walk_over(futures, N, SUPPORT_GUARD_MS);
	for (int i = 0; i < N; i++)
		pp_future_free(futures[i]);
	for (int i = 0; i < N; i++) {
		int value;
		ck_assert_int_eq(pp_walk_next(walk, &future), 1);
		memcpy(&value, support_outcome(future)->data, sizeof value);
		sum += value;
	}
	ck_assert_int_eq(sum, N * (N - 1) / 2);
	pp_executor_free(ex);
	assert_end(walk);
}
END_TEST

enum { ALL = 300, SHARED = 100 };
struct walker { pp_future **futures; size_t n; int given[ALL], rc; pthread_t thread; };

/* Notes how often each was given, by the number that it returned. */
static void *walker_main(void *walker_)
{
	struct walker *w = walker_;
	const pp_outcome *outcome;
	pp_future *future;
	pp_walk *walk;
	int value;

	w->rc = pp_as_completed(w->futures, w->n, SUPPORT_GUARD_MS, &walk);
	if (w->rc < 0)
		return NULL;
	while ((w->rc = pp_walk_next(walk, &future)) == 1) {
		w->rc = pp_future_result(future, 0, &outcome);
		if (w->rc < 0)
			break;
		memcpy(&value, outcome->data, sizeof value);
		w->given[value]++;
	}
	pp_walk_free(walk);
	return NULL;
}

/* Each gets all of its own, those that both have included. */
START_TEST(two_walkers)
{
	struct walker walkers[2] = { { .n = (ALL + SHARED) / 2 }, { .n = (ALL + SHARED) / 2 } };
	pp_executor *ex = support_executor(2);
	pp_future *futures[ALL];
	int wrong = 0;

	for (int i = 0; i < ALL; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	walkers[0].futures = futures;
	walkers[1].futures = futures + ALL - walkers[1].n;
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&walkers[i].thread, NULL, walker_main, &walkers[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(walkers[i].thread, NULL);
		ck_assert_int_eq(walkers[i].rc, 0);
	}
	for (int i = 0; i < ALL; i++) {
		wrong += walkers[0].given[i] != (i < (ALL + SHARED) / 2);
		wrong += walkers[1].given[i] != (i >= (ALL - SHARED) / 2);
		pp_future_free(futures[i]);
	}
	ck_assert_int_eq(wrong, 0);
	pp_executor_free(ex);
}
END_TEST

START_TEST(walk_over_mixed_executors)
{
	struct crowd a, b;
	pp_walk *walk;

	crowd_make(&a, 2);
	crowd_make(&b, 2);
	walk = walk_over((pp_future *[]){ a.futures[0], b.futures[0], b.futures[1], a.futures[1] }, 4, PP_FOREVER);
	crowd_end(&b, 1, HOW_RETURN);
	assert_next(walk, b.futures[1]);
	crowd_end(&a, 0, HOW_ABORT);
	assert_next(walk, a.futures[0]);
	crowd_end(&a, 1, HOW_RETURN);
	assert_next(walk, a.futures[1]);
	crowd_end(&b, 0, HOW_RETURN);
	assert_next(walk, b.futures[0]);
	assert_end(walk);
	crowd_free(&a);
	crowd_free(&b);
}
END_TEST

START_TEST(broken_pool_ends_walk)
{
	struct crowd c;
	pp_future *future;
	pp_walk *walk;

	crowd_make(&c, 2);
	walk = walk_over(c.futures, 2, PP_FOREVER);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pp_walk_next(walk, &future), 1);
		support_assert_kind(future, PP_BROKEN);
	}
	assert_end(walk);
	crowd_free(&c);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("as_completed");
	TCase *order = support_tcase(suite, "order"), *timeouts = support_tcase(suite, "timeout");
	TCase *sets = support_tcase(suite, "sets");

	tcase_add_test(order, no_timeout);
	tcase_add_test(order, done_ones_first);
	tcase_add_test(order, order_of_finishing);
	tcase_add_test(timeouts, timeout_zero);
	tcase_add_test(timeouts, timeout_partial);
	tcase_add_test(timeouts, walk_left_after_timeout);
	tcase_add_test(sets, duplicate_futures);
	tcase_add_test(sets, walk_over_nothing);
	tcase_add_test(sets, leave_early);
	tcase_add_test(sets, walk_keeps_futures);
	tcase_add_test(sets, two_walkers);
	tcase_add_test(sets, walk_over_mixed_executors);
	tcase_add_test(sets, broken_pool_ends_walk);
	return suite;
}

SUPPORT_MAIN(make_suite)
