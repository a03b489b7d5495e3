/* SPDX-License-Identifier: MIT */
/*
 * PP_CHECKSUM and PP_COPY_OUT: what workers leave is found as they left it, and what was changed in shared memory before
 * the parent looked is an error. The changes are made here, in the parent's own mapping, between the end of a task and
 * the first look at its outcome. Where a result stands follows from its size alone, so each kind of room is tried.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "chunk.h"
#include "map.h"
#include "mapped.h"
#include "pool.h"
#include "sum.h"
#include "support.h"
#include "units.h"

#define MIB ((size_t)1 << 20)

/* In the cell, in the extension, in small units, in big ones. */
static const size_t sizes[] = { 1, 8, 16, 17, 256, 257, 4096, 65536, 65537, MIB };
enum { SIZES = sizeof sizes / sizeof *sizes };

static const unsigned kinds[] = { PP_CHECKSUM, PP_CHECKSUM | PP_COPY_OUT };

static pp_executor *executor(unsigned flags)
{
	pp_options options = support_options(1);

	options.flags = flags;
	return support_create(&options);
}

/* Until it is done, without a look at its outcome. */
static void await(pp_future *future)
{
	ck_assert_int_eq(pp_wait(&future, 1, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), 1);
}

static unsigned char *bytes_of(pp_future *future)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	struct pp__cell *cell = pp__cell_of(future);
	uint64_t claim = atomic_load(&cell->claim);

	if (cell->size <= PP__RESULT_INLINE)
		return cell->result;
	if (cell->size <= PP__EXTENSION)
		return shared->extensions + (uint64_t)future->slot * PP__EXTENSION;
	if (pp__claim_is_argument(claim))
		return (unsigned char *)shared->base + shared->descs[future->slot].offset + pp__claim_offset(claim);
	return (unsigned char *)shared->base + pp__units_offset(shared->header, claim);
}

static bool is_shared(const pp_executor *ex, const void *bytes)
{
	const char *base = ex->segment.shared.base;

	return (const char *)bytes >= base && (const char *)bytes < base + ex->segment.size;
}

static void assert_overwritten(pp_future *future)
{
	const pp_outcome *outcome = support_outcome(future);

	ck_assert_int_eq(outcome->kind, PP_RAISED);
	ck_assert_int_eq(outcome->code, -EBADMSG);
	ck_assert_uint_eq(outcome->size, 0);
}

/* ---- tasks; data is what they return, the first byte of which says how */

enum how { COPIED, IN_PLACE, SHRUNK, DETAIL, HOWS };

static int task_return(pp_task *task, const void *data, size_t size)
{
	int how = *(const unsigned char *)data % HOWS;
	void *place;

	if (how == COPIED)
		return pp_return(task, data, size);
	if (how == DETAIL)
		return pp_raise_data(task, 5, data, size, "five");
	pp_return(task, "x", 1);         /* of which nothing is left */
	place = pp_return_alloc(task, how == SHRUNK ? 2 * size : size);
	if (!place || (how == SHRUNK && pp_return_commit(task, size) < 0))
		return 1;
	if (how == IN_PLACE)
		memcpy(place, data, size);
	return how == SHRUNK ? pp_return(task, data, size) : 0;
}

static unsigned char *payload(int how, size_t size)
{
	unsigned char *bytes = malloc(size);

	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 7 + (i >> 8));
	bytes[0] = (unsigned char)how;
	return bytes;
}

START_TEST(results_come_as_they_were_left)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int s = 0; s < SIZES; s++)
		for (int how = 0; how < HOWS; how++) {
			unsigned char *bytes = payload(how, sizes[s]);
			pp_future *future = support_submit(ex, task_return, bytes, sizes[s]);
			const pp_outcome *outcome = support_outcome(future);
			ck_assert_int_eq(outcome->kind, how == DETAIL ? PP_RAISED : PP_RETURNED);
			ck_assert_uint_eq(outcome->size, sizes[s]);
			ck_assert_int_eq(memcmp(outcome->data, bytes, sizes[s]), 0);
			ck_assert_uint_eq((uintptr_t)outcome->data % 8, 0);
			ck_assert_str_eq(outcome->message, how == DETAIL ? "five" : "");
			ck_assert(is_shared(ex, outcome->data) == (!(kinds[_i] & PP_COPY_OUT)
			          && (how == DETAIL || sizes[s] > PP__RESULT_INLINE)));
			pp_future_free(future);
			free(bytes);
		}
	pp_executor_free(ex);
}
END_TEST

START_TEST(nothing_returned)
{
	pp_executor *ex = executor(kinds[_i]);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);

	support_assert_returned(future, "", 0);
	pp_future_free(future);
	future = support_submit(ex, task_raise, NULL, 0);
	support_assert_kind(future, PP_RAISED);
	ck_assert_str_eq(support_outcome(future)->message, "raised on purpose");
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* One bit of the first, a middle or the last byte. */
START_TEST(changed_bytes_are_an_error)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int s = 0; s < SIZES; s++)
		for (int how = 0; how < 3 * HOWS; how++) {
			unsigned char *bytes = payload(how % HOWS, sizes[s]);
			pp_future *future = support_submit(ex, task_return, bytes, sizes[s]);
			size_t size, at;
			await(future);
			size = pp__cell_of(future)->size;
			at = how < HOWS ? 0 : how < 2 * HOWS ? size / 2 : size - 1;
			bytes_of(future)[at] ^= 1;
			assert_overwritten(future);
			pp_future_free(future);
			free(bytes);
		}
	pp_executor_free(ex);
}
END_TEST

/* That the changes of these tests reach the bytes that the caller sees. */
START_TEST(changed_bytes_without_checksum)
{
	pp_executor *ex = executor(0);

	for (int s = 0; s < SIZES; s++) {
		unsigned char *bytes = payload(COPIED, sizes[s]);
		pp_future *future = support_submit(ex, task_return, bytes, sizes[s]);
		await(future);
		bytes_of(future)[sizes[s] - 1] ^= 1;
		bytes[sizes[s] - 1] ^= 1;
		support_assert_returned(future, bytes, sizes[s]);
		pp_future_free(future);
		free(bytes);
	}
	pp_executor_free(ex);
}
END_TEST

/* A torn descriptor is still found, and its length is not believed. */
START_TEST(changed_descriptor_is_an_error)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int s = 0; s < SIZES; s++)
		for (int what = 0; what < 4; what++) {
			unsigned char *bytes = payload(COPIED, sizes[s]);
			pp_future *future = support_submit(ex, task_return, bytes, sizes[s]);
			struct pp__cell *cell = pp__cell_of(future);
			await(future);
			if (what == 0)
				cell->size--;
			else if (what == 1)
				cell->size = UINT64_MAX / 2;
			else if (what == 2)
				cell->check ^= 4;
			else
				cell->code ^= 1;
			assert_overwritten(future);
			pp_future_free(future);
			free(bytes);
		}
	pp_executor_free(ex);
}
END_TEST

START_TEST(copied_out_changes_no_more)
{
	pp_executor *ex = executor(kinds[1]);

	for (int s = 0; s < SIZES; s++) {
		unsigned char *bytes = payload(IN_PLACE, sizes[s]);
		pp_future *future = support_submit(ex, task_return, bytes, sizes[s]);
		support_assert_returned(future, bytes, sizes[s]);
		memset(bytes_of(future), 0xee, sizes[s]);
		support_assert_returned(future, bytes, sizes[s]);
		pp_future_free(future);
		free(bytes);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(no_memory_for_a_copy)
{
	pp_executor *ex = executor(kinds[1]);
	size_t size = 64 * MIB;
	unsigned char *bytes = payload(IN_PLACE, size);
	pp_future *future = support_submit(ex, task_return, bytes, size);
	struct rlimit old, none = { 0 };
	const pp_outcome *outcome;

	await(future);
	ck_assert_int_eq(getrlimit(RLIMIT_AS, &old), 0);
	none.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
	ck_assert_int_eq(pp_future_result(future, 0, &outcome), -ENOMEM);
	ck_assert_ptr_null(outcome);
	ck_assert(pp_future_done(future));
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
	support_assert_returned(future, bytes, size);
	pp_future_free(future);
	free(bytes);
	pp_executor_free(ex);
}
END_TEST

/* ---- blocks and pipelines */

static int task_invert(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = pp_task_argument(task, NULL);

	(void)data;
	pp_return(task, "x", 1);         /* of which nothing is left */
	for (size_t i = 0; i < size; i++)
		bytes[i] ^= 0xff;
	return pp_return_argument(task, 0, size);
}

START_TEST(argument_returned_in_place)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int changed = 0; changed < 2; changed++)
		for (int s = 0; s < SIZES; s++) {
			unsigned char *bytes = payload(0xff, sizes[s]);
			pp_future *future;
			pp_block *block;
			ck_assert_int_eq(pp_block_create(ex, sizes[s], PP_BLOCK_MUTABLE, &block), 0);
			for (size_t i = 0; i < sizes[s]; i++)
				((unsigned char *)pp_block_data(block))[i] = bytes[i] ^ 0xff;
			ck_assert_int_eq(pp_submit_block(ex, NULL, task_invert, block, 0, sizes[s], &future), 0);
			await(future);
			if (changed) {
				bytes_of(future)[sizes[s] / 2] ^= 0x10;
				assert_overwritten(future);
			} else {
				support_assert_returned(future, bytes, sizes[s]);
			}
			pp_future_free(future);
			pp_block_free(block);
			free(bytes);
		}
	pp_executor_free(ex);
}
END_TEST

START_TEST(passed_on)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int s = 0; s < SIZES; s++) {
		unsigned char *bytes = payload(IN_PLACE, sizes[s]);
		pp_future *future = support_submit(ex, task_return, bytes, sizes[s]), *next;
		pp_block *block;
		for (int link = 0; link < 3; link++) {
			await(future);
			ck_assert_int_eq(pp_future_block(future, &block), 0);
			ck_assert(is_shared(ex, pp_block_data(block)));
			ck_assert_int_eq(pp_submit_block(ex, NULL, task_return, block, 0, sizes[s], &next), 0);
			pp_block_free(block);
			pp_future_free(future);
			future = next;
		}
		support_assert_returned(future, bytes, sizes[s]);
		pp_future_free(future);
		future = support_submit(ex, task_return, bytes, sizes[s]);
		await(future);
		bytes_of(future)[0] ^= 1;
		ck_assert_int_eq(pp_future_block(future, &block), -EINVAL);
		assert_overwritten(future);
		pp_future_free(future);
		free(bytes);
	}
	pp_executor_free(ex);
}
END_TEST

/* ---- map */

enum { ITEMS = 8 };

static int task_item(pp_task *task, const void *data, size_t size)
{
	static unsigned char large[3 * 65536];
	int i;

	memcpy(&i, data, size);
	memset(large, i, sizeof large);
	if (i % 3 == 1)
		return pp_raise_data(task, i, large, 50, "item %d", i);
	if (i % 3 == 2)
		return memset(pp_return_alloc(task, 40), i, 40) ? 0 : 1;
	return pp_return(task, large, i == ITEMS - 2 ? sizeof large : (size_t)i + 1);
}

static bool chunk_has_ended(void *map)
{
	uint64_t done;

	return pp_map_progress(map, &done, NULL) >= 0 && done == ITEMS - 1;
}

/* Of the first chunk. */
static void change_item(pp_map *map, int i)
{
	pp_future *future = map->head->future;
	const struct pp__shared *shared = &future->executor->segment.shared;
	struct pp__cell *cell = pp__cell_of(future);
	char *room = shared->base + pp__units_offset(shared->header, atomic_load(&cell->claim));
	struct pp__chunk_entry *entry = (struct pp__chunk_entry *)(void *)room + i;

	if (entry->place == PP__CHUNK_OVERFLOW)
		shared->base[pp__units_offset(shared->header, atomic_load(&cell->overflow)) + entry->size - 1] ^= 1;
	else
		room[entry->place + entry->size / 2] ^= 1;
}

/* The result of the one before the last needs an overflow, which ends the chunk; the last goes into a batch of its own. */
static void check_map(pp_executor *ex, int changed)
{
	struct numbers numbers = { .n = ITEMS };
	pp_map *map = map_over(ex, task_item, &numbers, ITEMS, false);
	const pp_outcome *outcome;

	support_until(chunk_has_ended, map, "the end of a chunk");
	if (changed >= 0)
		change_item(map, changed);
	for (int i = 0; i < ITEMS; i++) {
		outcome = next_of(map, i);
		ck_assert_int_eq(outcome->kind, i % 3 == 1 || i == changed ? PP_RAISED : PP_RETURNED);
		if (i == changed)
			ck_assert_int_eq(outcome->code, -EBADMSG);
		else if (outcome->size)
			ck_assert_int_eq(((const unsigned char *)outcome->data)[outcome->size - 1], i);
	}
	assert_end(map, 0);
	pp_map_free(map);
}

START_TEST(items_of_a_chunk)
{
	pp_executor *ex = executor(kinds[_i]);

	for (int changed = -1; changed < ITEMS - 1; changed++)
		check_map(ex, changed);
	pp_executor_free(ex);
}
END_TEST

/* ---- options */

START_TEST(copy_out_alone_is_refused)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.flags = PP_COPY_OUT;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
}
END_TEST

START_TEST(refused_where_unknown)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.flags = PP_CHECKSUM;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -ENOTSUP);
	ck_assert_ptr_null(ex);
}
END_TEST

static void add_tests(Suite *suite)
{
	TCase *results = support_tcase(suite, "results"), *more = support_tcase(suite, "passed");

	tcase_add_loop_test(results, results_come_as_they_were_left, 0, 2);
	tcase_add_loop_test(results, nothing_returned, 0, 2);
	tcase_add_loop_test(results, changed_bytes_are_an_error, 0, 2);
	tcase_add_test(results, changed_bytes_without_checksum);
	tcase_add_loop_test(results, changed_descriptor_is_an_error, 0, 2);
	tcase_add_test(results, copied_out_changes_no_more);
	if (support_sanitized())
		support_skip("no_memory_for_a_copy", "the sanitizer's malloc knows no limit");
	else
		tcase_add_test(results, no_memory_for_a_copy);
	tcase_add_loop_test(more, argument_returned_in_place, 0, 2);
	tcase_add_loop_test(more, passed_on, 0, 2);
	tcase_add_loop_test(more, items_of_a_chunk, 0, 2);
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("checksum");
	TCase *options = support_tcase(suite, "options");

	tcase_add_test(options, copy_out_alone_is_refused);
	if (pp__sum_is_known()) {
		add_tests(suite);
	} else {
		tcase_add_test(options, refused_where_unknown);
		support_skip("checksums of results", "the library was built without xxHash");
	}
	return suite;
}

SUPPORT_MAIN(make_suite)
