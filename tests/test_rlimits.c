/* SPDX-License-Identifier: MIT */
/*
 * The limits that the kernel keeps for each worker. What goes beyond is an error in the task, or the end of its worker,
 * and nobody else's affair.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

#define MIB ((int64_t)1 << 20)

static const int resources[] = { RLIMIT_AS, RLIMIT_DATA, RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_CORE };

static int look(struct rlimit limits[6])
{
	for (int i = 0; i < 6; i++)
		if (getrlimit((__rlimit_resource_t)resources[i], &limits[i]) < 0)
			return errno;
	return 0;
}

static int task_look(pp_task *task, const void *data, size_t size)
{
	struct rlimit limits[6];
	int error = look(limits);

	(void)data;
	(void)size;
	return error ? pp_raise(task, error, "cannot look") : pp_return(task, PP_BYTES(limits));
}

static void limits_with(const pp_options *options, struct rlimit limits[6])
{
	pp_executor *ex = support_create(options);
	pp_future *future = support_submit(ex, task_look, NULL, 0);

	support_assert_kind(future, PP_RETURNED);
	memcpy(limits, support_outcome(future)->data, 6 * sizeof *limits);
	pp_future_free(future);
	pp_executor_free(ex);
}

/* Runs one task, which is to end so. */
static void expect_kind(const pp_options *options, pp_fn *fn, int kind, int number)
{
	pp_executor *ex = support_create(options);
	pp_future *future = support_submit(ex, fn, NULL, 0);
	const pp_outcome *outcome = support_outcome(future);

	support_assert_kind(future, kind);
	ck_assert_int_eq(kind == PP_CRASHED ? outcome->signal : outcome->code, number);
	pp_future_free(future);
	pp_executor_free(ex);
}

START_TEST(limits_as_given)
{
	pp_options options = support_options(1);
	struct rlimit before[6], after[6], there[6];

	ck_assert_int_eq(look(before), 0);
	options.limits = (pp_limits){ .data = 4096 * MIB, .cpu_seconds = 60, .file_size = 3 * MIB, .open_files = 252,
	                              .core_size = PP_NONE };
	limits_with(&options, there);
	ck_assert_mem_eq(&there[0], &before[0], sizeof *before);
	ck_assert_uint_eq(there[1].rlim_cur, 4096 * MIB);
	ck_assert_uint_eq(there[1].rlim_max, 4096 * MIB);
	ck_assert_uint_eq(there[2].rlim_cur, 60);
	ck_assert_uint_eq(there[2].rlim_max, 61);
	ck_assert_uint_eq(there[3].rlim_cur, 3 * MIB);
	ck_assert_uint_eq(there[4].rlim_cur, 252);
	ck_assert_uint_eq(there[5].rlim_cur, 1);
	ck_assert_int_eq(look(after), 0);
	ck_assert_mem_eq(after, before, sizeof before);
}
END_TEST

/* More than the hard limit cannot be had, and the application's own stands. */
static int app_hard_limit(void *unused)
{
	const struct rlimit hard = { 100, 200 };
	pp_options options = support_options(1);
	pp_executor *ex;
	pp_future *future;
	const pp_outcome *outcome;
	struct rlimit limits[6];

	(void)unused;
	APP_CHECK(setrlimit(RLIMIT_CPU, &hard) == 0);
	options.limits.cpu_seconds = INT64_MAX;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	APP_CHECK(pp_submit(ex, task_look, NULL, 0, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0 && outcome->kind == PP_RETURNED);
	memcpy(limits, outcome->data, sizeof limits);
	APP_CHECK(limits[2].rlim_cur == 200 && limits[2].rlim_max == 200);
	pp_future_free(future);
	pp_executor_free(ex);
	return 0;
}

START_TEST(limit_above_the_hard_one)
{
	app_run(app_hard_limit, NULL);
}
END_TEST

/* Both halves of the space fit one by one, and the second does not fit beside the first. */
static int task_take_address_space(pp_task *task, const void *data, size_t size)
{
	void *first = malloc(40 * MIB), *second = malloc(40 * MIB);
	bool right = first && !second;

	(void)data;
	(void)size;
	free(first);
	free(second);
	return right ? pp_raise(task, ENOMEM, "no memory") : 0;
}

START_TEST(allocation_failure_is_the_tasks)
{
	pp_options options = support_options(1);

	options.limits.address_space = 64 * MIB;
	expect_kind(&options, task_take_address_space, PP_RAISED, ENOMEM);
}
END_TEST

static int task_spin(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	for (;;)
		__asm__ volatile ("");
	return 0;
}

START_TEST(cpu_seconds_sigxcpu)
{
	pp_options options = support_options(1);

	options.limits.cpu_seconds = 1;
	options.limits.core_size = PP_NONE;
	expect_kind(&options, task_spin, PP_CRASHED, SIGXCPU);
}
END_TEST

static int task_write_file(pp_task *task, const void *data, size_t size)
{
	static const char bytes[8192];
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);

	(void)data;
	(void)size;
	if (fd < 0)
		return pp_raise(task, errno, "no file");
	for (int i = 0; i < 2; i++)
		if (write(fd, bytes, sizeof bytes) < 0)
			return pp_raise(task, errno, "write");
	return 0;
}

START_TEST(file_size_sigxfsz)
{
	pp_options options = support_options(1);

	options.limits.file_size = 8192;
	options.limits.core_size = PP_NONE;
	expect_kind(&options, task_write_file, PP_CRASHED, SIGXFSZ);
}
END_TEST

static int task_open_file(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	if (open("/dev/null", O_RDONLY) < 0)
		return pp_raise(task, errno, "no descriptor");
	return 0;
}

START_TEST(open_files_emfile)
{
	pp_options options = support_options(1);

	options.limits.open_files = PP_NONE;
	expect_kind(&options, task_open_file, PP_RAISED, EMFILE);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("rlimits");
	TCase *tcase = support_tcase(suite, "limits");

	tcase_add_test(tcase, limits_as_given);
	if (app_tests_can_run())
		tcase_add_test(tcase, limit_above_the_hard_one);
	else
		support_skip("limit_above_the_hard_one", "CK_FORK=no");
	if (support_sanitized() || support_under_valgrind())
		support_skip("allocation_failure_is_the_tasks", "its allocator needs more address space, and ends the process");
	else
		tcase_add_test(tcase, allocation_failure_is_the_tasks);
	tcase_add_test(tcase, cpu_seconds_sigxcpu);
	tcase_add_test(tcase, file_size_sigxfsz);
	tcase_add_test(tcase, open_files_emfile);
	return suite;
}

SUPPORT_MAIN(make_suite)
