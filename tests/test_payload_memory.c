/* SPDX-License-Identifier: MIT */
/*
 * What payloads leave in shared memory, as the kernel counts it: nothing that grows, and not more than is kept for the next
 * use; and payloads beyond 4 GiB. Where the kernel does not let us look at the segment's size, or there is too little
 * memory, the case is skipped.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "support.h"

#define MIB ((uint64_t)1 << 20)

static bool sizes_can_be_seen(void)
{
	return geteuid() == 0 && access("/proc/self/map_files", X_OK) == 0;
}

static uint64_t free_memory(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	unsigned long long kib = 0;
	char line[256];

	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024;
}

/* ---- mixed_sizes_leave_use_flat */

/* 0 B to 1 MiB, the small ones as often as the large; the same order every time. */
static size_t mixed_size(unsigned i)
{
	unsigned r = i * 2654435761u;

	return r >> 28 == 0 ? 0 : (size_t)(r % MIB) >> (r >> 28);
}

static int task_size(pp_task *task, const void *data, size_t size)
{
	const unsigned char *bytes = data;
	unsigned char *result = pp_return_alloc(task, size);

	if (!result)
		return 1;
	if (size) {
		result[0] = bytes[size - 1];
		result[size - 1] = bytes[0];
	}
	return 0;
}

static void use(pp_executor *ex, int count)
{
	enum { AT_ONCE = 32 };
	pp_future *futures[AT_ONCE] = { NULL };
	unsigned char *bytes = calloc(1, MIB);

	for (int i = 0; i < count + AT_ONCE; i++) {
		pp_future **at = &futures[i % AT_ONCE];
		if (*at && (support_outcome(*at)->kind != PP_RETURNED
		            || support_outcome(*at)->size != mixed_size((unsigned)(i - AT_ONCE))))
			ck_abort_msg("future %d", i - AT_ONCE);
		pp_future_free(*at);
		*at = NULL;
		if (i < count && pp_submit(ex, task_size, bytes, mixed_size((unsigned)i), at) < 0)
			ck_abort_msg("submit %d", i);
	}
	free(bytes);
}

START_TEST(mixed_sizes_leave_use_flat)
{
	int count = getenv("PROCPOOL_TEST_ALL") ? 1000000 : 10000;
	pp_executor *ex = support_executor(2);
	int64_t early, late;

	use(ex, count / 10);
	early = support_shared_bytes();
	use(ex, count);
	late = support_shared_bytes();
	printf("# %d futures of up to 1 MiB: %lld KiB of shared memory before, %lld after\n", count,
	       (long long)early / 1024, (long long)late / 1024);
	ck_assert_int_ge(early, 0);
	ck_assert_int_le(late, early + 8 * (int64_t)MIB);        /* what is in flight at once varies */
	pp_executor_free(ex);
}
END_TEST

/* ---- large_results_go_back, large_blocks_go_back */

#define MANY 60
#define EACH (3 * MIB)

static void assert_most_went_back(int64_t empty, int64_t most)
{
	int64_t live = MANY * EACH;

	ck_assert_int_ge(most - empty, live);
	ck_assert_int_le((most - empty) * 10, live * 13);
	ck_assert_int_le(support_shared_bytes() - empty, (int64_t)(130 * MIB));
}

static int task_large(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return_alloc(task, EACH) ? 0 : 1;
}

START_TEST(large_results_go_back)
{
	pp_executor *ex = support_executor(1);
	pp_future *futures[MANY];
	int64_t empty = support_shared_bytes(), most;

	for (int i = 0; i < MANY; i++)
		futures[i] = support_submit(ex, task_large, NULL, 0);
	for (int i = 0; i < MANY; i++)
		support_assert_kind(futures[i], PP_RETURNED);
	most = support_shared_bytes();
	for (int i = 0; i < MANY; i++)
		pp_future_free(futures[i]);
	assert_most_went_back(empty, most);
	pp_executor_free(ex);
}
END_TEST

START_TEST(large_blocks_go_back)
{
	pp_executor *ex = support_executor(1);
	pp_block *blocks[MANY];
	int64_t empty = support_shared_bytes(), most;

	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(pp_block_create(ex, EACH, _i ? PP_BLOCK_MUTABLE : 0, &blocks[i]), 0);
	most = support_shared_bytes();
	for (int i = 0; i < MANY; i++)
		pp_block_free(blocks[i]);
	assert_most_went_back(empty, most);
	pp_executor_free(ex);
}
END_TEST

/* ---- four_gib_and_one */

static int task_far_end(pp_task *task, const void *data, size_t size)
{
	const unsigned char *bytes = data;
	unsigned char *result = pp_return_alloc(task, size);

	if (!result)
		return 1;
	result[0] = bytes[size - 1];
	result[size - 1] = bytes[0];
	return 0;
}

START_TEST(four_gib_and_one)
{
	size_t size = 4096 * MIB + 1;
	pp_executor *ex = support_executor(1);
	const pp_outcome *outcome;
	pp_future *future;
	pp_block *block;
	unsigned char *bytes;

	ck_assert_int_eq(pp_block_create(ex, size, 0, &block), 0);
	bytes = pp_block_data(block);
	bytes[0] = 'a';
	bytes[size - 1] = 'z';
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_far_end, block, 0, size, &future), 0);
	ck_assert_int_eq(pp_future_result(future, PP_FOREVER, &outcome), 0);
	ck_assert_int_eq(outcome->kind, PP_RETURNED);
	ck_assert_uint_eq(outcome->size, size);
	ck_assert_int_eq(*(const char *)outcome->data, 'z');
	ck_assert_int_eq(((const char *)outcome->data)[size - 1], 'a');
	pp_future_free(future);
	pp_block_free(block);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("payload_memory");
	TCase *tcase = support_tcase(suite, "memory"), *huge = support_tcase(suite, "huge");

	tcase_set_timeout(tcase, 900);
	tcase_set_timeout(huge, 300);
	if (sizes_can_be_seen()) {
		tcase_add_test(tcase, mixed_sizes_leave_use_flat);
		tcase_add_test(tcase, large_results_go_back);
		tcase_add_loop_test(tcase, large_blocks_go_back, 0, 2);
	} else {
		support_skip("mixed_sizes_leave_use_flat and its kin", "only root can look at /proc/self/map_files");
	}
	if (free_memory() < 9 * 1024 * MIB)
		support_skip("four_gib_and_one", "less than 9 GiB of memory available");
	else if (!getenv("PROCPOOL_TEST_ALL"))
		support_skip("four_gib_and_one", "takes long: only with PROCPOOL_TEST_ALL");
	else
		tcase_add_test(huge, four_gib_and_one);
	return suite;
}

SUPPORT_MAIN(make_suite)
