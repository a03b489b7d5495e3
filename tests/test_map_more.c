/* SPDX-License-Identifier: MIT */
/* What map promises beyond its plain way: what an item sees, large results, no order, arrays, bad sources. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mapped.h"

/* ------------------------------------------------------------------ results */

/* Returns so many bytes of a pattern of its own, and something else first. */
static int task_large(pp_task *task, const void *data, size_t size)
{
	static unsigned char bytes[1 << 20];
	size_t n;
	int x;

	memcpy(&x, data, size);
	n = (size_t)x * 5000 % sizeof bytes;
	for (size_t i = 0; i < n; i++)
		bytes[i] = (unsigned char)((size_t)x * 7 + i);
	if (x % 2 && pp_return(task, bytes, sizeof bytes) < 0)
		return 0;
	return pp_return(task, bytes, n);
}

/* More than the chunk had room for: it is cut there, and goes on. */
START_TEST(map_large_results_in_chunk)
{
	struct numbers numbers = { .n = 100 };
	pp_executor *ex = support_executor(2);
	pp_map *map = map_over(ex, task_large, &numbers, 25, _i);
	const pp_outcome *outcome;
	uint64_t x;

	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(pp_map_next(map, &x, &outcome), 1);
		ck_assert_int_eq(outcome->kind, PP_RETURNED);
		ck_assert_uint_eq(outcome->size, x * 5000);
		for (size_t at = 0; at < outcome->size; at++)
			if (((const unsigned char *)outcome->data)[at] != (unsigned char)(x * 7 + at))
				ck_abort_msg("item %d has a wrong byte at %zu", (int)x, at);
	}
	finish_map(map, 0, ex);
}
END_TEST

/* What a task can see, packed: "" when all is as in a task of its own. */
static int task_view(pp_task *task, const void *data, size_t size)
{
	const char *wrong = "";

	if (!data || (uintptr_t)data % 16)
		wrong = "alignment";
	else if (strcmp(pp_task_name(task), "viewer") != 0)
		wrong = "name";
	else if (pp_task_attempt(task) != 1 || pp_task_worker(task) != 0)
		wrong = "attempt or worker";
	else if (pp_return(task, "not the last", 12) < 0 || pp_return(task, NULL, 3) != -EINVAL)
		wrong = "pp_return";
	for (size_t i = 0; i < size; i++)
		if (((const unsigned char *)data)[i] != (unsigned char)size)
			wrong = "bytes";
	return *wrong ? pp_raise(task, 1, "%s", wrong) : size % 2 ? 0 : pp_raise(task, 0, "even");
}

static int next_size(const void **data, size_t *size, void *n_)
{
	static unsigned char bytes[64];
	size_t *n = n_;

	if (*n == sizeof bytes)
		return 0;
	memset(bytes, (int)*n, *n);
	*size = (*n)++;
	*data = *size ? bytes : NULL;
	return 1;
}

/* Of items of all sizes, each ends as its own pp_return or pp_raise say: nothing of one is left in the next. */
START_TEST(map_item_is_a_task)
{
	static const size_t chunks[] = { 1, 10 };
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_executor *ex = support_executor(1);
	const pp_outcome *outcome;
	size_t n = 0;
	pp_map *map;

	task.name = "viewer";
	options.task = &task;
	options.chunk = chunks[_i];
	ck_assert_int_eq(pp_map_create(ex, &options, task_view, next_size, &n, &map), 0);
	for (int i = 0; i < 64; i++) {
		outcome = next_of(map, i);
		ck_assert_int_eq(outcome->kind, PP_RAISED);
		ck_assert_str_eq(outcome->message, i % 2 ? "" : "even");
		ck_assert_int_eq(outcome->code, -EINVAL);
		ck_assert_str_eq(outcome->task_name, "viewer");
	}
	finish_map(map, 0, ex);
}
END_TEST

static int next_gate(const void **data, size_t *size, void *gates_)
{
	struct gate **gates = gates_;

	if ((*gates)->arrive[0] < 0)
		return 0;
	*data = (*gates)++;
	*size = sizeof **gates;
	return 1;
}

START_TEST(map_unordered)
{
	static const int order[] = { 2, 0, 1 };
	struct gate gates[4], *at = gates;
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	const pp_outcome *outcome;
	pp_executor *ex;
	uint64_t index;
	pp_map *map;

	for (int i = 0; i < 3; i++)
		gate_make(&gates[i]);
	gates[3].arrive[0] = -1;
	ex = support_executor(3);
	options.unordered = 1;
	ck_assert_int_eq(pp_map_create(ex, &options, task_gate, next_gate, &at, &map), 0);
	for (int i = 0; i < 3; i++)
		gate_await(&gates[i], 1);
	for (int i = 0; i < 3; i++) {
		gate_open(&gates[order[i]], 1);
		ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
		ck_assert_uint_eq(index, order[i]);
	}
	finish_map(map, 0, ex);
	for (int i = 0; i < 3; i++)
		gate_destroy(&gates[i]);
}
END_TEST

/* ------------------------------------------------------------------ arrays */

static int task_half(pp_task *task, const void *data, size_t size)
{
	int x;

	memcpy(&x, data, size);
	if (x % 10 == 7)
		return pp_raise(task, x, "no");
	x /= 2;
	return pp_return(task, &x, x == 500 ? sizeof x / 2 : sizeof x);
}

START_TEST(map_array)
{
	enum { N = 5000 };
	static int in[N], out[N], kinds[N];
	pp_executor *ex = support_executor(2);
	bool fails;

	for (int i = 0; i < N; i++) {
		in[i] = i;
		out[i] = -1;
	}
	ck_assert_int_eq(pp_map_array(ex, task_half, in, sizeof *in, out, sizeof *out, N, kinds), N / 10 + 2);
	for (int i = 0; i < N; i++) {
		fails = i % 10 == 7 || i / 2 == 500;
		ck_assert_int_eq(out[i], fails ? -1 : i / 2);
		ck_assert_int_eq(kinds[i], fails ? PP_RAISED : PP_RETURNED);
	}
	ck_assert_int_eq(pp_map_array(ex, task_echo, in, sizeof *in, out, sizeof *out, N, NULL), 0);
	ck_assert_int_eq(memcmp(in, out, sizeof in), 0);
	ck_assert_int_eq(pp_map_array(ex, task_nothing, NULL, 0, NULL, 0, 100, kinds), 0);
	ck_assert_int_eq(pp_map_array(ex, task_echo, NULL, 4, NULL, 4, 0, NULL), 0);
	ck_assert_int_eq(pp_map_array(ex, task_echo, NULL, 4, out, 4, 1, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_array(ex, task_echo, in, 4, NULL, 4, 1, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_array(ex, task_echo, in, SIZE_MAX / 2, out, 4, 3, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_array(NULL, task_echo, in, 4, out, 4, 1, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_array(ex, NULL, in, 4, out, 4, 1, NULL), -EINVAL);
	pp_executor_free(ex);
}
END_TEST

/* ------------------------------------------------------------------ sources, arguments, memory */

/* What was taken before is given first; then the error, as often as one asks. */
START_TEST(map_source_fails)
{
	static const struct { struct numbers numbers; int code; } cases[] = {
		{ { .n = 5, .stops_with = -EIO }, -EIO },
		{ { .n = 0, .stops_with = -EIO }, -EIO },
		{ { .n = 5, .stops_with = 2 }, -EINVAL },
		{ { .n = 5, .stops_with = 1, .odd_size = 8 }, -EINVAL },
	};
	static const size_t chunks[] = { 1, 2, 10 };
	pp_executor *ex = support_executor(1);

	for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
		struct numbers numbers = cases[_i].numbers;
		pp_map *map = map_over(ex, task_echo, &numbers, chunks[c], c % 2);
		for (int n = 0; n < numbers.n; n++) {
			const pp_outcome *outcome;
			uint64_t index;
			ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
			assert_number(outcome, c % 2 ? (int)index : n);
		}
		ck_assert_int_eq(pp_map_progress(map, NULL, NULL), 1);
		assert_end(map, cases[_i].code);
		pp_map_free(map);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(map_bad_arguments)
{
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct numbers numbers = { .n = 1 };
	pp_executor *ex = support_executor(1);
	pp_map *map;

	ck_assert_int_eq(pp_map_create(NULL, NULL, task_echo, next_number, &numbers, &map), -EINVAL);
	ck_assert_int_eq(pp_map_create(ex, NULL, NULL, next_number, &numbers, &map), -EINVAL);
	ck_assert_int_eq(pp_map_create(ex, NULL, task_echo, NULL, &numbers, &map), -EINVAL);
	ck_assert_int_eq(pp_map_create(ex, NULL, task_echo, next_number, &numbers, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_create(ex, NULL, (pp_fn *)(uintptr_t)16, next_number, &numbers, &map), -EFAULT);
	options.timeout_ms = -2;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_number, &numbers, &map), -EINVAL);
	options.timeout_ms = 0;
	options.unordered = 2;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_number, &numbers, &map), -EINVAL);
	options.unordered = 0;
	options.size = 4;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_number, &numbers, &map), -EINVAL);
	options.size = sizeof options;
	task.submit_timeout_ms = -7;
	options.task = &task;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_number, &numbers, &map), -EINVAL);
	ck_assert_ptr_null(map);
	ck_assert_int_eq(numbers.taken, 0);
	ck_assert_int_eq(pp_map_next(NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(pp_map_progress(NULL, NULL, NULL), -EINVAL);
	pp_map_free(NULL);
	pp_executor_free(ex);
}
END_TEST

/* The bound of the executor is no bound for the map: it goes on as places come free. */
START_TEST(map_within_max_pending)
{
	pp_options options = support_options(2);
	struct numbers numbers = { .n = 300 };
	pp_executor *ex;
	pp_map *map;

	options.max_pending = 2;
	ex = support_create(&options);
	map = map_over(ex, task_echo, &numbers, 1 + (size_t)_i % 2, _i / 2);
	for (int n = 0; n < 300; n++) {
		const pp_outcome *outcome;
		uint64_t index;
		ck_assert_int_eq(pp_map_next(map, &index, &outcome), 1);
		assert_number(outcome, (int)index);
	}
	finish_map(map, 0, ex);
}
END_TEST

START_TEST(map_in_forked_child)
{
	struct numbers numbers = { .n = 3 };
	pp_executor *ex = support_executor(1);
	pp_map *map = map_over(ex, task_echo, &numbers, 1, false), *other;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		status = pp_map_next(map, NULL, NULL) != -ECHILD || pp_map_progress(map, NULL, NULL) != -ECHILD
		         || pp_map_create(ex, NULL, task_echo, next_number, &numbers, &other) != -ECHILD
		         || pp_map_array(ex, task_echo, NULL, 0, NULL, 0, 1, NULL) != -ECHILD;
		pp_map_free(map);
		_exit(status);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	for (int i = 0; i < 3; i++)
		assert_number(next_of(map, i), i);
	finish_map(map, 0, ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("map_more");
	TCase *tcase = support_tcase(suite, "map_more");

	tcase_add_loop_test(tcase, map_large_results_in_chunk, 0, 2);
	tcase_add_loop_test(tcase, map_item_is_a_task, 0, 2);
	tcase_add_test(tcase, map_unordered);
	tcase_add_test(tcase, map_array);
	tcase_add_loop_test(tcase, map_source_fails, 0, 4);
	tcase_add_test(tcase, map_bad_arguments);
	tcase_add_loop_test(tcase, map_within_max_pending, 0, 4);
	tcase_add_test(tcase, map_in_forked_child);
	return suite;
}

SUPPORT_MAIN(make_suite)
