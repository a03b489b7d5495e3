/* SPDX-License-Identifier: MIT */
/* Section 4 of the contract: map, as one takes it from Python: order, chunks, buffer, errors, timeout, early end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "stage.h"

/* A source of the numbers 0, 1, 2 ... */
struct numbers { uint64_t n, taken, now; };

static int next_number(const void **data, size_t *size, void *numbers_)
{
	struct numbers *numbers = numbers_;

	if (numbers->taken == numbers->n)
		return 0;
	numbers->now = numbers->taken++;
	*data = &numbers->now;
	*size = sizeof numbers->now;
	return 1;
}

static int task_square(pp_task *task, const void *data, size_t size)
{
	uint64_t x;

	memcpy(&x, data, size);
	x *= x;
	return pp_return(task, &x, sizeof x);
}

static pp_map *map_over(pp_executor *ex, pp_fn *fn, struct numbers *numbers, size_t chunk, size_t buffer)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_map *map = NULL;

	options.chunk = chunk;
	options.buffer = buffer;
	ck_assert_int_eq(pp_map_create(ex, &options, fn, next_number, numbers, &map), 0);
	ck_assert_ptr_nonnull(map);
	return map;
}

static const pp_outcome *next_of(pp_map *map, uint64_t wanted)
{
	const pp_outcome *outcome = NULL;
	uint64_t index = UINT64_MAX;

	ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
	ck_assert_uint_eq(index, wanted);
	ck_assert_ptr_nonnull(outcome);
	return outcome;
}

static void assert_square(pp_map *map, uint64_t i)
{
	const pp_outcome *outcome = next_of(map, i);
	uint64_t x;

	ck_assert_int_eq(outcome->kind, PP_RETURNED);
	ck_assert_uint_eq(outcome->size, sizeof x);
	memcpy(&x, outcome->data, sizeof x);
	ck_assert_uint_eq(x, i * i);
}

static void assert_end(pp_map *map, int code)
{
	const pp_outcome *outcome = (const void *)map;

	for (int again = 0; again < 2; again++) {
		ck_assert_int_eq(pp_map_next(map, NULL, &outcome), code);
		ck_assert_ptr_null(outcome);
	}
}

static void assert_progress(pp_map *map, uint64_t done, uint64_t total, int ended)
{
	uint64_t d = 0, t = 0;

	ck_assert_int_eq(pp_map_progress(map, &d, &t), ended);
	ck_assert_uint_eq(d, done);
	ck_assert_uint_eq(t, total);
}

static void assert_all_squares(pp_executor *ex, uint64_t n, size_t chunk, size_t buffer)
{
	struct numbers numbers = { .n = n };
	pp_map *map = map_over(ex, task_square, &numbers, chunk, buffer);

	for (uint64_t i = 0; i < n; i++)
		assert_square(map, i);
	assert_end(map, 0);
	assert_progress(map, n, n, 1);
	pp_map_free(map);
}

START_TEST(map_equals_serial)
{
	pp_executor *ex = support_executor(2);

	for (uint64_t n = 1; n < 20000; n = n * 5 / 2 + 1)
		assert_all_squares(ex, n, 0, 0);
	pp_executor_free(ex);
}
END_TEST

/* Counted before the item does anything; then the one called at_gate waits there. */
struct course { struct gate gate; long *ran; uint64_t at_gate; };
static struct course course;

static void course_make(uint64_t at_gate)
{
	gate_make(&course.gate);
	course.ran = support_counters(100);
	course.at_gate = at_gate;
}

static void course_destroy(void)
{
	gate_destroy(&course.gate);
	support_counters_free(course.ran, 100);
}

static int task_course(pp_task *task, const void *data, size_t size)
{
	uint64_t x;

	memcpy(&x, data, size);
	__atomic_fetch_add(&course.ran[x], 1, __ATOMIC_SEQ_CST);
	if (x == course.at_gate && gate_pass(&course.gate))
		return pp_raise(task, EPIPE, "the gate is broken");
	return task_square(task, data, size);
}

/* Its item is at the gate before anybody asks for it. */
START_TEST(map_starts_before_next)
{
	struct numbers numbers = { .n = 1 };
	pp_executor *ex;
	pp_map *map;

	course_make(0);
	ex = support_executor(1);
	map = map_over(ex, task_course, &numbers, 0, 0);
	gate_await(&course.gate, 1);
	gate_open(&course.gate, 1);
	assert_square(map, 0);
	pp_map_free(map);
	pp_executor_free(ex);
	course_destroy();
}
END_TEST

/* A worker for each task, so that the number of different pids is the number of tasks. */
START_TEST(map_chunks)
{
	static const struct { size_t chunk; int tasks; } cases[] = {
		{ 6, 7 }, { 50, 1 }, { 40, 1 }, { SIZE_MAX / 2, 1 },
	};
	pp_options options = support_options(1);
	struct numbers numbers = { .n = 40 };
	int tasks = 0, pid = 0;
	pp_executor *ex;
	pp_map *map;

	options.max_tasks_per_worker = 1;
	ex = support_create(&options);
	map = map_over(ex, task_pid, &numbers, cases[_i].chunk, 0);
	for (uint64_t i = 0; i < 40; i++) {
		const pp_outcome *outcome = next_of(map, i);
		ck_assert_int_eq(outcome->kind, PP_RETURNED);
		ck_assert_int_eq(memcmp(outcome->data, &outcome->pid, sizeof outcome->pid), 0);
		tasks += outcome->pid != pid;
		pid = outcome->pid;
	}
	assert_end(map, 0);
	ck_assert_int_eq(tasks, cases[_i].tasks);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

START_TEST(map_chunks_too_large)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct numbers numbers = { .n = 1 };
	pp_executor *ex = support_executor(1);
	pp_map *map = (void *)ex;

	options.chunk = SIZE_MAX / 2 + 1;
	ck_assert_int_eq(pp_map_create(ex, &options, task_square, next_number, &numbers, &map), -EINVAL);
	ck_assert_ptr_null(map);
	options.chunk = 1;
	options.buffer = SIZE_MAX / 2 + 1;
	ck_assert_int_eq(pp_map_create(ex, &options, task_square, next_number, &numbers, &map), -EINVAL);
	ck_assert_uint_eq(numbers.taken, 0);
	pp_executor_free(ex);
}
END_TEST

/* Every third raises, with a detail; every seventh only returns a code. */
static int task_picky(pp_task *task, const void *data, size_t size)
{
	uint64_t x;

	memcpy(&x, data, size);
	if (x % 3 == 0)
		return pp_raise_data(task, (int)x + 1, data, size, "no %d", (int)x);
	return x % 7 == 0 ? -(int)x : task_square(task, data, size);
}

START_TEST(map_exception_goes_on)
{
	static const size_t chunks[] = { 1, 8, 100, 0 };
	struct numbers numbers = { .n = 100 };
	pp_executor *ex = support_executor(2);
	pp_map *map = map_over(ex, task_picky, &numbers, chunks[_i], 0);
	char text[32];

	for (uint64_t i = 0; i < 100; i++) {
		const pp_outcome *outcome;
		if (i % 3 && i % 7) {
			assert_square(map, i);
			continue;
		}
		outcome = next_of(map, i);
		ck_assert_int_eq(outcome->kind, PP_RAISED);
		ck_assert_int_eq(outcome->code, i % 3 ? -(int)i : (int)i + 1);
		snprintf(text, sizeof text, "no %d", (int)i);
		ck_assert_str_eq(outcome->message, i % 3 ? "" : text);
		ck_assert_uint_eq(outcome->size, i % 3 ? 0 : sizeof i);
		ck_assert(i % 3 || memcmp(outcome->data, &i, sizeof i) == 0);
	}
	assert_end(map, 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

static bool two_are_done(void *map)
{
	uint64_t done = 0;

	return pp_map_progress(map, &done, NULL) >= 0 && done == 2;
}

static bool all_are_done(void *map)
{
	uint64_t done = 0, total = 0;

	return pp_map_progress(map, &done, &total) >= 0 && done == total;
}

/* chunk 1, and all in one chunk, in which the first two are done while it runs on. */
START_TEST(map_timeout_partial)
{
	static const size_t chunks[] = { 1, 3 };
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct numbers numbers = { .n = 3 };
	pp_executor *ex;
	pp_map *map;

	course_make(2);
	ex = support_executor(1);
	options.chunk = chunks[_i];
	options.buffer = 8;
	options.timeout_ms = 1000;           /* much longer than create takes */
	ck_assert_int_eq(pp_map_create(ex, &options, task_course, next_number, &numbers, &map), 0);
	ck_assert_uint_eq(numbers.taken, 3);
	gate_await(&course.gate, 1);
	support_until(two_are_done, map, "two items that are done");
	for (uint64_t i = 0; i < 2 && chunks[_i] == 1; i++)
		assert_square(map, i);
	assert_end(map, -ETIMEDOUT);
	assert_progress(map, 2, 3, 1);
	gate_open(&course.gate, 1);
	support_until(all_are_done, map, "an item that ends after the time");
	for (uint64_t i = chunks[_i] == 1 ? 2 : 0; i < 3; i++)
		assert_square(map, i);
	assert_end(map, 0);
	pp_map_free(map);
	pp_executor_free(ex);
	course_destroy();
}
END_TEST

/* What has not started by then never does, be it a task of its own or the rest of a chunk. */
START_TEST(map_close_cancels)
{
	static const size_t chunks[] = { 1, 4, 10 };
	struct numbers numbers = { .n = 10 };
	pp_executor *ex;
	pp_map *map;

	course_make(1);
	ex = support_executor(1);
	map = map_over(ex, task_course, &numbers, chunks[_i], 10);
	gate_await(&course.gate, 1);
	pp_map_free(map);
	gate_open(&course.gate, 1);
	pp_executor_free(ex);
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(course.ran[i], i < 2);
	course_destroy();
}
END_TEST

/* As many inputs as the buffer at create; one more with each that is asked for. */
START_TEST(map_buffer)
{
	static const size_t buffers[] = { 1, 2, 10, 20 };
	uint64_t n = 10, buffer = buffers[_i];
	struct numbers numbers = { .n = n };
	pp_executor *ex = support_executor(2);
	pp_map *map = map_over(ex, task_square, &numbers, 1, buffer);

	for (uint64_t i = 0; i < n; i++) {
		ck_assert_uint_eq(numbers.taken, buffer + i < n ? buffer + i : n);
		assert_square(map, i);
	}
	assert_end(map, 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

START_TEST(map_buffer_endless_input)
{
	struct numbers numbers = { .n = UINT64_MAX };
	pp_executor *ex = support_executor(2);
	pp_map *map = map_over(ex, task_square, &numbers, 1, 5);

	for (uint64_t i = 0; i < 1000; i++)
		assert_square(map, i);
	ck_assert_uint_eq(numbers.taken, 1005);
	ck_assert_int_eq(pp_map_progress(map, NULL, NULL), 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

START_TEST(map_buffer_empty_input)
{
	struct numbers numbers = { .n = 0 };
	pp_executor *ex = support_executor(1);
	pp_map *map = map_over(ex, task_square, &numbers, 0, 0);

	assert_progress(map, 0, 0, 1);
	assert_end(map, 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

/* Whatever the chunk, no more inputs than the buffer are ahead of the item that was asked for, and all come through. */
START_TEST(map_buffer_and_chunks)
{
	static const size_t chunks[] = { 0, 2, 3, 7, 100 }, buffers[] = { 1, 3, 7, 50 };
	pp_executor *ex = support_executor(2);

	for (size_t b = 0; b < 4; b++) {
		struct numbers numbers = { .n = 500 };
		pp_map *map = map_over(ex, task_square, &numbers, chunks[_i], buffers[b]);
		ck_assert_uint_le(numbers.taken, buffers[b]);
		for (uint64_t i = 0; i < 500; i++) {
			assert_square(map, i);
			ck_assert_uint_le(numbers.taken, i + 1 + buffers[b]);
		}
		assert_end(map, 0);
		pp_map_free(map);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("map");
	TCase *tcase = support_tcase(suite, "map");

	tcase_add_test(tcase, map_equals_serial);
	tcase_add_test(tcase, map_starts_before_next);
	tcase_add_loop_test(tcase, map_chunks, 0, 4);
	tcase_add_test(tcase, map_chunks_too_large);
	tcase_add_loop_test(tcase, map_exception_goes_on, 0, 4);
	tcase_add_loop_test(tcase, map_timeout_partial, 0, 2);
	tcase_add_loop_test(tcase, map_close_cancels, 0, 3);
	tcase_add_loop_test(tcase, map_buffer, 0, 4);
	tcase_add_test(tcase, map_buffer_endless_input);
	tcase_add_test(tcase, map_buffer_empty_input);
	tcase_add_loop_test(tcase, map_buffer_and_chunks, 0, 5);
	return suite;
}

SUPPORT_MAIN(make_suite)
