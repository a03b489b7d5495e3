/* SPDX-License-Identifier: MIT */
/*
 * Chunks of a map that do not come to their end: an item dies, is killed, the executor is shut down or breaks. Each
 * item then has the outcome that it would have as a task of its own, and none is started twice.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "mapped.h"

#define COUNTERS 100

/* Counts each start; items in the mask die in the way told; the one at_gate waits there first. */
static struct { long *ran; unsigned mask; int how, at_gate; struct gate gate; } plan;

static void plan_make(unsigned mask, int how, int at_gate)
{
	gate_make(&plan.gate);
	plan.ran = support_counters(COUNTERS);
	plan.mask = mask;
	plan.how = how;
	plan.at_gate = at_gate;
}

static void plan_destroy(int n)
{
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(plan.ran[i], 1);
	support_counters_free(plan.ran, COUNTERS);
	gate_destroy(&plan.gate);
}

static int task_plan(pp_task *task, const void *data, size_t size)
{
	int x;

	memcpy(&x, data, size);
	__atomic_fetch_add(&plan.ran[x], 1, __ATOMIC_SEQ_CST);
	if (x == plan.at_gate && gate_pass(&plan.gate))
		return pp_raise(task, EPIPE, "the gate is broken");
	if (x < 32 && plan.mask & 1u << x)
		return task_die(task, &plan.how, sizeof plan.how);
	return pp_return(task, data, size);
}

static const struct { int how, kind; } ways[] = {
	{ DIE_SEGV, PP_CRASHED }, { DIE_KILL, PP_CRASHED }, { DIE_EXIT0, PP_EXITED }, { DIE__EXIT, PP_EXITED },
	{ DIE_PTHREAD_EXIT, PP_EXITED }, { DIE_EXEC, PP_EXITED }, { DIE_STACK, PP_CRASHED },
};

/* Each item has its own end: those before the crash keep their results, those behind it run elsewhere; none runs
 * twice. */
static void assert_crashes(unsigned mask, int way)
{
	struct numbers numbers = { .n = 12 };
	pp_executor *ex;
	pp_map *map;

	plan_make(mask, ways[way].how, -1);
	ex = support_executor(2);
	map = map_over(ex, task_plan, &numbers, 12, false);
	for (int i = 0; i < 12; i++) {
		const pp_outcome *outcome = next_of(map, i);
		if (mask & 1u << i)
			ck_assert_int_eq(outcome->kind, ways[way].kind);
		else
			assert_number(outcome, i);
		ck_assert_int_gt(outcome->pid, 0);
		ck_assert_uint_eq(outcome->attempt, 1);
	}
	ck_assert_ptr_null(pp_executor_broken(ex));
	finish_map(map, 0, ex);
	plan_destroy(12);
}

START_TEST(map_crash_in_chunk)
{
	assert_crashes(1u << 3 | 1u << 7, _i);
	assert_crashes(1u | 1u << 11, _i);
}
END_TEST

START_TEST(map_every_item_crashes)
{
	assert_crashes(0xfffu, 0);
}
END_TEST

START_TEST(map_crash_in_unordered_chunks)
{
	struct numbers numbers = { .n = 60 };
	bool seen[60] = { false };
	const pp_outcome *outcome;
	pp_executor *ex;
	uint64_t index;
	pp_map *map;

	plan_make(0x11111111u, DIE_SEGV, -1);
	ex = support_executor(3);
	map = map_over(ex, task_plan, &numbers, 7, true);
	for (int n = 0; n < 60; n++) {
		ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
		ck_assert(index < 60 && !seen[index]);
		seen[index] = true;
		if (index < 32 && index % 4 == 0)
			ck_assert_int_eq(outcome->kind, PP_CRASHED);
		else
			assert_number(outcome, (int)index);
	}
	finish_map(map, 0, ex);
	plan_destroy(60);
}
END_TEST

/* A thread that the first item left behind waits for the second, then takes the process with it. */
static void *crash_later(void *nothing)
{
	(void)nothing;
	while (!__atomic_load_n(&plan.ran[1], __ATOMIC_SEQ_CST))
		;
	raise(SIGSEGV);
	return NULL;
}

static int task_beside(pp_task *task, const void *data, size_t size)
{
	pthread_t thread;
	int x;

	memcpy(&x, data, size);
	if (x == 0 && pthread_create(&thread, NULL, crash_later, NULL) != 0)
		return pp_raise(task, EAGAIN, "no thread");
	for (volatile int i = 0; i < 2000; i++)
		;
	__atomic_fetch_add(&plan.ran[x], 1, __ATOMIC_SEQ_CST);
	return pp_return(task, data, size);
}

/* The parent hears of the crash while the chunk still runs on: from then on no item of it may start, since the parent
 * has the others run elsewhere. At most one is charged. */
START_TEST(map_thread_crashes_beside_chunk)
{
	enum { N = 2000 };
	struct numbers numbers = { .n = N };
	int crashed = 0, twice = 0;
	pp_executor *ex;
	pp_map *map;

	plan_make(0, 0, -1);
	support_counters_free(plan.ran, COUNTERS);
	plan.ran = support_counters(N);
	ex = support_executor(2);
	map = map_over(ex, task_beside, &numbers, N, false);
	for (int i = 0; i < N; i++) {
		const pp_outcome *outcome = next_of(map, i);
		crashed += outcome->kind == PP_CRASHED;
		if (outcome->kind != PP_CRASHED)
			assert_number(outcome, i);
	}
	finish_map(map, 0, ex);
	for (int i = 0; i < N; i++)
		twice += plan.ran[i] > 1;
	ck_assert_int_eq(twice, 0);
	ck_assert_int_le(crashed, 1);
	support_counters_free(plan.ran, N);
	gate_destroy(&plan.gate);
}
END_TEST

/* A kill of all workers costs the item that runs, and no other. */
START_TEST(map_kill_in_chunk)
{
	struct numbers numbers = { .n = 10 };
	pp_executor *ex;
	pp_map *map;

	plan_make(0, 0, 4);
	ex = support_executor(1);
	map = map_over(ex, task_plan, &numbers, 10, false);
	gate_await(&plan.gate, 1);
	ck_assert_int_eq(pp_executor_signal(ex, SIGKILL), 0);
	for (int i = 0; i < 10; i++) {
		const pp_outcome *outcome = next_of(map, i);
		if (i == 4)
			ck_assert_int_eq(outcome->kind, PP_KILLED);
		else
			assert_number(outcome, i);
	}
	finish_map(map, 0, ex);
	plan_destroy(10);
}
END_TEST

/* Of a chunk that runs, too, what has not started is cancelled. */
START_TEST(map_shutdown_cancels)
{
	static const size_t chunks[] = { 1, 10 };
	struct numbers numbers = { .n = 10, .stops_with = 0 };
	pp_executor *ex;
	pp_map *map;

	plan_make(0, 0, 2);
	ex = support_executor(1);
	map = map_over(ex, task_plan, &numbers, chunks[_i], false);
	gate_await(&plan.gate, 1);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	gate_open(&plan.gate, 1);
	for (int i = 0; i < 10; i++) {
		const pp_outcome *outcome = next_of(map, i);
		if (i <= 2)
			assert_number(outcome, i);
		else
			ck_assert_int_eq(outcome->kind, PP_CANCELLED);
		ck_assert_int_eq(outcome->attempt, i <= 2);
	}
	finish_map(map, 0, ex);
	plan_destroy(3);
}
END_TEST

START_TEST(map_shutdown_ends_input)
{
	struct numbers numbers = { .n = 100 };
	pp_executor *ex = support_executor(1);
	pp_map *map = map_over(ex, task_echo, &numbers, 1, false);
	int i = 0;

	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, PP_FOREVER), 0);
	for (int n = numbers.taken; i < n; i++)
		assert_number(next_of(map, i), i);
	ck_assert_int_eq(next_of(map, i)->kind, PP_CANCELLED);
	ck_assert_int_eq(numbers.taken, i + 1);
	assert_end(map, -ESHUTDOWN);
	pp_map_free(map);
	ck_assert_int_eq(pp_map_create(ex, NULL, task_echo, next_number, &numbers, &map), -ESHUTDOWN);
	ck_assert_ptr_null(map);
	pp_executor_free(ex);
}
END_TEST

/* What has ended is given, the one that ran and those behind it are broken. */
START_TEST(map_broken_pool)
{
	struct numbers numbers = { .n = 10 };
	pp_executor *ex;
	pp_map *map;

	plan_make(0, 0, 2);
	ex = support_executor(1);
	map = map_over(ex, task_plan, &numbers, 10, _i);
	gate_await(&plan.gate, 1);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	for (int i = 0; i < 10; i++) {
		const pp_outcome *outcome = next_of(map, i);
		if (i < 2)
			assert_number(outcome, i);
		else
			ck_assert_int_eq(outcome->kind, PP_BROKEN);
		ck_assert_str_ne(outcome->message, i < 2 ? "x" : "");
	}
	finish_map(map, 0, ex);
	plan_destroy(3);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("map_crash");
	TCase *tcase = support_tcase(suite, "map_crash");

	tcase_add_loop_test(tcase, map_crash_in_chunk, 0, (int)(sizeof ways / sizeof *ways));
	tcase_add_test(tcase, map_every_item_crashes);
	tcase_add_test(tcase, map_crash_in_unordered_chunks);
	tcase_add_test(tcase, map_thread_crashes_beside_chunk);
	tcase_add_test(tcase, map_kill_in_chunk);
	tcase_add_loop_test(tcase, map_shutdown_cancels, 0, 2);
	tcase_add_test(tcase, map_shutdown_ends_input);
	tcase_add_loop_test(tcase, map_broken_pool, 0, 2);
	return suite;
}

SUPPORT_MAIN(make_suite)
