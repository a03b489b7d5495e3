/* SPDX-License-Identifier: MIT */
/* Section 4 of the contract: what submit takes, and what it refuses. Its bounds are in test_bounds.c. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support.h"

static void fill(unsigned char *bytes, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 31 + i / 251 + seed);
}

/* What a task may rely on: 1: data is NULL, 2: it is not aligned. Then echoes. */
static int task_check_argument(pp_task *task, const void *data, size_t size)
{
	if (!data)
		return pp_raise(task, 1, "data is NULL");
	if ((uintptr_t)data % 16)
		return pp_raise(task, 2, "data is not aligned");
	return pp_return(task, data, size);
}

static void submit_size(pp_executor *ex, size_t size, unsigned seed)
{
	unsigned char *sent = malloc(size + 1), *kept = malloc(size + 1);
	pp_future *future;

	fill(sent, size, seed);
	memcpy(kept, sent, size);
	future = support_submit(ex, task_check_argument, size ? sent : NULL, size);
	memset(sent, 0xee, size);        /* the caller's buffer is free again */
	support_assert_returned(future, kept, size);
	ck_assert_uint_eq((uintptr_t)support_outcome(future)->data % 8, 0);
	pp_future_free(future);
	free(sent);
	free(kept);
}

START_TEST(submit)
{
	static const size_t sizes[] = { 0, 1, 15, 16, 17, 95, 96, 97, 255, 256, 257, 4096, 65536, 65537, 1u << 20, 5000000 };
	pp_executor *ex = support_executor(2);

	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
			submit_size(ex, sizes[i], round);
	pp_executor_free(ex);
}
END_TEST

START_TEST(submit_tells_facts)
{
	pp_executor *ex = support_executor(2);
	pp_future *future = support_submit(ex, task_pid, NULL, 0);
	const pp_outcome *outcome = support_outcome(future);
	pid_t pid;

	ck_assert_int_eq(outcome->kind, PP_RETURNED);
	memcpy(&pid, outcome->data, sizeof pid);
	ck_assert_int_eq(outcome->pid, pid);
	ck_assert_int_ne(pid, getpid());
	ck_assert_int_ge(outcome->worker, 0);
	ck_assert_int_lt(outcome->worker, 2);
	ck_assert_uint_eq(outcome->attempt, 1);
	ck_assert_uint_gt(outcome->queued_ns, 0);
	ck_assert_uint_gt(outcome->running_ns, 0);
	ck_assert_str_eq(outcome->task_name, "");
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int task_name(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return(task, pp_task_name(task), strlen(pp_task_name(task)));
}

START_TEST(submit_with_name)
{
	static const size_t lengths[] = { 0, 1, 62, 63, 64, 200 };
	pp_executor *ex = support_executor(1);

	for (size_t i = 0; i < 2 * sizeof lengths / sizeof *lengths; i++) {
		pp_task_options options = PP_TASK_OPTIONS_INIT;
		char name[256] = "", argument[200] = "", kept[64] = "";
		size_t size = i % 2 ? sizeof argument : 1;
		pp_future *future;
		memset(name, 'n', lengths[i / 2]);
		memcpy(kept, name, 63);
		options.name = name;
		ck_assert_int_eq(pp_submit_with(ex, &options, task_name, argument, size, &future), 0);
		memset(name, 'x', sizeof name);
		support_assert_returned(future, kept, strlen(kept));
		ck_assert_str_eq(support_outcome(future)->task_name, kept);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

static int task_count(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	return 0;
}

struct expected { long *counter, value; };

static bool counter_is(void *expected_)
{
	struct expected *expected = expected_;

	return __atomic_load_n(expected->counter, __ATOMIC_SEQ_CST) == expected->value;
}

START_TEST(submit_detached)
{
	long *counter = support_counters(1);
	pp_executor *ex = support_executor(2);
	struct expected expected = { counter, 10000 };

	for (int i = 0; i < 10000; i++)
		ck_assert_int_eq(pp_submit(ex, task_count, &counter, sizeof counter, NULL), 0);
	support_until(counter_is, &expected, "all detached tasks");
	pp_executor_free(ex);
	ck_assert_int_eq(*counter, 10000);
	support_counters_free(counter, 1);
}
END_TEST

#define LATE_LIBRARY "libthread_db.so.1"        /* of every glibc, and linked by debuggers only */

/* td_init takes nothing, does nothing that a task could notice, and returns 0: it can stand for a task. */
static pp_fn *late_function(void **library)
{
	*library = dlopen(LATE_LIBRARY, RTLD_LAZY);
	return *library ? (pp_fn *)(uintptr_t)dlsym(*library, "td_init") : NULL;
}

START_TEST(dlopen_after_create_refused)
{
	pp_executor *before = support_executor(1), *after;
	pp_future *future;
	void *library;
	pp_fn *fn;

	fn = late_function(&library);
	ck_assert_msg(fn != NULL, "%s", dlerror());
	future = (pp_future *)before;
	ck_assert_int_eq(pp_submit(before, fn, NULL, 0, &future), -EFAULT);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(pp_submit(before, fn, NULL, 0, NULL), -EFAULT);
	after = support_executor(1);     /* the same function, known */
	future = support_submit(after, fn, NULL, 0);
	support_assert_returned(future, NULL, 0);
	pp_future_free(future);
	future = support_submit(before, task_echo, "still works", 11);
	support_assert_returned(future, "still works", 11);
	pp_future_free(future);
	pp_executor_free(before);
	pp_executor_free(after);
	dlclose(library);
}
END_TEST

START_TEST(submit_of_data_refused)
{
	static int some_data;
	pp_executor *ex = support_executor(1);
	int on_the_stack;
	void *on_the_heap = malloc(16);

	ck_assert_int_eq(pp_submit(ex, (pp_fn *)(uintptr_t)&some_data, NULL, 0, NULL), -EFAULT);
	ck_assert_int_eq(pp_submit(ex, (pp_fn *)(uintptr_t)&on_the_stack, NULL, 0, NULL), -EFAULT);
	ck_assert_int_eq(pp_submit(ex, (pp_fn *)(uintptr_t)on_the_heap, NULL, 0, NULL), -EFAULT);
	ck_assert_int_eq(pp_submit(ex, (pp_fn *)(uintptr_t)1, NULL, 0, NULL), -EFAULT);
	free(on_the_heap);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("submit");
	TCase *arguments = support_tcase(suite, "arguments");

	tcase_add_test(arguments, submit);
	tcase_add_test(arguments, submit_tells_facts);
	tcase_add_test(arguments, submit_with_name);
	tcase_add_test(arguments, submit_detached);
	tcase_add_test(arguments, submit_of_data_refused);
	if (dlopen(LATE_LIBRARY, RTLD_LAZY | RTLD_NOLOAD))
		support_skip("dlopen_after_create_refused", LATE_LIBRARY " is loaded already");
	else
		tcase_add_test(arguments, dlopen_after_create_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
