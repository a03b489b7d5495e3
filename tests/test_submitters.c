/* SPDX-License-Identifier: MIT */
/* White box: several threads that submit to one executor; which slots they get. */
#include <pthread.h>
#include <stdlib.h>
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
	pp_future **futures = submit_a_slab(ex), *some;

	free_elsewhere(futures, PP__FREE_FEW - 1);
	pthread_mutex_lock(&ex->submit_lock);
	ck_assert_uint_eq(pp__slots_in_use(ex), PP__SLAB - (PP__FREE_FEW - 1));
	ck_assert_ptr_null(pp__free_slots_take(ex, PP__FREE_FEW));
	some = pp__free_slots_take(ex, 1);
	ck_assert_ptr_nonnull(some);
	pp__free_slots_put(ex, some);
	ck_assert_uint_eq(pp__slots_in_use(ex), PP__SLAB - (PP__FREE_FEW - 1));
	pthread_mutex_unlock(&ex->submit_lock);
	free_elsewhere(futures + PP__FREE_FEW - 1, PP__SLAB - (PP__FREE_FEW - 1));
	ck_assert_uint_eq(pp__slots_in_use(ex), 0);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("submitters");
	TCase *slots = support_tcase(suite, "slots");

	tcase_add_test(slots, each_thread_gets_its_own_slots);
	tcase_add_test(slots, slots_of_readers_are_used_again);
	tcase_add_test(slots, few_are_left_to_others);
	return suite;
}

SUPPORT_MAIN(make_suite)
