/* SPDX-License-Identifier: MIT */
/*
 * White box: the throttle of wakes, with threads in the place of processes. What must never be left behind is the name
 * of a worker that runs as the one that searches: nobody else would be woken until its task ends. And the semaphore.
 */
#include <pthread.h>
#include <sched.h>
#include "segment.h"
#include "support.h"
#include "sysdep.h"
#include "wake.h"

#define ROUNDS 300000u
#define LONG_NS INT64_C(2000000000)      /* fewer rounds where others keep the processors busy */

static struct pp__segment segment;
static struct pp__shared *shared = &segment.shared;

static void make_segment(void)
{
	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, 4), 0);
	atomic_store(&shared->header->levels, 1u << PP__NORMAL);
}

static int tokens(uint32_t entry)
{
	return pp__sem_has_token(&shared->workers[entry].wake);
}

START_TEST(one_search_at_a_time)
{
	make_segment();
	ck_assert(!pp__wake_one(shared));
	pp__sleepers_enter(shared, 1);
	pp__sleepers_enter(shared, 3);
	ck_assert(pp__wake_one(shared));
	ck_assert(pp__wake_one(shared));
	ck_assert_int_eq(tokens(1), 1);
	ck_assert_int_eq(tokens(3), 0);
	ck_assert(!pp__searching_end(shared, 3));
	ck_assert(pp__searching_end(shared, 1));
	ck_assert(pp__wake_one(shared));
	ck_assert_int_eq(tokens(3), 1);
	ck_assert(pp__searching_end(shared, 3));
	ck_assert(!pp__wake_one(shared));
	ck_assert(pp__searching_begin(shared, 2));
	ck_assert(!pp__searching_begin(shared, 1));
	ck_assert(pp__wake_one(shared));
	pp__segment_destroy(&segment);
}
END_TEST

static _Atomic uint32_t arrived;
static _Atomic bool stopping;

/* Both threads go on when both are here, at once where they have a processor each. */
static void meet(uint32_t meeting)
{
	atomic_fetch_add(&arrived, 1);
	for (unsigned looks = 0; atomic_load(&arrived) < 2 * meeting; looks++)
		if (looks > 1000)
			sched_yield();
}

/* The threads drift past each other from round to round, so that each place of one meets each place of the other. */
static void drift(uint32_t steps)
{
	for (volatile uint32_t i = 0; i < steps; i++)
		;
}

/* A sleeper that finds work by its own look before it sleeps. */
static void *sleeper(void *context)
{
	for (uint32_t meeting = 0; !atomic_load(&stopping); meeting += 3) {
		pp__sleepers_enter(shared, 1);
		meet(meeting + 1);
		drift(meeting / 3 % 61);
		pp__sleepers_leave(shared, 1);
		pp__searching_end(shared, 1);
		meet(meeting + 2);
		meet(meeting + 3);
	}
	return context;
}

START_TEST(no_name_stays_on_a_runner)
{
	int64_t end = pp__now_ns() + LONG_NS;
	uint32_t stale = 0;
	pthread_t thread;

	make_segment();
	ck_assert_int_eq(pthread_create(&thread, NULL, sleeper, NULL), 0);
	for (uint32_t round = 0; !atomic_load(&stopping); round++) {
		meet(3 * round + 1);
		drift(round / 61 % 61);
		pp__wake_one(shared);
		meet(3 * round + 2);
		stale += atomic_exchange(&shared->control->searching, 0) != 0;
		atomic_store(&stopping, round >= ROUNDS || pp__now_ns() > end);
		meet(3 * round + 3);
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(stale, 0);
	pp__segment_destroy(&segment);
}
END_TEST

START_TEST(semaphore_overwritten)
{
	struct pp__sem sem = { 0xdeadbeef };

	ck_assert(pp__sem_wait(&sem, PP__NEVER));
	ck_assert(!pp__sem_trywait(&sem));
	ck_assert(!pp__sem_wait(&sem, pp__now_ns()));
	pp__sem_post(&sem);
	pp__sem_post(&sem);
	ck_assert(pp__sem_wait(&sem, PP__NEVER));
	ck_assert(!pp__sem_trywait(&sem));
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("wake");
	TCase *throttle = support_tcase(suite, "throttle");

	tcase_add_test(throttle, one_search_at_a_time);
	tcase_add_test(throttle, no_name_stays_on_a_runner);
	tcase_add_test(support_tcase(suite, "semaphore"), semaphore_overwritten);
	return suite;
}

SUPPORT_MAIN(make_suite)
