/* SPDX-License-Identifier: MIT */
/* Priorities: the highest first, the lowest not never, and each ring as sound as the one of a pool without them. */
#include <errno.h>
#include <string.h>
#include "stage.h"

static pp_future *submit_at(pp_executor *ex, int priority, pp_fn *fn, const void *data, size_t size)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.priority = priority;
	ck_assert_int_eq(pp_submit_with(ex, &options, fn, data, size, &future), 0);
	return future;
}

/* Returns how many ran before it: data is the address of the counter. */
static int task_order(pp_task *task, const void *data, size_t size)
{
	long *counter, order;

	if (size != sizeof counter)
		return 1;
	memcpy(&counter, data, size);
	order = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
	return pp_return(task, PP_BYTES(order));
}

static long order_of(pp_future *future)
{
	long order = -1;

	ck_assert_int_eq(pp_outcome_value(support_outcome(future), PP_BYTES(order)), 0);
	pp_future_free(future);
	return order;
}

struct race { struct stage stage; long *counter; };

static void race_make(struct race *race)
{
	race->counter = support_counters(1);
	stage_make(&race->stage, 0);
}

static void race_free(struct race *race)
{
	stage_free(&race->stage);
	support_counters_free(race->counter, 1);
}

static pp_future *race_submit(struct race *race, int priority)
{
	return submit_at(race->stage.ex, priority, task_order, PP_BYTES(race->counter));
}

/* One worker: all of a level in the order of their submits, level after level, whatever came first. */
START_TEST(priority_order)
{
	static const int priorities[] = { 0, -1, 1, -1, 0, 1, 1, 0, -1 };
	static const long expected[] = { 3, 6, 0, 7, 4, 1, 2, 5, 8 };
	pp_future *futures[9];
	struct race race;

	race_make(&race);
	for (int i = 0; i < 9; i++)
		futures[i] = race_submit(&race, priorities[i]);
	stage_let_go(&race.stage);
	for (int i = 0; i < 9; i++)
		ck_assert_int_eq(order_of(futures[i]), expected[i]);
	race_free(&race);
}
END_TEST

/* One claim in sixteen begins with the lowest. */
START_TEST(priority_low_is_not_starved)
{
	pp_future *high[100], *low[4];
	struct race race;

	race_make(&race);
	for (int i = 0; i < 4; i++)
		low[i] = race_submit(&race, -1);
	for (int i = 0; i < 100; i++)
		high[i] = race_submit(&race, 1);
	stage_let_go(&race.stage);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(order_of(low[i]), 16 * i + 15);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(order_of(high[i]), i + i / 15 - (i >= 60 ? i / 15 - 4 : 0));
	race_free(&race);
}
END_TEST

/* Each ring outgrows its first array, keeps its order, and has nothing lost. */
START_TEST(priority_rings_grow)
{
	enum { N = 5000 };
	static pp_future *futures[3][N];
	struct race race;
	long last;

	race_make(&race);
	for (int i = 0; i < N; i++)
		for (int level = 0; level < 3; level++)
			futures[level][i] = race_submit(&race, 1 - level);
	stage_let_go(&race.stage);
	for (int level = 0; level < 3; level++) {
		last = -1;
		for (int i = 0; i < N; i++) {
			long order = order_of(futures[level][i]);
			ck_assert_int_gt(order, last);
			last = order;
		}
	}
	ck_assert_int_eq(*race.counter, 3 * N);
	race_free(&race);
}
END_TEST

/* Crashes, cancels and several workers in all levels at once: every future ends as it should. */
START_TEST(priority_with_crashes)
{
	enum { N = 300 };
	pp_executor *ex = support_executor(3);
	pp_future *futures[N];
	enum death death = DIE_ABRT;

	for (int i = 0; i < N; i++)
		futures[i] = i % 30 == 7 ? submit_at(ex, i % 3 - 1, task_die, PP_BYTES(death))
		                         : submit_at(ex, i % 3 - 1, task_echo, PP_BYTES(i));
	for (int i = 0; i < N; i++) {
		if (i % 30 == 7)
			support_assert_kind(futures[i], PP_CRASHED);
		else
			support_assert_returned(futures[i], PP_BYTES(i));
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
}
END_TEST

struct inputs { int left; long **counter; };

static int next_input(const void **data, size_t *size, void *context)
{
	struct inputs *inputs = context;

	if (!inputs->left--)
		return 0;
	*data = inputs->counter;
	*size = sizeof *inputs->counter;
	return 1;
}

/* The tasks of a map have the priority that its task options say: all of them go before what waits. */
START_TEST(priority_of_map)
{
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	const pp_outcome *outcome;
	struct inputs inputs = { .left = 10 };
	pp_future *normal;
	struct race race;
	uint64_t index;
	pp_map *map;
	long order;

	race_make(&race);
	inputs.counter = &race.counter;
	normal = race_submit(&race, 0);
	task.priority = 1;
	options.task = &task;
	options.chunk = 2;
	options.buffer = 10;
	ck_assert_int_eq(pp_map_create(race.stage.ex, &options, task_order, next_input, &inputs, &map), 0);
	stage_let_go(&race.stage);
	for (uint64_t i = 0; i < 10; i++) {
		ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
		ck_assert_int_eq(pp_outcome_value(outcome, PP_BYTES(order)), 0);
		ck_assert_int_eq(order, (long)i);
	}
	ck_assert_int_eq(pp_map_next(map, &index, &outcome), 0);
	ck_assert_int_eq(order_of(normal), 10);
	pp_map_free(map);
	race_free(&race);
}
END_TEST

START_TEST(priority_refused)
{
	pp_executor *ex = support_executor(1);
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	for (int priority = -3; priority <= 3; priority++) {
		options.priority = priority;
		ck_assert_int_eq(pp_submit_with(ex, &options, task_nothing, NULL, 0, &future),
		                 priority < -1 || priority > 1 ? -EINVAL : 0);
		if (future)
			support_assert_returned(future, NULL, 0);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("priority");
	TCase *priority = support_tcase(suite, "priority");

	tcase_add_test(priority, priority_order);
	tcase_add_test(priority, priority_low_is_not_starved);
	tcase_add_test(priority, priority_rings_grow);
	tcase_add_test(priority, priority_with_crashes);
	tcase_add_test(priority, priority_of_map);
	tcase_add_test(priority, priority_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
