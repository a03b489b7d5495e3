/* SPDX-License-Identifier: MIT */
/*
 * Blocks: shared by tasks without a copy, read-only and mutable; results passed on as blocks; and how long all of them and
 * the memory under them live.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "stage.h"

#define MIB ((size_t)1 << 20)

static pp_executor *ex;

static void set_up(void)
{
	ex = support_executor(2);
}

static void tear_down(void)
{
	pp_executor_free(ex);
}

static pp_block *make_block(pp_executor *executor, size_t size, unsigned flags, int byte)
{
	pp_block *block;

	ck_assert_int_eq(pp_block_create(executor, size, flags, &block), 0);
	ck_assert_uint_eq(pp_block_size(block), size);
	ck_assert_uint_eq((uintptr_t)pp_block_data(block) % 64, 0);
	memset(pp_block_data(block), byte, size);
	return block;
}

static pp_future *submit_block(pp_fn *fn, pp_block *block, size_t offset, size_t size)
{
	pp_future *future;

	ck_assert_int_eq(pp_submit_block(ex, NULL, fn, block, offset, size, &future), 0);
	return future;
}

/* Its bytes must all be the same; returns that byte and the size. */
struct all { long byte; size_t size; };

static int task_all(pp_task *task, const void *data, size_t size)
{
	const unsigned char *bytes = data;
	struct all all = { size ? bytes[0] : -1, size };

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != bytes[0])
			return 1;
	return pp_return(task, &all, sizeof all);
}

static void assert_all(pp_future *future, int byte, size_t size)
{
	struct all all = { byte, size };

	support_assert_returned(future, &all, sizeof all);
	pp_future_free(future);
}

START_TEST(block_shared_by_many)
{
	enum { MANY = 64 };
	pp_block *block = make_block(ex, MANY * 1000, 0, 0);
	pp_future *futures[MANY];
	pp_task_options named = PP_TASK_OPTIONS_INIT;

	named.name = "a name of sixty-three characters, which is as many as are kept.";
	for (int i = 0; i < MANY; i++)
		memset((char *)pp_block_data(block) + i * 1000, i, 1000);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(pp_submit_block(ex, &named, task_all, block, (size_t)i * 1000, 1000, &futures[i]), 0);
	for (int i = 0; i < MANY; i++) {
		ck_assert_str_eq(support_outcome(futures[i])->task_name, named.name);
		assert_all(futures[i], i, 1000);
	}
	assert_all(submit_block(task_all, block, MANY * 1000, 0), -1, 0);
	pp_block_free(block);
}
END_TEST

static int task_writes(pp_task *task, const void *data, size_t size)
{
	(void)task;
	*((volatile char *)(uintptr_t)data + size / 2) = 'x';
	return 0;
}

START_TEST(write_into_read_only_block)
{
	static const size_t sizes[] = { 64, 5000, MIB };

	for (int i = 0; i < 3; i++) {
		pp_block *block = make_block(ex, sizes[i], 0, 'b');
		pp_future *before = submit_block(task_all, block, 0, sizes[i]);
		pp_future *bad = submit_block(task_writes, block, 0, sizes[i]);
		pp_future *after = submit_block(task_all, block, 0, sizes[i]);
		support_assert_kind(bad, PP_CRASHED);
		ck_assert_int_eq(support_outcome(bad)->signal, SIGSEGV);
		ck_assert_uint_eq(support_outcome(bad)->fault_address, (uintptr_t)pp_block_data(block) + sizes[i] / 2);
		assert_all(before, 'b', sizes[i]);
		assert_all(after, 'b', sizes[i]);
		pp_future_free(bad);
		pp_block_free(block);
	}
}
END_TEST

START_TEST(block_freed_before_task_ran)
{
	struct stage stage;
	pp_block *block, *others[8];
	pp_future *future;

	stage_make(&stage, 0);
	block = make_block(stage.ex, 100000, 0, 'k');
	ck_assert_int_eq(pp_submit_block(stage.ex, NULL, task_all, block, 0, 100000, &future), 0);
	ck_assert_int_eq(pp_submit_block(stage.ex, NULL, task_all, block, 0, 100000, NULL), 0);
	pp_block_free(block);
	for (int i = 0; i < 8; i++)
		others[i] = make_block(stage.ex, 100000, 0, 'o');        /* none of them may be there */
	stage_let_go(&stage);
	assert_all(future, 'k', 100000);
	for (int i = 0; i < 8; i++)
		pp_block_free(others[i]);
	stage_free(&stage);
}
END_TEST

START_TEST(block_room_comes_back)
{
	pp_block *block = make_block(ex, 3 * MIB, 0, 'r');
	void *place = pp_block_data(block);

	for (int i = 0; i < 100; i++) {
		pp_future *future = submit_block(task_all, block, 0, 5000);
		ck_assert_ptr_eq(pp_block_ref(block), block);
		pp_block_free(block);
		pp_block_free(block);
		assert_all(future, 'r', 5000);
		block = make_block(ex, 3 * MIB, 0, 'r');
		ck_assert_ptr_eq(pp_block_data(block), place);
	}
	pp_block_free(block);
}
END_TEST

/* ---- mutable */

/* Adds one to each byte in place. */
static int task_adds(pp_task *task, const void *data, size_t size)
{
	size_t n;
	unsigned char *bytes = pp_task_argument(task, &n);

	if (bytes != data || n != size)
		return 1;
	for (size_t i = 0; i < size; i++)
		bytes[i]++;
	return 0;
}

static int task_adds_and_returns(pp_task *task, const void *data, size_t size)
{
	int rc = task_adds(task, data, size);

	return rc ? rc : pp_return_argument(task, 0, size);
}

START_TEST(mutable_returned_in_place)
{
	static const size_t sizes[] = { 0, 1, 16, 17, 255, 256, 257, 4096, 65537, 4 * MIB };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		pp_block *block = make_block(ex, sizes[i], PP_BLOCK_MUTABLE, 'a'), *next;
		pp_future *first = submit_block(task_adds_and_returns, block, 0, sizes[i]), *second;
		const pp_outcome *outcome = support_outcome(first);
		ck_assert_int_eq(outcome->kind, PP_RETURNED);
		ck_assert_uint_eq(outcome->size, sizes[i]);
		if (sizes[i] > 256)
			ck_assert_ptr_eq(outcome->data, pp_block_data(block));
		ck_assert(sizes[i] == 0 || *(const char *)outcome->data == 'b');
		pp_block_free(block);
		ck_assert_int_eq(pp_future_block(first, &next), 0);
		pp_future_free(first);
		second = submit_block(sizes[i] > 256 ? task_adds_and_returns : task_all, next, 0, sizes[i]);
		pp_block_free(next);
		if (sizes[i] > 256) {
			ck_assert_int_eq(((const char *)support_outcome(second)->data)[sizes[i] - 1], 'c');
			pp_future_free(second);
		} else {
			assert_all(second, sizes[i] ? 'b' : -1, sizes[i]);
		}
	}
}
END_TEST

START_TEST(mutable_parts)
{
	pp_block *block = make_block(ex, 4 * 4096, PP_BLOCK_MUTABLE, 'p');
	pp_future *futures[4];

	for (int i = 0; i < 4; i++)
		futures[i] = submit_block(i == 2 ? task_adds_and_returns : task_adds, block, (size_t)i * 4096, 4096);
	for (int i = 0; i < 4; i++)
		support_assert_kind(futures[i], PP_RETURNED);
	for (int i = 0; i < 4 * 4096; i++)
		ck_assert_int_eq(((char *)pp_block_data(block))[i], 'q');
	ck_assert_ptr_eq(support_outcome(futures[2])->data, (char *)pp_block_data(block) + (size_t)2 * 4096);
	for (int i = 0; i < 4; i++)
		pp_future_free(futures[i]);
	pp_block_free(block);
}
END_TEST

static int task_part_misused(pp_task *task, const void *data, size_t size)
{
	(void)data;
	if (pp_return_argument(NULL, 0, 0) != -EINVAL || pp_task_argument(NULL, &size) || size)
		return 1;
	pp_task_argument(task, &size);
	return pp_return_argument(task, size - 1000, 1001) == -EINVAL ? 0 : 2;
}

static int task_not_mutable(pp_task *task, const void *data, size_t size)
{
	(void)data;
	if (pp_task_argument(task, &size) || size)
		return 1;
	return pp_return_argument(task, 0, 0) == -EINVAL ? 0 : 2;
}

static int task_last_part(pp_task *task, const void *data, size_t size)
{
	if (pp_return_argument(task, 0, size) || pp_return(task, data, 300) || !pp_return_alloc(task, 5000))
		return 1;
	return pp_return_argument(task, size - 1000, 1000);
}

static void assert_einval(pp_future *future)
{
	support_assert_kind(future, PP_RAISED);
	ck_assert_int_eq(support_outcome(future)->code, -EINVAL);
	pp_future_free(future);
}

START_TEST(mutable_misused)
{
	pp_block *block = make_block(ex, 9000, PP_BLOCK_MUTABLE, 'm'), *constant = make_block(ex, 9000, 0, 'c');
	pp_future *future;

	assert_einval(submit_block(task_part_misused, block, 0, 9000));
	assert_einval(submit_block(task_part_misused, block, 1000, 2000));
	assert_einval(submit_block(task_not_mutable, constant, 0, 9000));
	assert_einval(support_submit(ex, task_not_mutable, pp_block_data(block), 9000));
	future = submit_block(task_last_part, block, 0, 9000);
	support_assert_kind(future, PP_RETURNED);
	ck_assert_ptr_eq(support_outcome(future)->data, (char *)pp_block_data(block) + 8000);
	pp_future_free(future);
	pp_block_free(block);
	pp_block_free(constant);
}
END_TEST

static int task_dies_after_write(pp_task *task, const void *data, size_t size)
{
	int how = DIE_SEGV;

	(void)data;
	memset(pp_task_argument(task, NULL), 'd', size / 2);
	pp_return_argument(task, 0, size);
	return task_die(task, &how, sizeof how);
}

START_TEST(mutable_crash)
{
	pp_block *block = make_block(ex, MIB, PP_BLOCK_MUTABLE, 'x'), *other = make_block(ex, MIB, PP_BLOCK_MUTABLE, 'o');
	pp_future *bad = submit_block(task_dies_after_write, block, 0, MIB);
	pp_future *good = submit_block(task_all, other, 0, MIB);

	support_assert_kind(bad, PP_CRASHED);
	ck_assert_uint_eq(support_outcome(bad)->size, 0);
	assert_all(good, 'o', MIB);
	pp_future_free(bad);
	pp_block_free(block);
	pp_block_free(other);
	block = make_block(ex, MIB, PP_BLOCK_MUTABLE, 'y');
	assert_all(submit_block(task_all, block, 0, MIB), 'y', MIB);
	pp_block_free(block);
}
END_TEST

/* ---- passed on */

START_TEST(pipeline_of_results)
{
	static const size_t sizes[] = { 0, 1, 16, 17, 256, 257, 4097, 70000, 2 * MIB };

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		unsigned char *bytes = malloc(sizes[i] + 1);
		pp_future *future;
		pp_block *block;
		memset(bytes, (int)i, sizes[i] + 1);
		future = support_submit(ex, task_echo, bytes, sizes[i]);
		for (int link = 0; link < 20; link++) {
			support_assert_returned(future, bytes, sizes[i]);
			ck_assert_int_eq(pp_future_block(future, &block), 0);
			ck_assert_uint_eq(pp_block_size(block), sizes[i]);
			pp_future_free(future);
			ck_assert_mem_eq(pp_block_data(block), bytes, sizes[i]);
			future = submit_block(task_echo, block, 0, sizes[i]);
			pp_block_free(block);
		}
		pp_future_free(future);
		free(bytes);
	}
}
END_TEST

/* Other results must not come where one is that only a block keeps. */
START_TEST(result_kept_by_block)
{
	static const size_t sizes[] = { 10, 200, 3000, 100000 };
	pp_block *blocks[4];
	char *bytes = malloc(100000);

	memset(bytes, 'k', 100000);
	for (int i = 0; i < 4; i++) {
		pp_future *future = support_submit(ex, task_echo, bytes, sizes[i]);
		support_assert_returned(future, bytes, sizes[i]);
		ck_assert_int_eq(pp_future_block(future, &blocks[i]), 0);
		pp_future_free(future);
	}
	memset(bytes, 'o', 100000);
	for (int i = 0; i < 400; i++) {
		pp_future *future = support_submit(ex, task_echo, bytes, sizes[i % 4]);
		support_assert_kind(future, PP_RETURNED);
		pp_future_free(future);
	}
	for (int i = 0; i < 4; i++) {
		assert_all(submit_block(task_all, blocks[i], 0, sizes[i]), 'k', sizes[i]);
		pp_block_free(blocks[i]);
	}
	free(bytes);
}
END_TEST

START_TEST(block_only_of_returned)
{
	struct stage stage;
	pp_block *block = (pp_block *)1;
	pp_future *raised;

	stage_make(&stage, 0);
	raised = support_submit(stage.ex, task_raise, NULL, 0);
	ck_assert_int_eq(pp_future_block(stage.running, &block), -EINVAL);
	ck_assert_ptr_null(block);
	stage_let_go(&stage);
	support_assert_kind(raised, PP_RAISED);
	ck_assert_int_eq(pp_future_block(raised, &block), -EINVAL);
	ck_assert_int_eq(pp_future_block(NULL, &block), -EINVAL);
	ck_assert_int_eq(pp_future_block(stage.running, NULL), -EINVAL);
	ck_assert_int_eq(pp_future_block(stage.running, &block), 0);
	pp_block_free(block);
	pp_future_free(raised);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("block");
	TCase *shared = support_tcase(suite, "shared"), *mutables = support_tcase(suite, "mutable");
	TCase *passed = support_tcase(suite, "passed_on"), *staged = support_tcase(suite, "staged");

	tcase_add_checked_fixture(shared, set_up, tear_down);
	tcase_add_test(shared, block_shared_by_many);
	tcase_add_test(shared, write_into_read_only_block);
	tcase_add_test(shared, block_room_comes_back);
	tcase_add_test(staged, block_freed_before_task_ran);
	tcase_add_checked_fixture(mutables, set_up, tear_down);
	tcase_add_test(mutables, mutable_returned_in_place);
	tcase_add_test(mutables, mutable_parts);
	tcase_add_test(mutables, mutable_misused);
	tcase_add_test(mutables, mutable_crash);
	tcase_add_checked_fixture(passed, set_up, tear_down);
	tcase_add_test(passed, pipeline_of_results);
	tcase_add_test(passed, result_kept_by_block);
	tcase_add_test(staged, block_only_of_returned);
	return suite;
}

SUPPORT_MAIN(make_suite)
