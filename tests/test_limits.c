/* SPDX-License-Identifier: MIT */
/*
 * Hosts that give less than usual: a small, a full or no /dev/shm, resource limits, descriptors closed under the library's
 * feet. Each is an error of the call that asked for more; never a signal, and never a pool that is half there. The
 * applications run in processes, and some in mount namespaces, of their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

#define MIB ((size_t)1 << 20)

static pp_executor *create(uint32_t flags)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	options.max_workers = 2;
	options.flags = flags;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	return ex;
}

/* So many echoes of so many bytes, all submitted before the first is read. */
static void check_works(pp_executor *ex, int n, size_t size)
{
	pp_future **futures = malloc((size_t)n * sizeof(pp_future *));
	char *bytes = malloc(size);
	const pp_outcome *outcome;

	for (int i = 0; i < n; i++) {
		memset(bytes, i, size);
		APP_CHECK(pp_submit(ex, task_echo, bytes, size, &futures[i]) == 0);
	}
	for (int i = 0; i < n; i++) {
		memset(bytes, i, size);
		APP_CHECK(pp_future_result(futures[i], SUPPORT_GUARD_MS, &outcome) == 0);
		APP_CHECK(outcome->kind == PP_RETURNED && outcome->size == size);
		APP_CHECK(memcmp(outcome->data, bytes, size) == 0);
		pp_future_free(futures[i]);
	}
	free(bytes);
	free(futures);
}

static void check_dies(pp_executor *ex)
{
	const pp_outcome *outcome;
	pp_future *future;
	int how = DIE_SEGV;

	APP_CHECK(pp_submit(ex, task_die, &how, sizeof how, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0);
	APP_CHECK(outcome->kind == PP_CRASHED);
	pp_future_free(future);
}

/* ---- /dev/shm */

/* Instead of /dev/shm, in a mount namespace of this process's own; options as of mount(8). */
static void replace_dev_shm(const char *options, unsigned long flags)
{
	APP_CHECK(unshare(CLONE_NEWNS) == 0);
	APP_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	APP_CHECK(mount("tmpfs", "/dev/shm", "tmpfs", flags, options) == 0);
}

/* A /dev in which there is nothing but null. */
static void hide_dev_shm(void)
{
	char path[64];
	int null;

	APP_CHECK(unshare(CLONE_NEWNS) == 0);
	APP_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	null = open("/dev/null", O_RDWR);
	APP_CHECK(mount("tmpfs", "/dev", "tmpfs", 0, NULL) == 0);
	APP_CHECK(close(open("/dev/null", O_CREAT | O_RDONLY, 0666)) == 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", null);
	APP_CHECK(mount(path, "/dev/null", NULL, MS_BIND, NULL) == 0);
	close(null);
}

static void check_shm_only_refused(void)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex = (pp_executor *)1;

	options.flags = PP_SHM_ONLY;
	APP_CHECK(pp_executor_create(&ex, &options) == -ENOSPC);
	APP_CHECK(ex == NULL);
}

static int app_no_dev_shm(void *unused)
{
	pp_executor *ex;

	(void)unused;
	hide_dev_shm();
	check_shm_only_refused();
	ex = create(0);
	check_works(ex, 100, 5000);
	check_dies(ex);
	check_works(ex, 10, 5000);
	pp_executor_free(ex);
	return 0;
}

START_TEST(no_dev_shm)
{
	app_run(app_no_dev_shm, NULL);
	app_until_processes(0);
}
END_TEST

static int app_read_only_dev_shm(void *unused)
{
	pp_executor *ex;

	(void)unused;
	replace_dev_shm(NULL, MS_RDONLY);
	check_shm_only_refused();
	ex = create(0);
	check_works(ex, 100, 5000);
	pp_executor_free(ex);
	return 0;
}

START_TEST(read_only_dev_shm)
{
	app_run(app_read_only_dev_shm, NULL);
}
END_TEST

/* With PP_SHM_ONLY a full one is an error of create, or of a submit, or of the pp_return that finds it full. */
static int app_full_dev_shm_only(void *unused)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;
	pp_future *future;
	int rc;

	(void)unused;
	replace_dev_shm("size=1m", 0);
	options.flags = PP_SHM_ONLY;
	options.max_workers = 2;
	rc = pp_executor_create(&ex, &options);
	APP_CHECK(rc == 0 || rc == -ENOSPC);
	for (int i = 0; rc == 0 && i < 100000; i++)
		rc = pp_submit(ex, task_nothing, NULL, 0, NULL);
	APP_CHECK(rc == -ENOSPC);
	if (ex) {
		APP_CHECK(pp_submit(ex, task_nothing, NULL, 0, &future) == -ENOSPC);
		APP_CHECK(future == NULL);
		pp_executor_free(ex);
	}
	return 0;
}

START_TEST(full_dev_shm_enospc)
{
	app_run(app_full_dev_shm_only, NULL);
	app_until_processes(0);
}
END_TEST

static int task_big(pp_task *task, const void *data, size_t size)
{
	size_t bytes;
	void *result;
	int rc;

	memcpy(&bytes, data, size);
	result = malloc(bytes);
	memset(result, 'b', bytes);
	rc = pp_return(task, result, bytes);
	free(result);
	return rc == -ENOSPC ? 0 : rc;   /* even so it is raised */
}

/* It fills up on the way: with arguments, then with results. What had room is right, and room that is freed is used. */
static int app_filled_dev_shm(void *unused)
{
	enum { MOST = 400 };
	pp_executor *ex;
	pp_future *futures[MOST];
	const pp_outcome *outcome;
	char *bytes = calloc(1, MIB);
	size_t big = 40 * MIB;
	int n = 0, rc = 0;

	(void)unused;
	replace_dev_shm("size=32m", 0);
	ex = create(PP_SHM_ONLY);
	while (n < MOST && (rc = pp_submit(ex, task_nothing, bytes, MIB, &futures[n])) == 0)
		n++;
	APP_CHECK(rc == -ENOSPC && n > 10);
	for (int i = 0; i < n; i++) {
		APP_CHECK(pp_future_result(futures[i], SUPPORT_GUARD_MS, &outcome) == 0 && outcome->kind == PP_RETURNED);
		pp_future_free(futures[i]);
	}
	APP_CHECK(pp_submit(ex, task_big, &big, sizeof big, &futures[0]) == 0);
	APP_CHECK(pp_future_result(futures[0], SUPPORT_GUARD_MS, &outcome) == 0);
	APP_CHECK(outcome->kind == PP_RAISED && outcome->code == -ENOSPC);
	pp_future_free(futures[0]);
	check_works(ex, 5, 100000);
	pp_executor_free(ex);
	return 0;
}

START_TEST(filled_dev_shm_enospc)
{
	app_run(app_filled_dev_shm, NULL);
	app_until_processes(0);
}
END_TEST

/* By default a small one is no limit: containers have 64 MiB, and the library turns to memfd_create. */
static int app_small_dev_shm(void *options)
{
	pp_executor *ex;

	replace_dev_shm(options, 0);
	ex = create(0);
	check_works(ex, 1000, 1000);
	check_works(ex, 100, MIB);
	check_dies(ex);
	check_works(ex, 10, 1000);
	pp_executor_free(ex);
	return 0;
}

START_TEST(small_dev_shm_default)
{
	static const char *const sizes[] = { "size=4k", "size=1m", "size=8m", "size=64m" };

	app_run(app_small_dev_shm, (void *)(uintptr_t)sizes[_i]);
	app_until_processes(0);
}
END_TEST

static int app_memfd_only(void *unused)
{
	pp_executor *ex;

	(void)unused;
	replace_dev_shm("size=4k", 0);
	ex = create(PP_MEMFD_ONLY);
	check_works(ex, 100, MIB);
	check_dies(ex);
	pp_executor_free(ex);
	return 0;
}

START_TEST(memfd_only)
{
	app_run(app_memfd_only, NULL);
}
END_TEST

/* ---- RLIMIT_FSIZE */

static void limit(int resource, rlim_t most)
{
	struct rlimit limit = { most, most };

	APP_CHECK(setrlimit(resource, &limit) == 0);
}

static int app_file_size(void *unused)
{
	static const uint32_t flags[] = { 0, PP_SHM_ONLY, PP_MEMFD_ONLY };
	struct rlimit two_gib = { (rlim_t)2048 * MIB, RLIM_INFINITY };
	pp_executor *ex;

	(void)unused;
	APP_CHECK(setrlimit(RLIMIT_FSIZE, &two_gib) == 0);
	for (int i = 0; i < 3; i++) {            /* less address space, but it does */
		ex = create(flags[i]);
		check_works(ex, 100, 10000);
		pp_executor_free(ex);
	}
	limit(RLIMIT_FSIZE, MIB);
	for (int i = 0; i < 3; i++) {
		pp_options options = PP_OPTIONS_INIT;
		options.flags = flags[i];
		ex = (pp_executor *)1;
		APP_CHECK(pp_executor_create(&ex, &options) == -EFBIG);
		APP_CHECK(ex == NULL);
	}
	return 0;
}

START_TEST(file_size_limit_efbig)
{
	app_run(app_file_size, NULL);
	app_until_processes(0);
}
END_TEST

/* Lowered after create: growing must not bring SIGXFSZ. */
static int app_file_size_later(void *unused)
{
	pp_executor *ex = create(0);

	(void)unused;
	limit(RLIMIT_FSIZE, 4096);
	check_works(ex, 20000, 200);
	check_works(ex, 20, MIB);
	pp_executor_free(ex);
	return 0;
}

START_TEST(file_size_limit_later)
{
	app_run(app_file_size_later, NULL);
}
END_TEST

static bool namespaces_work(void)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		bool ok = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
		          && mount("tmpfs", "/dev/shm", "tmpfs", 0, NULL) == 0;
		_exit(ok ? 0 : 1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static void add_dev_shm(Suite *suite)
{
	TCase *tcase;

	if (!namespaces_work()) {
		support_skip("full_dev_shm_enospc and its kin", "no mount namespaces for this user");
		return;
	}
	tcase = support_tcase(suite, "dev_shm");
	tcase_add_test(tcase, no_dev_shm);
	tcase_add_test(tcase, read_only_dev_shm);
	tcase_add_test(tcase, full_dev_shm_enospc);
	tcase_add_test(tcase, filled_dev_shm_enospc);
	tcase_add_loop_test(tcase, small_dev_shm_default, 0, 4);
	tcase_add_test(tcase, memfd_only);
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("limits");
	TCase *tcase;

	if (!app_tests_can_run()) {
		support_skip("all of them", "CK_FORK=no");
		return suite;
	}
	add_dev_shm(suite);
	tcase = support_tcase(suite, "rlimit");
	tcase_add_test(tcase, file_size_limit_efbig);
	tcase_add_test(tcase, file_size_limit_later);
	return suite;
}

SUPPORT_MAIN(make_suite)
