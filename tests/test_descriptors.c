/* SPDX-License-Identifier: MIT */
/*
 * Hosts, continued: the application closes all descriptors and opens its own on the same numbers; no descriptor, or no
 * process, is to be had.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

/* ---- closefrom */

#define FILES 64
#define TEXT "the application's own file\n"

static void open_own_files(int *fds)
{
	for (int i = 0; i < FILES; i++) {
		char path[] = "/tmp/procpool-own-XXXXXX";
		fds[i] = mkstemp(path);
		APP_CHECK(fds[i] >= 0);
		unlink(path);
		APP_CHECK(write(fds[i], TEXT, strlen(TEXT)) == (ssize_t)strlen(TEXT));
	}
}

/* Still open, still theirs, as long as before and with the same text and offset. */
static void check_own_files(const int *fds)
{
	char text[sizeof TEXT] = "";
	struct stat st;

	for (int i = 0; i < FILES; i++) {
		APP_CHECK(fstat(fds[i], &st) == 0);
		APP_CHECK(st.st_size == (off_t)strlen(TEXT));
		APP_CHECK(pread(fds[i], text, strlen(TEXT), 0) == (ssize_t)strlen(TEXT) && strcmp(text, TEXT) == 0);
		APP_CHECK(lseek(fds[i], 0, SEEK_CUR) == (off_t)strlen(TEXT));
	}
}

static void use_hard(pp_executor *ex)
{
	char *bytes = calloc(1, 3000000);
	int how = DIE_KILL;

	for (int i = 0; i < 5; i++) {
		app_check_task(ex, task_echo, "small", 5, PP_RETURNED);
		app_check_task(ex, task_echo, bytes, 3000000, PP_RETURNED);
		app_check_task(ex, task_die, &how, sizeof how, PP_CRASHED);
	}
	for (int i = 0; i < 10000; i++)          /* more slots than there were */
		APP_CHECK(pp_submit(ex, task_echo, bytes, 500, NULL) == 0);
	app_check_task(ex, task_echo, "last", 4, PP_RETURNED);
	free(bytes);
}

static void ignore(pp_future *future, void *context)
{
	(void)future;
	(void)context;
}

/* The executor's own descriptor is one of the application's files now. */
static void check_pass_is_closed(pp_executor *ex, const int *fds)
{
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	task.fds = fds;
	task.fd_count = 1;
	APP_CHECK(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future) == -ENOTCONN && !future);
	app_check_task(ex, task_echo, "without", 7, PP_RETURNED);
}

static int app_closes_all(void *flags)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_future *future;
	pp_executor *ex;
	int fds[FILES];

	options.max_workers = 2;
	options.flags = *(unsigned *)flags;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	app_check_task(ex, task_echo, "before", 6, PP_RETURNED);
	closefrom(3);
	open_own_files(fds);
	use_hard(ex);
	if (options.flags & PP_PASS_FDS)
		check_pass_is_closed(ex, fds);
	if (options.flags & PP_SELF_DISPATCH) {
		APP_CHECK(pp_submit(ex, task_nothing, NULL, 0, &future) == 0);
		APP_CHECK(pp_future_add_done_callback(future, ignore, NULL) == 0);
		APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, NULL) == 0);
		while (pp_executor_dispatch(ex, 0) == 0)
			;
		pp_future_free(future);
	}
	check_own_files(fds);
	APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS) == 0);
	pp_executor_free(ex);
	check_own_files(fds);
	return 0;
}

START_TEST(closefrom_then_own_files)
{
	static const unsigned flags[] = { 0, PP_SELF_DISPATCH, PP_MEMFD_ONLY, PP_SHM_ONLY, PP_PASS_FDS };

	app_run(app_closes_all, (void *)(uintptr_t)&flags[_i]);
	app_until_processes(0);
}
END_TEST

/* ---- RLIMIT_NOFILE */

static int count_open(void)
{
	struct rlimit limit;
	int n = 0;

	APP_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int fd = 0; fd < (int)limit.rlim_cur; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* With so many descriptors left: it either works, or says so and leaves nothing. Returns the code. */
static int create_with(int left, unsigned flags)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex = (pp_executor *)1;
	int fds[256], n = 0, before, rc;

	options.max_workers = 1;
	options.flags = flags;
	while ((fds[n] = dup(0)) >= 0)
		n++;
	APP_CHECK(errno == EMFILE && n > left);
	for (int i = 0; i < left; i++)
		close(fds[--n]);
	before = count_open();
	rc = pp_executor_create(&ex, &options);
	if (rc == 0) {
		app_check_task(ex, task_echo, "x", 1, PP_RETURNED);
		pp_executor_free(ex);
	} else {
		APP_CHECK(ex == NULL);
	}
	APP_CHECK(count_open() == before);
	while (n > 0)
		close(fds[--n]);
	return rc;
}

static int app_few_descriptors(void *unused)
{
	struct rlimit limit = { 100, 100 };
	int refused = 0, worked = 0;

	(void)unused;
	closefrom(3 + 1);        /* what the test had; one is the report's, or was */
	APP_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (unsigned k = 0; k < 3; k++)
		for (int left = 0; left < 16; left++) {
			int rc = create_with(left, k ? k > 1 ? PP_PASS_FDS : PP_SELF_DISPATCH : 0);
			APP_CHECK(rc == 0 || rc == -EMFILE);
			refused += rc == -EMFILE;
			worked += rc == 0;
		}
	APP_CHECK(refused >= 6 && worked >= 12);
	return 0;
}

START_TEST(no_descriptor_at_create)
{
	app_run(app_few_descriptors, NULL);
	app_until_processes(0);
}
END_TEST

/* ---- RLIMIT_NPROC */

/* Without a process for the one in between, and without one for the supervisor. */
static int app_no_process(void *most)
{
	pp_executor *ex;
	int before;

	app_limit_processes((rlim_t)*(int *)most);
	before = count_open();
	for (int i = 0; i < 3; i++) {
		ex = (pp_executor *)1;
		APP_CHECK(pp_executor_create(&ex, NULL) == -EAGAIN);
		APP_CHECK(ex == NULL);
		APP_CHECK(count_open() == before);
	}
	return 0;
}

START_TEST(no_process_at_create)
{
	app_run(app_no_process, &_i);
	app_until_processes(0);
}
END_TEST

/* The supervisor gets a process and no worker does: the pool breaks with the cause, instead of waiting for ever. */
static int app_no_worker(void *unused)
{
	pp_options options = PP_OPTIONS_INIT;
	const pp_outcome *outcome;
	pp_future *future;
	pp_executor *ex;
	pid_t supervisor;

	(void)unused;
	app_limit_processes(3);
	APP_CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);       /* to be found in /proc */
	options.max_workers = 1;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	supervisor = support_supervisor();
	APP_CHECK(prlimit(supervisor, RLIMIT_NPROC, &(struct rlimit){ 1, 1 }, NULL) == 0);
	APP_CHECK(pp_submit(ex, task_nothing, NULL, 0, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &outcome) == 0);
	APP_CHECK(outcome->kind == PP_BROKEN && outcome->code == -EAGAIN);
	APP_CHECK(pp_executor_broken(ex) != NULL && pp_executor_broken(ex)->code == -EAGAIN);
	APP_CHECK(pp_submit(ex, task_nothing, NULL, 0, NULL) == -EPIPE);
	pp_future_free(future);
	pp_executor_free(ex);
	return 0;
}

START_TEST(no_process_for_workers)
{
	app_run(app_no_worker, NULL);
	app_until_processes(0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("descriptors");
	TCase *files, *processes;

	if (!app_tests_can_run()) {
		support_skip("all of them", "CK_FORK=no");
		return suite;
	}
	files = support_tcase(suite, "files");
	tcase_add_loop_test(files, closefrom_then_own_files, 0, 5);
	tcase_add_test(files, no_descriptor_at_create);
	if (geteuid() != 0) {
		support_skip("no_process_at_create", "only root can become a user of whom there are no other processes");
		support_skip("no_process_for_workers", "likewise");
		return suite;
	}
	processes = support_tcase(suite, "processes");
	tcase_add_loop_test(processes, no_process_at_create, 1, 3);
	tcase_add_test(processes, no_process_for_workers);
	return suite;
}

SUPPORT_MAIN(make_suite)
