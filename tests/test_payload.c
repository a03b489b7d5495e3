/* SPDX-License-Identifier: MIT */
/*
 * Results in place, and payloads of sizes around every internal limit: 16 bytes in the cell, 96 in the descriptor, 256 in the
 * extension, 4 KiB, 64 KiB and 1 MiB where kinds of room change.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

#define MIB ((size_t)1 << 20)

static const size_t limits[] = { 0, 16, 64, 96, 128, 256, 4096, 8192, 65536, MIB, 2 * MIB };

static pp_executor *ex;

static void set_up(void)
{
	ex = support_executor(2);
}

static void tear_down(void)
{
	pp_executor_free(ex);
}

/* Byte i of a payload of that size. */
static unsigned char byte_at(size_t size, size_t i)
{
	return (unsigned char)(i * 31 + size * 7 + (i >> 9));
}

static void fill(unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = byte_at(size, i);
}

static bool is_filled(const unsigned char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte_at(size, i))
			return false;
	return true;
}

/* Every size that is a limit, one below and one above it: calls f for each. */
static void around_limits(void (*f)(size_t))
{
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		if (limits[i])
			f(limits[i] - 1);
		f(limits[i]);
		f(limits[i] + 1);
	}
}

static void assert_filled(pp_future *future, size_t size)
{
	const pp_outcome *outcome = support_outcome(future);

	ck_assert_msg(outcome->kind == PP_RETURNED, "%zu bytes: %s %d %s", size, pp_kind_name(outcome->kind),
	              outcome->code, outcome->message);
	ck_assert_uint_eq(outcome->size, size);
	ck_assert_uint_eq((uintptr_t)outcome->data % 8, 0);
	ck_assert_msg(is_filled(outcome->data, size), "wrong bytes in a result of %zu", size);
	pp_future_free(future);
}

/* ---- copied */

/* Its argument is where and how it ought to be; and goes back as the result. */
static int task_check_echo(pp_task *task, const void *data, size_t size)
{
	if (!data || (uintptr_t)data % (size > 96 ? 64 : 16) || !is_filled(data, size))
		return 1;
	return pp_return(task, data, size);
}

static void check_copied(size_t size)
{
	unsigned char *bytes = malloc(size + 1);
	pp_future *future;

	fill(bytes, size);
	future = support_submit(ex, task_check_echo, bytes, size);
	memset(bytes, 0xee, size);       /* it is free again on return */
	free(bytes);
	assert_filled(future, size);
}

START_TEST(copied_around_limits)
{
	around_limits(check_copied);
	around_limits(check_copied);     /* in room that is used again */
}
END_TEST

/* ---- in place */

struct order { size_t alloc, commit; bool commits; struct gate gate; };

static int task_in_place(pp_task *task, const void *data, size_t size)
{
	struct order order;
	unsigned char *bytes;

	memcpy(&order, data, size);
	bytes = pp_return_alloc(task, order.alloc);
	if (!bytes)
		return 1;
	if ((uintptr_t)bytes % (order.alloc > 256 ? 4096 : 16))
		return 2;
	memset(bytes, 0xee, order.alloc);
	fill(bytes, order.commits ? order.commit : order.alloc);
	return order.commits ? pp_return_commit(task, order.commit) : 0;
}

static void check_in_place(size_t size)
{
	struct order order = { .alloc = size };

	assert_filled(support_submit(ex, task_in_place, &order, sizeof order), size);
}

START_TEST(in_place_around_limits)
{
	around_limits(check_in_place);
}
END_TEST

static void check_shrunk(size_t size)
{
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct order order = { .alloc = size, .commit = limits[i], .commits = true };
		if (limits[i] <= size)
			assert_filled(support_submit(ex, task_in_place, &order, sizeof order), limits[i]);
	}
}

START_TEST(in_place_shrunk)
{
	around_limits(check_shrunk);
}
END_TEST

static int task_shrinks_twice(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = pp_return_alloc(task, 3 * MIB);

	(void)data;
	(void)size;
	fill(bytes, 200000);
	return pp_return_commit(task, 2 * MIB) || pp_return_commit(task, 200000) ? 1 : 0;
}

static int task_alloc_then_return(pp_task *task, const void *data, size_t size)
{
	memset(pp_return_alloc(task, 100000), 0xee, 100000);
	return pp_return(task, data, size);
}

static int task_return_then_alloc(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes;

	if (pp_return(task, data, size) || !pp_return_alloc(task, 100000))
		return 1;
	bytes = pp_return_alloc(task, 5000);
	fill(bytes, 5000);
	return 0;
}

START_TEST(in_place_last_call_wins)
{
	assert_filled(support_submit(ex, task_shrinks_twice, NULL, 0), 200000);
	for (int i = 0; i < 2; i++) {
		pp_future *future = support_submit(ex, task_alloc_then_return, "last", 4);
		support_assert_returned(future, "last", 4);
		pp_future_free(future);
	}
	assert_filled(support_submit(ex, task_return_then_alloc, "first", 5), 5000);
}
END_TEST

enum misuse { COMMIT_MORE, COMMIT_NOTHING, COMMIT_AFTER_RETURN, ALLOC_TOO_MUCH, ALLOC_AFTER_RAISE, ALLOC_THEN_RAISE,
              NO_TASK };

static int task_misuse(pp_task *task, const void *data, size_t size)
{
	(void)size;
	switch (*(const int *)data) {
	case COMMIT_MORE:
		memset(pp_return_alloc(task, 100), 1, 100);
		return pp_return_commit(task, 101) == -EINVAL ? 0 : 1;   /* raised as -EINVAL even so */
	case COMMIT_NOTHING:
		return pp_return_commit(task, 0) == -EINVAL ? 0 : 1;
	case COMMIT_AFTER_RETURN:
		if (!pp_return_alloc(task, 100) || pp_return(task, "x", 1) < 0)
			return 1;
		return pp_return_commit(task, 1) == -EINVAL ? 0 : 1;
	case ALLOC_TOO_MUCH:
		return pp_return_alloc(task, SIZE_MAX) || pp_return_alloc(task, SIZE_MAX / 2) ? 1 : 0;
	case ALLOC_AFTER_RAISE:
		pp_raise(task, 5, "raised");
		return pp_return_alloc(task, 100) || pp_return_commit(task, 7) ? 1 : 0;
	case ALLOC_THEN_RAISE:
		memset(pp_return_alloc(task, 100000), 1, 100000);
		return pp_raise(task, 5, "raised");
	default:
		return pp_return_alloc(NULL, 1) || pp_return_commit(NULL, 1) != -EINVAL ? 1 : 9;
	}
}

START_TEST(in_place_misused)
{
	static const int codes[] = { -EINVAL, -EINVAL, -EINVAL, -ENOMEM, 5, 5, 9 };

	for (int i = 0; i <= NO_TASK; i++) {
		pp_future *future = support_submit(ex, task_misuse, &i, sizeof i);
		const pp_outcome *outcome = support_outcome(future);
		ck_assert_int_eq(outcome->kind, PP_RAISED);
		ck_assert_int_eq(outcome->code, codes[i]);
		pp_future_free(future);
	}
}
END_TEST

static int initialize_in_place(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return_alloc(task, 100) || pp_return_commit(task, 10) ? 1 : 0;
}

START_TEST(in_place_in_initializer)
{
	pp_options options = support_options(1);
	pp_executor *other;

	options.initializer = initialize_in_place;
	options.flags = PP_START_ALL;
	other = support_create(&options);
	pp_executor_free(other);
}
END_TEST

/* ---- crashes */

/* Half of it is written when it is killed. */
static int task_half(pp_task *task, const void *data, size_t size)
{
	struct order order;
	unsigned char *bytes;

	memcpy(&order, data, size);
	bytes = pp_return_alloc(task, order.alloc);
	if (!bytes)
		return 1;
	memset(bytes, 1, order.alloc / 2);
	gate_pass(&order.gate);
	memset(bytes, 2, order.alloc);
	return 0;
}

static void kill_while_writing(size_t bytes)
{
	struct order order = { .alloc = bytes }, other = { .alloc = bytes / 2 };
	pp_executor *one;
	pp_future *future, *queued;
	pid_t pid;

	gate_make(&order.gate);
	one = support_executor(1);
	future = support_submit(one, task_half, &order, sizeof order);
	queued = support_submit(one, task_in_place, &other, sizeof other);
	gate_await(&order.gate, 1);
	ck_assert_int_eq(pp_executor_workers(one, &pid, 1), 1);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	support_assert_kind(future, PP_CRASHED);
	ck_assert_int_eq(support_outcome(future)->signal, SIGKILL);
	ck_assert_uint_eq(support_outcome(future)->size, 0);
	assert_filled(queued, bytes / 2);
	pp_future_free(future);
	check_in_place(bytes);
	pp_executor_free(one);
	gate_destroy(&order.gate);
}

START_TEST(crash_big_data_in_place)
{
	kill_while_writing(64 * MIB);
	kill_while_writing(600);
	kill_while_writing(40000);
}
END_TEST

/* One that was looked at keeps its room until it is freed, however many others come and go. */
START_TEST(looked_at_keeps_its_room)
{
	const size_t size = 5000;
	unsigned char *bytes = malloc(size), *others = calloc(1, size);
	pp_future *kept, *future;

	fill(bytes, size);
	kept = support_submit(ex, task_echo, bytes, size);
	ck_assert_uint_eq(support_outcome(kept)->size, size);
	for (int i = 0; i < 20; i++) {
		future = support_submit(ex, task_echo, others, size);
		support_assert_kind(future, PP_RETURNED);
		pp_future_free(future);
	}
	ck_assert(is_filled(support_outcome(kept)->data, size));
	pp_future_free(kept);
	free(bytes);
	free(others);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("payload");
	TCase *sizes = support_tcase(suite, "sizes"), *place = support_tcase(suite, "in_place");
	TCase *crash = support_tcase(suite, "crash");

	tcase_add_checked_fixture(sizes, set_up, tear_down);
	tcase_add_test(sizes, copied_around_limits);
	tcase_add_test(sizes, in_place_around_limits);
	tcase_add_test(sizes, in_place_shrunk);
	tcase_add_checked_fixture(place, set_up, tear_down);
	tcase_add_test(place, in_place_last_call_wins);
	tcase_add_test(place, in_place_misused);
	tcase_add_test(place, in_place_in_initializer);
	tcase_add_test(place, looked_at_keeps_its_room);
	tcase_add_checked_fixture(crash, set_up, tear_down);
	tcase_add_test(crash, crash_big_data_in_place);
	return suite;
}

SUPPORT_MAIN(make_suite)
