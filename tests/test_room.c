/* SPDX-License-Identifier: MIT */
/* Section 4 of the contract: the bound on the bytes of arguments and blocks. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "support.h"

#define KIB     ((size_t)1024)
#define BOUND   (256 * KIB)
#define PART    (100 * KIB)      /* two fit, three do not */

static unsigned char bytes[BOUND + 1];

static pp_executor *bounded(void)
{
	pp_options options = support_options(2);

	options.max_bytes = BOUND;
	return support_create(&options);
}

static int submit_within(pp_executor *ex, size_t size, int64_t timeout_ms, pp_future **future)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.submit_timeout_ms = timeout_ms;
	return pp_submit_with(ex, &options, task_echo, bytes, size, future);
}

static void fill_up(pp_executor *ex, pp_future **futures)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(submit_within(ex, PART, PP_NONE, &futures[i]), 0);
		support_assert_returned(futures[i], bytes, PART);
	}
}

START_TEST(max_bytes_never_fits)
{
	pp_executor *ex = bounded();
	pp_future *future;
	pp_block *block;

	ck_assert_int_eq(pp_submit(ex, task_echo, bytes, BOUND + 1, &future), -ENOSPC);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_block_create(ex, BOUND + 1, 0, &block), -ENOSPC);
	ck_assert_ptr_null(block);
	ck_assert_int_eq(pp_submit(ex, task_echo, bytes, BOUND, &future), 0);
	support_assert_returned(future, bytes, BOUND);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* Beside what its own time limits and attempts need, the argument would wait for itself. */
START_TEST(max_bytes_never_fits_beside_retries)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_executor *ex = bounded();
	pp_future *future;

	options.submit_timeout_ms = 100;
	options.retries = 1;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_echo, bytes, BOUND, &future), -ENOSPC);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_submit_with(ex, &options, task_echo, bytes, BOUND - 128, &future), 0);
	support_assert_returned(future, bytes, BOUND - 128);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(max_bytes_eagain)
{
	pp_executor *ex = bounded();
	pp_future *futures[2], *third;
	pp_block *block;

	fill_up(ex, futures);
	ck_assert_int_eq(submit_within(ex, PART, PP_NONE, &third), -EAGAIN);
	ck_assert_int_eq(submit_within(ex, PART, 20, &third), -ETIMEDOUT);
	ck_assert_ptr_null(third);
	ck_assert_int_eq(pp_block_create(ex, PART, 0, &block), -EAGAIN);
	ck_assert_int_eq(submit_within(ex, 8, PP_NONE, &third), 0);      /* a small one needs no room */
	pp_future_free(third);
	pp_future_free(futures[0]);
	ck_assert_int_eq(pp_block_create(ex, PART, PP_BLOCK_MUTABLE, &block), 0);
	ck_assert_int_eq(submit_within(ex, PART, PP_NONE, &third), -EAGAIN);
	pp_block_free(block);
	ck_assert_int_eq(submit_within(ex, PART, PP_NONE, &third), 0);
	support_assert_returned(third, bytes, PART);
	pp_future_free(third);
	pp_future_free(futures[1]);
	pp_executor_free(ex);
}
END_TEST

struct submitter { pp_executor *ex; pp_future *future; atomic_bool freed; bool freed_before; int rc; };

static void *submitter_main(void *submitter_)
{
	struct submitter *s = submitter_;

	s->rc = submit_within(s->ex, PART, 0, &s->future);
	s->freed_before = s->freed;
	return NULL;
}

START_TEST(max_bytes_waits)
{
	struct submitter s = { .ex = bounded() };
	pp_future *futures[2];
	pthread_t thread;

	fill_up(s.ex, futures);
	ck_assert_int_eq(pthread_create(&thread, NULL, submitter_main, &s), 0);
	s.freed = true;
	pp_future_free(futures[1]);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(s.rc, 0);
	ck_assert(s.freed_before);
	support_assert_returned(s.future, bytes, PART);
	pp_future_free(s.future);
	pp_future_free(futures[0]);
	pp_executor_free(s.ex);
}
END_TEST

/* Nobody frees a detached one: its room comes back by itself, also to a thread that waits for it. */
START_TEST(max_bytes_of_detached)
{
	pp_executor *ex = bounded();
	pp_future *last;

	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(submit_within(ex, PART, SUPPORT_GUARD_MS, NULL), 0);
	ck_assert_int_eq(submit_within(ex, PART, SUPPORT_GUARD_MS, &last), 0);
	support_assert_returned(last, bytes, PART);
	pp_future_free(last);
	pp_executor_free(ex);
}
END_TEST

/* What the executor itself keeps there does not count. */
START_TEST(max_bytes_beside_initializer_data)
{
	pp_options options = support_options(1);
	pp_executor *ex;
	pp_future *future;

	options.max_bytes = PART;
	options.initializer = task_nothing;
	options.initializer_data = bytes;
	options.initializer_size = BOUND;
	ex = support_create(&options);
	ck_assert_int_eq(submit_within(ex, PART, PP_NONE, &future), 0);
	support_assert_returned(future, bytes, PART);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

struct items { int n, taken; };

/* Each fits; chunks of them would not. */
static size_t item_size(int i) { return i % 17 == 16 ? BOUND : (size_t)(i % 13 * 7000); }

static int next_item(const void **data, size_t *size, void *items_)
{
	struct items *items = items_;

	*data = bytes;
	*size = item_size(items->taken);
	return items->taken++ < items->n;
}

/* Chunks chosen, and larger than what may be; in order and not. */
START_TEST(max_bytes_cuts_chunks)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct items items = { .n = 300 };
	pp_executor *ex = bounded();
	const pp_outcome *outcome;
	uint64_t index;
	pp_map *map;

	options.chunk = _i & 1 ? 50 : 0;
	options.unordered = _i & 2 ? 1 : 0;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_item, &items, &map), 0);
	for (int n = 0; n < items.n; n++) {
		int rc = pp_map_next(map, &index, &outcome);
		ck_assert_msg(rc == 1, "item %d: %s", n, pp_strerror(rc));
		ck_assert_uint_eq(outcome->size, item_size((int)index));
		ck_assert_int_eq(outcome->kind, PP_RETURNED);
	}
	ck_assert_int_eq(pp_map_next(map, NULL, NULL), 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

static int next_too_large(const void **data, size_t *size, void *items_)
{
	struct items *items = items_;

	*data = bytes;
	*size = items->taken % 3 == 1 ? BOUND + 1 : 10;
	return items->taken++ < items->n;
}

/* An item that never fits is its own error; the first, too, would not keep the map from being made. */
START_TEST(max_bytes_item_too_large)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct items items = { .n = 100, .taken = _i & 4 ? 1 : 0 };
	int n = 0, first = items.taken;
	pp_executor *ex = bounded();
	const pp_outcome *outcome;
	uint64_t index, done;
	pp_map *map;

	options.chunk = _i & 1 ? 7 : 1;
	options.unordered = _i & 2 ? 1 : 0;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_too_large, &items, &map), 0);
	for (; pp_map_next(map, &index, &outcome) == 1; n++) {
		bool large = (index + (uint64_t)first) % 3 == 1;
		ck_assert_int_eq(outcome->kind, large ? PP_RAISED : PP_RETURNED);
		ck_assert_int_eq(outcome->code, large ? -ENOSPC : 0);
		ck_assert_uint_eq(outcome->size, large ? 0 : 10);
	}
	ck_assert_int_eq(n, items.n - first);
	ck_assert_int_eq(pp_map_progress(map, &done, NULL), 1);
	ck_assert_uint_eq(done, (uint64_t)n);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

/* Others have all the room, until the time of the map is over. */
START_TEST(max_bytes_map_times_out)
{
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	struct items items = { .n = 3, .taken = 1 };
	pp_executor *ex = bounded();
	pp_block *block;
	pp_map *map;

	ck_assert_int_eq(pp_block_create(ex, BOUND, 0, &block), 0);
	options.timeout_ms = 50;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, next_item, &items, &map), 0);
	ck_assert_int_eq(pp_map_next(map, NULL, NULL), -ETIMEDOUT);
	ck_assert_int_eq(pp_map_next(map, NULL, NULL), -ETIMEDOUT);
	pp_map_free(map);
	pp_block_free(block);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("room");
	TCase *bound = support_tcase(suite, "bound");

	memset(bytes, 7, sizeof bytes);
	tcase_add_test(bound, max_bytes_never_fits);
	tcase_add_test(bound, max_bytes_never_fits_beside_retries);
	tcase_add_test(bound, max_bytes_eagain);
	tcase_add_test(bound, max_bytes_waits);
	tcase_add_test(bound, max_bytes_of_detached);
	tcase_add_test(bound, max_bytes_beside_initializer_data);
	tcase_add_test(bound, max_bytes_map_times_out);
	tcase_add_loop_test(bound, max_bytes_cuts_chunks, 0, 4);
	tcase_add_loop_test(bound, max_bytes_item_too_large, 0, 8);
	return suite;
}

SUPPORT_MAIN(make_suite)
