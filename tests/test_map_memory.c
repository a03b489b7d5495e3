/* SPDX-License-Identifier: MIT */
/*
 * Where a map's items and results stand: results that are written in place, and a long lazy input, of which no more is in
 * memory than the buffer holds. With PROCPOOL_TEST_ALL that input has the ten million items that the contract names.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mapped.h"

static long resident_kib(void)
{
	long pages = 0, all;
	FILE *file = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%ld %ld", &all, &pages), 2);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

struct count { uint64_t n, next, now; };

static int next_count(const void **data, size_t *size, void *count_)
{
	struct count *count = count_;

	count->now = count->next++;
	*data = &count->now;
	*size = sizeof count->now;
	return count->now < count->n;
}

/* A long lazy input of 8-byte items takes no more memory at its end than near its start. Ten million with
 * PROCPOOL_TEST_ALL. */
START_TEST(map_constant_memory)
{
	struct count count = { .n = getenv("PROCPOOL_TEST_ALL") ? 10000000 : 300000 };
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_executor *ex = support_executor(2);
	const pp_outcome *outcome;
	uint64_t index, number;
	long before = 0;
	pp_map *map;

	options.unordered = (uint32_t)_i;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_count, &count, &map), 0);
	/* Check notes every assertion that holds in a file, so the good case makes none. */
	for (uint64_t n = 0; n < count.n; n++) {
		if (pp_map_next(map, &index, &outcome) != 1 || pp_outcome_value(outcome, PP_BYTES(number)) < 0
		    || number != index)
			ck_abort_msg("item %llu", (unsigned long long)n);
		if (n == count.n / 10)
			before = resident_kib();
	}
	printf("# %llu items: %ld KiB near the start, %ld at the end\n", (unsigned long long)count.n, before,
	       resident_kib());
	ck_assert_int_lt(resident_kib(), before + 1024);
	finish_map(map, 0, ex);
}
END_TEST

/* ---- map_in_place_in_chunk */

/* Of item i, and where it is committed to less. Every 16th does not fit into the room that is there for all. */
static size_t room_of(int i) { return i % 16 == 15 ? 300000 : (size_t)(i * 37 % 700); }
static size_t size_of(int i) { return i % 3 ? room_of(i) : room_of(i) / 2; }

static int task_item_in_place(pp_task *task, const void *data, size_t size)
{
	unsigned char *place;
	int i;

	memcpy(&i, data, size);
	if (i % 5 == 4 && (!pp_return_alloc(task, 50) || pp_return(task, "x", 1) < 0))
		return 1;                        /* of which nothing is left */
	place = pp_return_alloc(task, room_of(i));
	if (!place || (uintptr_t)place % 16)
		return 2;
	memset(place, i, room_of(i));
	if (i % 7 == 6)
		return pp_raise(task, 7, "raised after all");
	return size_of(i) < room_of(i) ? pp_return_commit(task, size_of(i)) : 0;
}

static bool is_all(const unsigned char *bytes, size_t size, unsigned char value)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != value)
			return false;
	return true;
}

/* Each item writes its result in place, as a task of its own would: no other's bytes, and no more than it committed. */
START_TEST(map_in_place_in_chunk)
{
	struct numbers numbers = { .n = 200 };
	pp_executor *ex = support_executor(2);
	pp_map *map = map_over(ex, task_item_in_place, &numbers, 50, false);

	for (int i = 0; i < numbers.n; i++) {
		const pp_outcome *outcome = next_of(map, i);
		bool raises = i % 7 == 6;
		ck_assert_int_eq(outcome->kind, raises ? PP_RAISED : PP_RETURNED);
		ck_assert_int_eq(outcome->code, raises ? 7 : 0);
		ck_assert_uint_eq(outcome->size, raises ? 0 : size_of(i));
		ck_assert_msg(is_all(outcome->data, outcome->size, (unsigned char)i), "wrong bytes of item %d", i);
	}
	finish_map(map, 0, ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("map_memory");
	TCase *tcase = support_tcase(suite, "map_memory");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, map_in_place_in_chunk);
	tcase_add_loop_test(tcase, map_constant_memory, 0, 2);
	return suite;
}

SUPPORT_MAIN(make_suite)
