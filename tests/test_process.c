/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: what the application's process, its children and other executors notice: nothing. */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

static void die(pp_executor *ex, int how)
{
	pp_future *future = support_submit(ex, task_die, &how, sizeof how);

	support_assert_kind(future, PP_CRASHED);
	pp_future_free(future);
}

static void assert_works(pp_executor *ex)
{
	for (int i = 0; i < 10; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
	}
}

/* ---- executors_do_not_share */

/* What a worker has of segments and of one pipe. */
struct holding { unsigned long inode; int inodes, fds, pipes; };
struct pipe_id { dev_t dev; ino_t ino; };

static bool is_segment(const char *name)
{
	return strstr(name, "/dev/shm/") || strstr(name, "/memfd:procpool");
}

static int count_fds(const struct pipe_id *pipe_id, struct holding *holding)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char target[256];
	struct stat st;
	ssize_t n;

	while (dir && (entry = readdir(dir)) != NULL) {
		n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
		if (n < 0)
			continue;
		target[n] = 0;
		holding->fds += is_segment(target);
		if (fstat(atoi(entry->d_name), &st) == 0)
			holding->pipes += st.st_dev == pipe_id->dev && st.st_ino == pipe_id->ino;
	}
	return dir ? closedir(dir) : -1;
}

static int task_holding(pp_task *task, const void *data, size_t size)
{
	struct holding holding = { 0 };
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long inode;

	while (maps && fgets(line, sizeof line, maps)) {
		if (!is_segment(line) || sscanf(line, "%*s %*s %*s %*s %lu", &inode) != 1)
			continue;
		holding.inodes += inode != holding.inode;
		holding.inode = inode;
	}
	if (!maps || fclose(maps) != 0 || size != sizeof(struct pipe_id) || count_fds(data, &holding) != 0)
		return 1;
	return pp_return(task, &holding, sizeof holding);
}

static unsigned long assert_holds_one(pp_executor *ex, const struct pipe_id *foreign)
{
	pp_future *future = support_submit(ex, task_holding, foreign, sizeof *foreign);
	struct holding holding;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&holding, support_outcome(future)->data, sizeof holding);
	ck_assert_int_eq(holding.inodes, 1);
	ck_assert_int_eq(holding.fds, 0);
	ck_assert_int_eq(holding.pipes, 0);
	pp_future_free(future);
	return holding.inode;
}

static struct pipe_id fd_of(pp_executor *ex)
{
	struct stat st;

	ck_assert_int_eq(fstat(pp_executor_fd(ex), &st), 0);
	return (struct pipe_id){ st.st_dev, st.st_ino };
}

/* Neither memory nor descriptors: whichever was made first, and for workers that are started after both were. */
START_TEST(executors_do_not_share)
{
	pp_options options = support_options(1);
	struct pipe_id a_fd, b_fd;
	unsigned long inodes[4];
	pp_executor *a, *b;

	options.flags = PP_SELF_DISPATCH;
	a = support_create(&options);
	a_fd = fd_of(a);
	assert_works(a);
	b = support_create(&options);
	b_fd = fd_of(b);
	for (int i = 0; i < 2; i++) {
		inodes[2 * i] = assert_holds_one(a, &b_fd);
		inodes[2 * i + 1] = assert_holds_one(b, &a_fd);
		die(a, DIE_KILL);
		die(b, DIE_SEGV);
	}
	ck_assert_uint_eq(inodes[0], inodes[2]);
	ck_assert_uint_eq(inodes[1], inodes[3]);
	ck_assert_uint_ne(inodes[0], inodes[1]);
	pp_executor_free(a);
	pp_executor_free(b);
}
END_TEST

/* ---- wait(2) */

static volatile sig_atomic_t children_signalled;

static void on_child(int signal)
{
	(void)signal;
	children_signalled++;
}

static void assert_no_children(void)
{
	ck_assert_int_eq(wait(NULL), -1);
	ck_assert_int_eq(errno, ECHILD);
}

START_TEST(caller_waitpid_undisturbed)
{
	struct sigaction action = { .sa_handler = on_child, .sa_flags = SA_RESTART }, before, now;
	sig_atomic_t at_create;
	pp_executor *ex;

	ck_assert_int_eq(sigaction(SIGCHLD, &action, &before), 0);
	children_signalled = 0;
	ex = support_executor(2);
	at_create = children_signalled;
	ck_assert_int_le(at_create, 1);
	assert_no_children();
	assert_works(ex);
	die(ex, DIE_SEGV);
	die(ex, DIE_KILL);
	assert_works(ex);
	assert_no_children();
	pp_executor_free(ex);
	assert_no_children();
	ck_assert_int_eq(children_signalled, at_create);
	ck_assert_int_eq(sigaction(SIGCHLD, &before, &now), 0);
	ck_assert(now.sa_handler == on_child);
}
END_TEST

struct reaper { atomic_bool stop; atomic_int reaped; };

static void *reap_all(void *reaper_)
{
	struct reaper *reaper = reaper_;

	while (!reaper->stop)
		reaper->reaped += waitpid(-1, NULL, 0) > 0;
	return NULL;
}

/* A thread that takes every status it can get; a child of the application's own keeps it blocked in waitpid. */
START_TEST(caller_waitpid_any_thread)
{
	struct reaper reaper = { .stop = false };
	struct gate gate;
	pthread_t thread;
	pid_t child;

	gate_make(&gate);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(gate_pass(&gate));
	ck_assert_int_eq(pthread_create(&thread, NULL, reap_all, &reaper), 0);
	for (int i = 0; i < 20; i++) {
		pp_executor *ex = support_executor(1);
		assert_works(ex);
		die(ex, DIE_KILL);
		assert_works(ex);
		pp_executor_free(ex);
	}
	reaper.stop = true;
	gate_open(&gate, 1);
	pthread_join(thread, NULL);
	gate_destroy(&gate);
	ck_assert_int_le(reaper.reaped, 1 + 20);         /* its own, and one per create at most */
}
END_TEST

static bool no_child_is_left(void *unused)
{
	(void)unused;
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

/* The supervisor is its child then. Nothing breaks whether the application reaps it or not. */
START_TEST(caller_is_subreaper)
{
	pp_executor *ex;

	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (int i = 0; i < 6; i++) {
		bool reap = i % 2;
		ex = support_executor(2);
		assert_works(ex);
		die(ex, DIE_KILL);
		if (i >= 4) {
			kill(support_supervisor(), SIGKILL);
			if (reap)
				support_until(no_child_is_left, NULL, "all children to be reaped");
			ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
		} else if (reap) {
			ck_assert_int_eq(pp_executor_shutdown(ex, 0, 0), 0);
			support_until(no_child_is_left, NULL, "all children to be reaped");
		}
		pp_executor_free(ex);
		if (i < 4)
			assert_no_children();    /* the library has reaped what the application did not */
	}
	support_until(no_child_is_left, NULL, "all children to be reaped");
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}
END_TEST

static int app_as_pid_1(void *unused)
{
	int how = DIE_KILL;
	pp_executor *ex;
	pp_future *future;

	(void)unused;
	APP_CHECK(getpid() == 1);
	APP_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	APP_CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	APP_CHECK(pp_executor_create(&ex, NULL) == 0);
	for (int i = 0; i < 3; i++) {
		APP_CHECK(pp_submit(ex, task_die, &how, sizeof how, &future) == 0);
		APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, NULL) == 0);
		pp_future_free(future);
		APP_CHECK(pp_submit(ex, task_echo, "x", 1, &future) == 0);
		APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, NULL) == 0);
		pp_future_free(future);
	}
	APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS) == 0);
	pp_executor_free(ex);
	APP_CHECK(wait(NULL) < 0 && errno == ECHILD);
	return 0;
}

/* The init of a container. */
static int app_container(void *unused)
{
	int status;
	pid_t pid;

	APP_CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
	pid = fork();
	if (pid == 0)
		_exit(app_as_pid_1(unused));
	APP_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status == 0 ? 0 : 1;
}

START_TEST(caller_is_pid_1)
{
	app_run(app_container, NULL);
}
END_TEST

/* ---- many_executors */

START_TEST(many_executors)
{
	pp_executor *executors[32];
	size_t before = 0;

	for (int i = 0; i < 32; i++)
		executors[i] = support_executor(1);
	for (int i = 0; i < 32; i++)
		assert_works(executors[i]);
	for (int i = 0; i < 32; i++)
		pp_executor_free(executors[i]);
	for (int i = 0; i < 1000; i++) {
		pp_executor *ex = support_executor(1);
		if (i % 10 == 0)
			assert_works(ex);
		pp_executor_free(ex);
		if (i == 100)
			before = mallinfo2().uordblks;
	}
	ck_assert_uint_le(mallinfo2().uordblks, before + 16384);
}
END_TEST

static bool may_be_pid_1(void)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0 ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("process");
	TCase *others = support_tcase(suite, "others"), *waits = support_tcase(suite, "wait");

	tcase_add_test(others, executors_do_not_share);
	tcase_add_test(others, many_executors);
	tcase_add_test(waits, caller_waitpid_undisturbed);
	tcase_add_test(waits, caller_waitpid_any_thread);
	tcase_add_test(waits, caller_is_subreaper);
	if (!app_tests_can_run() || !may_be_pid_1())
		support_skip("caller_is_pid_1", "CK_FORK=no, or no namespaces for this user");
	else
		tcase_add_test(waits, caller_is_pid_1);
	return suite;
}

SUPPORT_MAIN(make_suite)
