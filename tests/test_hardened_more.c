/* SPDX-License-Identifier: MIT */
/* PP_HARDENED: all that a task may do still works, and all of its ends are told as ever. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "hardened.h"

static int task_reads_block(pp_task *task, const void *data, size_t size)
{
	return pp_return(task, data, size);
}

static int task_writes_block(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = pp_task_argument(task, NULL);

	if (bytes != data)
		return 1;
	fill(bytes, size);
	return pp_return_argument(task, 0, size);
}

/* Its own block, all of it, whatever neighbours it has; and as a result it can be read and written on. */
START_TEST(hardened_mutable_blocks)
{
	pp_executor *ex = hardened(1, 0);
	pp_block *before, *block, *after, *again;
	pp_future *future;

	for (size_t i = 0; i < SIZES; i++) {
		ck_assert_int_eq(pp_block_create(ex, 10, PP_BLOCK_MUTABLE, &before), 0);
		ck_assert_int_eq(pp_block_create(ex, sizes[i], PP_BLOCK_MUTABLE, &block), 0);
		ck_assert_int_eq(pp_block_create(ex, 10, PP_BLOCK_MUTABLE, &after), 0);
		ck_assert_int_eq(pp_submit_block(ex, NULL, task_writes_block, block, 0, sizes[i], &future), 0);
		support_assert_kind(future, PP_RETURNED);
		ck_assert_int_eq(pp_future_block(future, &again), 0);
		assert_filled(future, sizes[i]);
		ck_assert_int_eq(pp_submit_block(ex, NULL, task_reads_block, again, 0, sizes[i], &future), 0);
		assert_filled(future, sizes[i]);
		pp_block_free(again);
		pp_block_free(after);
		pp_block_free(block);
		pp_block_free(before);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(hardened_results)
{
	pp_executor *ex = hardened(2, _i ? PP_CHECKSUM | PP_COPY_OUT : 0);
	pp_future *futures[4 * SIZES];

	for (size_t i = 0; i < 4 * SIZES; i++)
		futures[i] = submit_innocent(ex, sizes[i % SIZES], i / SIZES % 2);
	for (size_t i = 0; i < 4 * SIZES; i++)
		assert_filled(futures[i], sizes[i % SIZES]);
	pp_executor_free(ex);
}
END_TEST

struct commit { size_t alloc, first, last; };

/* Shrinks twice; where the result has not moved it writes on, in what is left. */
static int task_commits(pp_task *task, const void *data, size_t size)
{
	struct commit c;
	unsigned char *bytes;

	memcpy(&c, data, size);
	if (pp_return(task, (char[6000]){ 1 }, 6000) < 0)
		return 1;
	bytes = pp_return_alloc(task, c.alloc);
	if (!bytes)
		return 2;
	memset(bytes, 0xee, c.alloc);
	fill(bytes, c.last);
	if (pp_return_commit(task, c.first) < 0)
		return 3;
	for (size_t i = 0; c.first > 256 && i < c.last; i++)
		bytes[i] = byte_at(c.last, i);
	return pp_return_commit(task, c.last);
}

START_TEST(hardened_commits)
{
	pp_executor *ex = hardened(1, _i ? PP_CHECKSUM : 0);

	for (size_t i = 0; i < SIZES; i++)
		for (size_t j = 0; j <= i; j++)
			for (size_t k = 0; k <= j; k++)
				assert_filled(support_submit(ex, task_commits, PP_BYTES((struct commit){ sizes[i], sizes[j],
				                             sizes[k] })), sizes[k]);
	pp_executor_free(ex);
}
END_TEST

static int task_raises(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = pp_return_alloc(task, size + 9000);

	if (!bytes)
		return 1;
	bytes[0] = 1;
	return pp_raise_data(task, 42, data, size, "%zu", size);
}

START_TEST(hardened_raises)
{
	pp_executor *ex = hardened(1, _i ? PP_CHECKSUM : 0);
	unsigned char *bytes = malloc(MIB);

	for (size_t i = 0; i < SIZES; i++) {
		pp_future *future;
		const pp_outcome *o;
		fill(bytes, sizes[i]);
		future = support_submit(ex, task_raises, bytes, sizes[i]);
		o = support_outcome(future);
		ck_assert_int_eq(o->kind, PP_RAISED);
		ck_assert_int_eq(o->code, 42);
		ck_assert_uint_eq(strtoul(o->message, NULL, 10), sizes[i]);
		ck_assert_uint_eq(o->size, sizes[i]);
		ck_assert(sizes[i] == 0 || memcmp(o->data, bytes, sizes[i]) == 0);
		pp_future_free(future);
	}
	free(bytes);
	pp_executor_free(ex);
}
END_TEST

/* The last call wins, whatever rooms the earlier ones had. */
static int task_replaces(pp_task *task, const void *data, size_t size)
{
	static unsigned char bytes[65537];
	unsigned char *room;

	(void)size;
	for (size_t i = 0; i < SIZES - 1; i++) {
		room = pp_return_alloc(task, sizes[i]);
		if (!room)
			return 1;
		memset(room, 0xee, sizes[i]);
		if (pp_return(task, bytes, sizes[SIZES - 2 - i]) < 0)
			return 2;
	}
	return task_innocent(task, data, sizeof(struct innocent));
}

START_TEST(hardened_last_call_wins)
{
	pp_executor *ex = hardened(1, 0);

	for (size_t i = 0; i < 2 * SIZES; i++)
		assert_filled(support_submit(ex, task_replaces, PP_BYTES((struct innocent){ sizes[i / 2], i % 2 })), sizes[i / 2]);
	pp_executor_free(ex);
}
END_TEST

static struct gate gate;

static int task_tells(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	if (pp_task_progress(task, 3, 7, "half") < 0 || pp_task_cancelled(task))
		return 1;
	return gate_pass(&gate);
}

START_TEST(hardened_progress)
{
	pp_executor *ex;
	pp_future *future;
	uint64_t done, total;
	char text[16];

	gate_make(&gate);
	ex = hardened(1, 0);
	future = support_submit(ex, task_tells, NULL, 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(pp_future_progress(future, &done, &total, text, sizeof text), 1);
	ck_assert_uint_eq(done, 3);
	ck_assert_uint_eq(total, 7);
	ck_assert_str_eq(text, "half");
	gate_open(&gate, 1);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* Also a main thread that goes while its process lives on, which the kernel tells of by a mutex in shared memory. */
static const struct { enum death death; int kind, code; } deaths[] = {
	{ DIE_SEGV, PP_CRASHED, SIGSEGV }, { DIE_ABRT, PP_CRASHED, SIGABRT }, { DIE_KILL, PP_CRASHED, SIGKILL },
	{ DIE_FPE, PP_CRASHED, SIGFPE }, { DIE_STACK, PP_CRASHED, SIGSEGV }, { DIE_EXIT0, PP_EXITED, 0 },
	{ DIE_EXIT99, PP_EXITED, 99 }, { DIE__EXIT, PP_EXITED, 42 }, { DIE_PTHREAD_EXIT, PP_EXITED, 0 },
	{ DIE_EXEC, PP_EXITED, 0 },
};

START_TEST(hardened_deaths)
{
	pp_executor *ex = hardened(2, PP_ACCOUNTING);
	pp_future *future = support_submit(ex, task_die, PP_BYTES(deaths[_i].death));
	const pp_outcome *o = support_outcome(future);

	ck_assert_int_eq(o->kind, deaths[_i].kind);
	if (o->kind == PP_CRASHED)
		ck_assert_int_eq(o->signal, deaths[_i].code);
	else if (deaths[_i].death != DIE__EXIT)
		ck_assert_int_eq(o->code, deaths[_i].code);
	pp_future_free(future);
	assert_filled(submit_innocent(ex, 300, true), 300);
	pp_executor_free(ex);
}
END_TEST

/* libc links it with the one that the worker holds, and writes to that. */
static int task_robust(pp_task *task, const void *data, size_t size)
{
	static pthread_mutex_t mutex;
	pthread_mutexattr_t attributes;

	(void)data;
	(void)size;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	if (pthread_mutex_lock(&mutex) != 0 || pthread_mutex_unlock(&mutex) != 0)
		return 1;
	return pp_return(task, "well", 5);
}

START_TEST(hardened_robust_mutex)
{
	pp_executor *ex = hardened(1, 0);
	pp_future *future = support_submit(ex, task_robust, NULL, 0);

	support_assert_returned(future, "well", 5);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int task_hangs(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	for (;;)
		pause();
	return 0;
}

/* Dies at the first attempts, with room claimed. */
static int task_often(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	if (pp_task_attempt(task) == 3)
		return pp_return(task, PP_BYTES((unsigned){ pp_task_attempt(task) }));
	if (!pp_return_alloc(task, 100000))
		return 1;
	if (pp_task_attempt(task) == 1)
		return pp_raise(task, 5, "once more");
	abort();
}

START_TEST(hardened_stops_and_retries)
{
	pp_task_options soon = PP_TASK_OPTIONS_INIT, often = PP_TASK_OPTIONS_INIT;
	pp_executor *ex = hardened(2, 0);
	pp_future *future;

	soon.timeout_ms = 50;
	often.retries = 2;
	often.retry_on = PP_ON(PP_RAISED) | PP_ON(PP_CRASHED);
	ck_assert_int_eq(pp_submit_with(ex, &soon, task_hangs, NULL, 0, &future), 0);
	support_assert_kind(future, PP_TIMED_OUT);
	pp_future_free(future);
	future = support_submit(ex, task_hangs, NULL, 0);
	support_until_running(future);
	pp_future_kill(future);
	support_assert_kind(future, PP_KILLED);
	pp_future_free(future);
	ck_assert_int_eq(pp_submit_with(ex, &often, task_often, NULL, 0, &future), 0);
	support_assert_returned(future, PP_BYTES((unsigned){ 3 }));
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("hardened_more");
	TCase *tasks = support_tcase(suite, "tasks");

	tcase_add_test(tasks, hardened_mutable_blocks);
	tcase_add_loop_test(tasks, hardened_results, 0, 2);
	tcase_add_loop_test(tasks, hardened_commits, 0, 2);
	tcase_add_loop_test(tasks, hardened_raises, 0, 2);
	tcase_add_test(tasks, hardened_last_call_wins);
	tcase_add_test(tasks, hardened_progress);
	tcase_add_loop_test(tasks, hardened_deaths, 0, (int)(sizeof deaths / sizeof *deaths));
	tcase_add_test(tasks, hardened_robust_mutex);
	tcase_add_test(tasks, hardened_stops_and_retries);
	return suite;
}

SUPPORT_MAIN(make_suite)
