/* SPDX-License-Identifier: MIT */
/*
 * Tasks that use too much memory: over the cap of the executor, and in a control group, where the kernel kills. What kills a
 * worker otherwise is not taken for that.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

#define MIB (INT64_C(1) << 20)

/* Touches so many MiB, and then waits, or returns. */
struct appetite { int mib, wait; };

static int task_eat(pp_task *task, const void *data, size_t size)
{
	struct appetite appetite;
	char *bytes;

	memcpy(&appetite, data, size);
	bytes = mmap(NULL, (size_t)appetite.mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bytes == MAP_FAILED)
		return pp_raise(task, errno, "no memory");
	memset(bytes, 1, (size_t)appetite.mib << 20);
	while (appetite.wait)
		poll(NULL, 0, 100);
	munmap(bytes, (size_t)appetite.mib << 20);
	return 0;
}

static int task_kill_self(pp_task *task, const void *data, size_t size)
{
	(void)task, (void)data, (void)size;
	raise(SIGKILL);
	return 0;
}

static pp_executor *create(void)
{
	pp_options options = support_options(1);

	options.limits.resident_bytes = 32 * MIB;
	return support_create(&options);
}

START_TEST(over_the_cap)
{
	struct appetite much = { 64, 1 }, little = { 8, 0 };
	pp_executor *ex = create();
	pp_future *large = support_submit(ex, task_eat, &much, sizeof much);
	pp_future *small = support_submit(ex, task_eat, &little, sizeof little);

	support_assert_kind(large, PP_MEMORY);
	ck_assert_int_eq(support_outcome(large)->certain, 1);
	ck_assert_uint_eq(support_outcome(large)->attempt, 1);
	support_assert_kind(small, PP_RETURNED);
	pp_future_free(large);
	pp_future_free(small);
	pp_executor_free(ex);
}
END_TEST

START_TEST(retried_over_the_cap)
{
	struct appetite much = { 64, 1 };
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_executor *ex = create();
	const pp_outcome *o;
	pp_future *future;

	options.retries = 1;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_eat, &much, sizeof much, &future), 0);
	o = support_outcome(future);
	ck_assert_int_eq(o->kind, PP_MEMORY);
	ck_assert_uint_eq(o->attempt, 2);
	ck_assert_ptr_nonnull(o->earlier);
	ck_assert_int_eq(o->earlier->kind, PP_MEMORY);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(killed_from_outside_is_a_crash)
{
	pp_executor *ex = create();
	pp_future *future = support_submit(ex, task_kill_self, NULL, 0);

	support_assert_kind(future, PP_CRASHED);
	ck_assert_int_eq(support_outcome(future)->signal, SIGKILL);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(bad_cap_refused)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.limits.resident_bytes = -2;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
}
END_TEST

/* ------------------------------------------------------------------ a control group */

static char group[512];                  /* its folder; "": none can be made */

static bool write_text(const char *folder, const char *name, const char *text)
{
	char path[600];
	FILE *file;
	bool good;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	file = fopen(path, "r+");         /* never makes one where there is no group */
	if (!file)
		return false;
	good = fputs(text, file) >= 0;
	return fclose(file) == 0 && good;
}

static bool make_group_below(const char *folder)
{
	snprintf(group, sizeof group, "%.400s/procpool-test-%d", folder, (int)getpid());
	if (mkdir(group, 0700) == 0) {
		if (write_text(group, "memory.max", "67108864") || write_text(group, "memory.limit_in_bytes", "67108864")) {
			write_text(group, "memory.swap.max", "0");
			write_text(group, "memory.memsw.limit_in_bytes", "67108864");
			return true;
		}
		rmdir(group);
	}
	group[0] = 0;
	return false;
}

/* Version 2 and version 1, where they are mounted by custom. */
static bool make_group(void)
{
	return make_group_below("/sys/fs/cgroup") || make_group_below("/sys/fs/cgroup/memory");
}

static int in_group(void *context)
{
	struct appetite much = { 128, 1 };
	pp_options options = PP_OPTIONS_INIT;
	const pp_outcome *o;
	pp_executor *ex;
	pp_future *future;
	char pid[16];

	(void)context;
	snprintf(pid, sizeof pid, "%d", (int)getpid());
	APP_CHECK(write_text(group, "cgroup.procs", pid));
	options.max_workers = 1;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 2; i++) {
		APP_CHECK(pp_submit(ex, task_eat, &much, sizeof much, &future) == 0);
		APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &o) == 0);
		APP_CHECK(o->kind == PP_MEMORY);
		APP_CHECK(o->certain == 1);
		pp_future_free(future);
	}
	APP_CHECK(pp_submit(ex, task_kill_self, NULL, 0, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == PP_CRASHED && o->signal == SIGKILL);
	pp_future_free(future);
	pp_executor_free(ex);
	return 0;
}

static bool is_group_gone(void *context)
{
	(void)context;
	return rmdir(group) == 0 || errno == ENOENT;
}

START_TEST(killed_by_the_kernel_in_a_group_of_64_mib)
{
	ck_assert(make_group());
	app_run(in_group, NULL);
	support_until(is_group_gone, NULL, "the end of the control group");
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("memory_cap");
	TCase *tc = support_tcase(suite, "memory");

	tcase_add_test(tc, over_the_cap);
	tcase_add_test(tc, retried_over_the_cap);
	tcase_add_test(tc, killed_from_outside_is_a_crash);
	tcase_add_test(tc, bad_cap_refused);
	if (!app_tests_can_run())
		return suite;
	if (make_group()) {
		rmdir(group);
		tcase_add_test(tc, killed_by_the_kernel_in_a_group_of_64_mib);
	} else {
		support_skip("killed_by_the_kernel_in_a_group_of_64_mib", "no control group for memory can be made here");
	}
	return suite;
}

SUPPORT_MAIN(make_suite)
