/* SPDX-License-Identifier: MIT */
/* White box: several threads that submit to one executor: which slots they get, and how they take turns. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "pool.h"
#include "support.h"

#define HALF  (PP__SLAB / 2)
#define STEPS 200

/* One of two threads that do the same, the first before the second. */
struct one {
	pp_executor       *ex;
	pthread_barrier_t *step;
	bool               first;
	int                same, wrong;  /* how often it got the slot again that it had given back; no slot */
};

/* Of one stack for both, the first would get the slot of the second. */
static void go_round(struct one *one, pp_future **future)
{
	uint32_t slot = (*future)->slot;

	pp_future_result(*future, SUPPORT_GUARD_MS, NULL);
	for (int second = 0; second < 2; second++) {
		if (one->first != second)
			pp_future_free(*future);
		pthread_barrier_wait(one->step);
	}
	for (int second = 0; second < 2; second++) {
		if (one->first != second)
			one->wrong += pp_submit(one->ex, task_nothing, NULL, 0, future) < 0;
		pthread_barrier_wait(one->step);
	}
	one->same += *future && (*future)->slot == slot;
}

static void *one_main(void *context)
{
	static _Thread_local pp_future *futures[HALF];
	struct one *one = context;

	for (int i = 0; i < (int)HALF; i++)
		one->wrong += pp_submit(one->ex, task_nothing, NULL, 0, &futures[i]) < 0;
	for (int i = 0; !one->wrong && i < STEPS; i++)
		go_round(one, &futures[i]);
	for (int i = 0; i < (int)HALF; i++)
		pp_future_free(futures[i]);
	return NULL;
}

START_TEST(each_thread_gets_its_own_slots)
{
	pp_executor *ex = support_executor(1);
	pthread_barrier_t step;
	struct one ones[2] = { { .ex = ex, .step = &step, .first = true }, { .ex = ex, .step = &step } };
	pthread_t other;

	pthread_barrier_init(&step, NULL, 2);
	ck_assert_int_eq(pthread_create(&other, NULL, one_main, &ones[1]), 0);
	one_main(&ones[0]);
	pthread_join(other, NULL);
	pthread_barrier_destroy(&step);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(ones[i].wrong, 0);
		ck_assert_int_eq(ones[i].same, STEPS);
	}
	pp_executor_free(ex);
}
END_TEST

struct some { pp_future **futures; size_t n; };

static void *free_main(void *context)
{
	const struct some *some = context;

	for (size_t i = 0; i < some->n; i++)
		pp_future_free(some->futures[i]);
	return NULL;
}

/* By a thread that never submits. */
static void free_elsewhere(pp_future **futures, size_t n)
{
	struct some some = { futures, n };
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, free_main, &some), 0);
	pthread_join(thread, NULL);
}

static pp_future **submit_a_slab(pp_executor *ex)
{
	static pp_future *futures[PP__SLAB];

	for (uint32_t i = 0; i < PP__SLAB; i++)
		futures[i] = support_submit(ex, task_nothing, NULL, 0);
	ck_assert_int_eq(pp_wait(futures, PP__SLAB, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), PP__SLAB);
	return futures;
}

/* One thread submits, another reads and frees: there are not ever more. */
START_TEST(slots_of_readers_are_used_again)
{
	pp_executor *ex = support_executor(1);

	for (int i = 0; i < 4; i++)
		free_elsewhere(submit_a_slab(ex), PP__SLAB);
	ck_assert_uint_eq(atomic_load(&ex->slots), PP__SLAB);
	pp_executor_free(ex);
}
END_TEST

/* What has come back to another thread is left to it while it is little; where no more slots can be made it is not. */
START_TEST(few_are_left_to_others)
{
	pp_executor *ex = support_executor(1);
	pp_future **futures = submit_a_slab(ex);
	struct pp__free_slots *own = pp__free_slots_own(ex->free_slots);

	free_elsewhere(futures, PP__FREE_FEW - 1);
	pthread_mutex_lock(&ex->submit_lock);
	ck_assert_uint_eq(pp__slots_in_use(ex), PP__SLAB - (PP__FREE_FEW - 1));
	ck_assert_uint_eq(own->list, 0);
	ck_assert(!pp__free_slots_refill(ex, own, PP__FREE_FEW));
	ck_assert(pp__free_slots_refill(ex, own, 1));
	ck_assert_uint_ne(own->list, 0);
	ck_assert_uint_eq(pp__slots_in_use(ex), PP__SLAB - (PP__FREE_FEW - 1));
	pthread_mutex_unlock(&ex->submit_lock);
	free_elsewhere(futures + PP__FREE_FEW - 1, PP__SLAB - (PP__FREE_FEW - 1));
	ck_assert_uint_eq(pp__slots_in_use(ex), 0);
	pp_executor_free(ex);
}
END_TEST

/* ---- turns */

#define FAR_NS INT64_C(1000000000000)

static struct pp__turns turns;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool comes_back;

/* As a submit that has found the lock taken; and again, if that is asked for. */
static void *meet_main(void *context)
{
	(void)context;
	for (int i = 0; i < 1 + comes_back; i++) {
		pp__turns_lock(&turns, &lock);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

/* One that meets the lock now, when it was found taken so often before. Returns which thread it was. */
static pthread_t begin_to_meet(uint32_t found_taken, bool twice)
{
	pthread_t thread;

	turns.found_taken = found_taken;
	turns.since = turns.taken;
	turns.since_ns = pp__now_ns() + FAR_NS;          /* it does not get too late */
	comes_back = twice;
	ck_assert_int_eq(pthread_create(&thread, NULL, meet_main, NULL), 0);
	return thread;
}

static bool has_stood_back(pthread_t thread)
{
	return turns.until_ns && pthread_equal(turns.newest, thread);
}

/* It comes back by itself: nobody takes the lock meanwhile. */
START_TEST(crowd_stands_back)
{
	pthread_t thread;

	pp__turns_init(&turns);
	thread = begin_to_meet(PP__TURNS_CROWD - 2, false);
	pthread_join(thread, NULL);
	ck_assert(!has_stood_back(thread));
	thread = begin_to_meet(PP__TURNS_CROWD - 1, false);
	pthread_join(thread, NULL);
	ck_assert(has_stood_back(thread));
	pp__turns_destroy(&turns);
}
END_TEST

START_TEST(newest_does_not_stand_back)
{
	int64_t until;
	pthread_t thread;

	pp__turns_init(&turns);
	pthread_mutex_lock(&lock);
	thread = begin_to_meet(PP__TURNS_CROWD - 1, true);
	turns.newest = thread;
	turns.until_ns = until = pp__now_ns() + FAR_NS;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	ck_assert_int_eq(turns.until_ns, until);
	pp__turns_destroy(&turns);
}
END_TEST

/* Takes the lock as often as can be until one stands back from it. false: it has come in again by itself. */
static bool lead(pthread_t thread)
{
	bool waits = false, is_back = false;

	while (!waits && !is_back) {
		pthread_mutex_lock(&lock);
		pp__turns_count(&turns, pp__now_ns());
		turns.since = turns.taken;
		waits = atomic_load(&turns.waiting) != 0;
		is_back = has_stood_back(thread);
		pthread_mutex_unlock(&lock);
		sched_yield();
	}
	return waits;
}

/* One stands back while it is the turn of this thread, then that ends. */
static void end_turn(void (*end)(void), bool tells)
{
	bool waits = false;
	pthread_t thread;

	pp__turns_init(&turns);
	while (!waits) {
		turns.newest = pthread_self();
		turns.until_ns = pp__now_ns() + FAR_NS;
		thread = begin_to_meet(PP__TURNS_CROWD - 1, false);
		waits = lead(thread);
		if (waits)
			end();
		pthread_mutex_lock(&lock);
		ck_assert(!tells || !turns.until_ns || has_stood_back(thread));
		pthread_mutex_unlock(&lock);
		pthread_join(thread, NULL);
		ck_assert(has_stood_back(thread));
	}
	ck_assert_uint_eq(atomic_load(&turns.waiting), 0);
	pp__turns_destroy(&turns);
}

static void end_by_time(void)
{
	pthread_mutex_lock(&lock);
	pp__turns_count(&turns, pp__now_ns() + FAR_NS);
	pthread_mutex_unlock(&lock);
}

static void end_by_leaving(void)
{
	pp__turns_leave(&turns, &lock);
}

static void end_silently(void) { }

START_TEST(turn_ends_with_its_time)
{
	end_turn(end_by_time, true);
}
END_TEST

START_TEST(turn_ends_with_a_wait)
{
	end_turn(end_by_leaving, true);
}
END_TEST

/* Who stands back counts on no word of those that have gone. */
START_TEST(turn_ends_in_silence)
{
	end_turn(end_silently, false);
}
END_TEST

/* ---- both */

enum { STREAMS = 20, OPEN = 64 };        /* more than there are lists of free slots */

struct stream { pp_executor *ex; atomic_bool *stop; _Atomic long n; long wrong, seen; };

static bool is_wrong(pp_future *future, long number)
{
	const pp_outcome *outcome;

	return pp_future_result(future, SUPPORT_GUARD_MS, &outcome) < 0 || outcome->kind != PP_RETURNED
	       || outcome->size != sizeof number || memcmp(outcome->data, &number, sizeof number) != 0;
}

static void *stream_main(void *context)
{
	struct stream *stream = context;
	pp_future *futures[OPEN] = { NULL };

	for (long i = 0; !atomic_load(stream->stop); i++) {
		pp_future **at = &futures[i % OPEN];
		if (*at)
			stream->wrong += is_wrong(*at, i - OPEN);
		pp_future_free(*at);
		stream->wrong += pp_submit(stream->ex, task_echo, &i, sizeof i, at) < 0;
		atomic_store(&stream->n, i + 1);
	}
	for (int i = 0; i < OPEN; i++)
		pp_future_free(futures[i]);
	return NULL;
}

static bool all_have_moved(void *context)
{
	struct stream *streams = context;
	bool all = true;

	for (int i = 0; i < STREAMS; i++)
		all &= atomic_load(&streams[i].n) > streams[i].seen;
	return all;
}

/* Each of many that never pause gets on, and so does one that submits now and then. */
START_TEST(nobody_is_kept_out)
{
	static struct stream streams[STREAMS];
	pthread_t threads[STREAMS];
	atomic_bool stop = false;
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < STREAMS; i++) {
		streams[i] = (struct stream){ .ex = ex, .stop = &stop };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, stream_main, &streams[i]), 0);
	}
	for (int round = 0; round < 5; round++) {
		pp_future *future = support_submit(ex, task_echo, &round, sizeof round);
		support_assert_returned(future, &round, sizeof round);
		pp_future_free(future);
		support_until(all_have_moved, streams, "each thread submits");
		for (int i = 0; i < STREAMS; i++)
			streams[i].seen = atomic_load(&streams[i].n) + 2 * OPEN;
	}
	atomic_store(&stop, true);
	for (int i = 0; i < STREAMS; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(streams[i].wrong, 0);
	}
	ck_assert_uint_eq(atomic_load(&ex->turns.waiting), 0);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("submitters");
	TCase *slots = support_tcase(suite, "slots"), *turn = support_tcase(suite, "turns");
	TCase *both = support_tcase(suite, "both");

	tcase_add_test(slots, each_thread_gets_its_own_slots);
	tcase_add_test(slots, slots_of_readers_are_used_again);
	tcase_add_test(slots, few_are_left_to_others);
	tcase_add_test(turn, crowd_stands_back);
	tcase_add_test(turn, newest_does_not_stand_back);
	tcase_add_test(turn, turn_ends_with_its_time);
	tcase_add_test(turn, turn_ends_with_a_wait);
	tcase_add_test(turn, turn_ends_in_silence);
	tcase_add_test(both, nobody_is_kept_out);
	return suite;
}

SUPPORT_MAIN(make_suite)
