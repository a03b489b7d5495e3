/* SPDX-License-Identifier: MIT */
/*
 * Blocks and scattered input from their edges: what is refused, what outlives the executor, what many threads do at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

#define MIB ((size_t)1 << 20)

static int task_first(pp_task *task, const void *data, size_t size)
{
	return pp_return(task, data, size < 5 ? size : 5);
}

static pp_block *block_of_result(pp_executor *ex, const void *bytes, size_t size)
{
	pp_future *future = support_submit(ex, task_echo, bytes, size);
	pp_block *block;

	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(pp_future_block(future, &block), 0);
	pp_future_free(future);
	return block;
}

/* The segment stays until the last of them is gone; that then it is gone is what every teardown asserts. */
START_TEST(blocks_outlive_executor)
{
	static const size_t sizes[] = { 12, 100, 3000, 3 * MIB };
	pp_executor *ex = support_executor(2);
	pp_block *own, *mutable, *results[4];
	char *bytes = malloc(3 * MIB);
	pp_future *future;

	memset(bytes, 'r', 3 * MIB);
	ck_assert_int_eq(pp_block_create(ex, 5000, 0, &own), 0);
	ck_assert_int_eq(pp_block_create(ex, 5000, PP_BLOCK_MUTABLE, &mutable), 0);
	memset(pp_block_data(own), 'o', 5000);
	memset(pp_block_data(mutable), 'm', 5000);
	for (int i = 0; i < 4; i++)
		results[i] = block_of_result(ex, bytes, sizes[i]);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, results[3], 1, MIB, &future), 0);
	pp_executor_free(ex);
	support_assert_returned(future, "rrrrr", 5);
	for (int i = 0; i < 4; i++)
		ck_assert_mem_eq(pp_block_data(results[i]), bytes, sizes[i]);
	pp_block_free(results[3]);               /* the future still has one */
	ck_assert_mem_eq(pp_block_data(own), "ooooo", 5);
	pp_block_free(own);
	pp_future_free(future);
	for (int i = 0; i < 3; i++)
		pp_block_free(results[i]);
	ck_assert_mem_eq(pp_block_data(mutable), "mmmmm", 5);
	pp_block_free(mutable);
	free(bytes);
}
END_TEST

/* In whatever order: a result's block is last, or the future whose argument it is. */
START_TEST(last_one_frees_all)
{
	for (int order = 0; order < 3; order++) {
		pp_executor *ex = support_executor(1);
		pp_block *block = block_of_result(ex, "123456789 123456789 123456789", 29);
		pp_future *future;
		ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, block, 10, 19, &future), 0);
		if (order == 0)
			pp_block_free(block);
		support_assert_returned(future, "12345", 5);
		if (order == 1)
			pp_future_free(future);
		pp_executor_free(ex);
		if (order != 1)
			pp_future_free(future);
		if (order != 0)
			pp_block_free(block);
	}
}
END_TEST

START_TEST(blocks_refused)
{
	pp_executor *ex = support_executor(1), *other = support_executor(1);
	pp_block *block = (pp_block *)1, *mine;
	pp_future *future = (pp_future *)1;

	ck_assert_int_eq(pp_block_create(NULL, 1, 0, &block), -EINVAL);
	ck_assert_ptr_null(block);
	ck_assert_int_eq(pp_block_create(ex, 1, 0, NULL), -EINVAL);
	ck_assert_int_eq(pp_block_create(ex, 1, 2, &block), -EINVAL);
	ck_assert_int_eq(pp_block_create(ex, SIZE_MAX, 0, &block), -ENOMEM);
	ck_assert_int_eq(pp_block_create(ex, SIZE_MAX / 2 + 2, PP_BLOCK_MUTABLE, &block), -ENOMEM);
	ck_assert_ptr_null(block);
	ck_assert_int_eq(pp_block_create(ex, 100, 0, &mine), 0);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, NULL, 0, 0, &future), -EINVAL);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_submit_block(ex, NULL, NULL, mine, 0, 10, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_block(NULL, NULL, task_first, mine, 0, 10, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_block(other, NULL, task_first, mine, 0, 10, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, mine, 0, 101, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, mine, 101, 0, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, mine, 1, SIZE_MAX, &future), -EINVAL);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_first, mine, 0, 10, &future), -ESHUTDOWN);
	ck_assert_int_eq(pp_block_create(ex, 100, 0, &block), -ESHUTDOWN);
	ck_assert_ptr_null(pp_block_data(NULL));
	ck_assert_ptr_null(pp_block_ref(NULL));
	ck_assert_uint_eq(pp_block_size(NULL), 0);
	pp_block_free(NULL);
	pp_block_free(mine);
	pp_executor_free(ex);
	pp_executor_free(other);
}
END_TEST

static bool child_is_refused(pp_executor *ex, pp_block *block, pp_future *future)
{
	pp_block *made;

	if (pp_block_create(ex, 1, 0, &made) != -ECHILD || pp_future_block(future, &made) != -ECHILD)
		return false;
	if (pp_submit_block(ex, NULL, task_first, block, 0, 1, NULL) != -ECHILD
	    || pp_submit_iov(ex, NULL, task_first, NULL, 0, NULL) != -ECHILD)
		return false;
	if (pp_block_data(block) || pp_block_size(block) || pp_block_ref(block))
		return false;
	pp_block_free(block);
	return true;
}

START_TEST(blocks_in_child)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_echo, "x", 1);
	pp_block *block;
	int status;
	pid_t pid;

	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(pp_block_create(ex, 10, 0, &block), 0);
	pid = fork();
	if (pid == 0)
		_exit(child_is_refused(ex, block, future) ? 0 : 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(pp_block_size(block), 10);
	pp_block_free(block);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* ---- scattered */

START_TEST(iov_gathered)
{
	static const size_t sizes[] = { 0, 1, 95, 96, 97, 4096, 100000 };
	pp_executor *ex = support_executor(1);
	char *bytes = malloc(100000), *copy = malloc(100000);
	pp_future *future;

	for (size_t i = 0; i < 100000; i++)
		bytes[i] = (char)(i * 17 + i / 300);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		size_t a = sizes[i] / 3, b = sizes[i] / 2;
		struct iovec parts[] = { { copy, a }, { NULL, 0 }, { copy + a, b - a }, { copy + b, sizes[i] - b } };
		memcpy(copy, bytes, 100000);
		ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, parts, 4, &future), 0);
		memset(copy, 0, 100000);
		support_assert_returned(future, bytes, sizes[i]);
		pp_future_free(future);
	}
	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, NULL, 0, &future), 0);
	support_assert_returned(future, "", 0);
	pp_future_free(future);
	pp_executor_free(ex);
	free(bytes);
	free(copy);
}
END_TEST

START_TEST(iov_refused)
{
	pp_executor *ex = support_executor(1);
	struct iovec none = { NULL, 1 }, huge[] = { { ex, SIZE_MAX - 5 }, { ex, 10 } }, big = { ex, SIZE_MAX };
	pp_future *future;

	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, NULL, 1, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, huge, -1, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, &none, 1, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_iov(ex, NULL, NULL, NULL, 0, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_iov(NULL, NULL, task_echo, NULL, 0, &future), -EINVAL);
	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, huge, 2, &future), -ENOMEM);
	ck_assert_int_eq(pp_submit_iov(ex, NULL, task_echo, &big, 1, &future), -ENOMEM);
	ck_assert_ptr_null(future);
	pp_executor_free(ex);
}
END_TEST

/* ---- threads */

struct user { pp_executor *ex; pp_block *block; int wrong; };

/* Each submits on the block of all, passes the results on, and gives everything up in the middle. */
static void *use_blocks(void *user_)
{
	struct user *user = user_;
	pp_future *future, *next;
	const pp_outcome *outcome;
	pp_block *block;

	for (int i = 0; i < 200; i++) {
		size_t size = (size_t)(i % 7) * 700 + 3;
		if (pp_submit_block(user->ex, NULL, task_echo, user->block, 0, size, &future)
		    || pp_future_result(future, SUPPORT_GUARD_MS, &outcome) || pp_future_block(future, &block)) {
			user->wrong++;
			continue;
		}
		pp_future_free(future);
		if (pp_submit_block(user->ex, NULL, task_first, block, 0, size, &next))
			user->wrong++;
		pp_block_free(block);
		if (pp_future_result(next, SUPPORT_GUARD_MS, &outcome) || memcmp(outcome->data, "ttttt", outcome->size) != 0)
			user->wrong++;
		pp_future_free(next);
	}
	pp_block_free(user->block);
	return NULL;
}

START_TEST(blocks_from_many_threads)
{
	pp_executor *ex = support_executor(2);
	struct user users[4];
	pthread_t threads[4];
	pp_block *block;

	ck_assert_int_eq(pp_block_create(ex, 5000, 0, &block), 0);
	memset(pp_block_data(block), 't', 5000);
	for (int i = 0; i < 4; i++) {
		users[i] = (struct user){ ex, pp_block_ref(block), 0 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use_blocks, &users[i]), 0);
	}
	pp_block_free(block);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_int_eq(users[i].wrong, 0);
	}
	pp_executor_free(ex);
}
END_TEST

/* ---- read_after_free */

enum { FREED, FREED_MUTABLE, STILL_REFERENCED, CASES };
struct reader { int what, log; };

/* Reads the last byte of a block after it was freed. */
static int read_late(void *reader_)
{
	struct reader *reader = reader_;
	pp_executor *ex;
	volatile char *bytes;
	pp_block *block;

	dup2(reader->log, STDERR_FILENO);
	APP_CHECK(pp_executor_create(&ex, NULL) == 0);
	APP_CHECK(pp_block_create(ex, 1000, reader->what == FREED_MUTABLE ? PP_BLOCK_MUTABLE : 0, &block) == 0);
	bytes = pp_block_data(block);
	bytes[999] = 7;
	if (reader->what == STILL_REFERENCED)
		pp_block_ref(block);
	pp_block_free(block);
	APP_CHECK(bytes[999] == 7);
	pp_executor_free(ex);
	return 0;
}

/* AddressSanitizer tells of it, and of nothing else. */
START_TEST(read_after_free)
{
	char path[] = "/tmp/procpool-block-XXXXXX", text[4096] = "";
	struct reader reader = { _i, mkstemp(path) };
	struct app app;
	int status;

	ck_assert_int_ge(reader.log, 0);
	unlink(path);
	fcntl(reader.log, F_SETFL, O_APPEND);
	app_start(&app, read_late, &reader);
	status = app_wait(&app);
	ck_assert_int_ge(pread(reader.log, text, sizeof text - 1, 0), 0);
	if (_i == STILL_REFERENCED) {
		ck_assert_int_eq(status, 0);
		ck_assert_str_eq(text, "");
	} else {
		ck_assert_int_ne(status, 0);
		ck_assert_ptr_nonnull(strstr(text, "use-after-poison"));
		ck_assert_ptr_nonnull(strstr(text, "read_late"));
	}
	close(reader.log);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("block_life");
	TCase *life = support_tcase(suite, "life"), *iov = support_tcase(suite, "iov");

	tcase_add_test(life, blocks_outlive_executor);
	tcase_add_test(life, last_one_frees_all);
	tcase_add_test(life, blocks_refused);
	tcase_add_test(life, blocks_in_child);
	tcase_add_test(life, blocks_from_many_threads);
	if (support_sanitized() && app_tests_can_run())
		tcase_add_loop_test(life, read_after_free, 0, CASES);
	tcase_add_test(iov, iov_gathered);
	tcase_add_test(iov, iov_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
