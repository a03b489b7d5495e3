/* SPDX-License-Identifier: MIT */
/*
 * The host program's own settings, which the library leaves alone, in the program and out of its workers; and hosts that
 * give just enough: memory that suffices if it is used again, processes that suffice for some workers. What is refused
 * outright is in test_limits.c and test_descriptors.c.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
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

static void check_deaths(pp_executor *ex, int rounds)
{
	static const int ways[] = { DIE_SEGV, DIE_KILL, DIE_EXIT0, DIE_QUICK_EXIT };

	for (int i = 0; i < rounds; i++) {
		app_check_task(ex, task_echo, "beside", 6, PP_RETURNED);
		app_check_task(ex, task_die, &ways[i % 4], sizeof *ways, i % 4 < 2 ? PP_CRASHED : PP_EXITED);
	}
}

/* ---- caller_settings_untouched */

/* Without what glibc leaves undefined in the sets. */
struct disposition { void (*handler)(int); int flags; uint64_t mask; };

struct settings {
	struct disposition dispositions[NSIG];
	uint64_t mask;
	mode_t umask;
	char cwd[4096], environment[65536];
	struct rlimit limits[RLIM_NLIMITS];
	pid_t group, session;
};

static uint64_t bits_of(const sigset_t *set)
{
	uint64_t bits = 0;

	for (int i = 1; i < NSIG; i++)
		bits |= (uint64_t)(sigismember(set, i) == 1) << (i - 1);
	return bits;
}

static void take_settings(struct settings *s)
{
	struct sigaction action;
	size_t used = 0;
	sigset_t mask;

	memset(s, 0, sizeof *s);
	for (int i = 1; i < NSIG; i++) {
		if (sigaction(i, NULL, &action) < 0)
			continue;
		s->dispositions[i].handler = action.sa_handler;
		s->dispositions[i].flags = action.sa_flags;
		s->dispositions[i].mask = bits_of(&action.sa_mask);
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	s->mask = bits_of(&mask);
	s->umask = umask(0);
	umask(s->umask);
	APP_CHECK(getcwd(s->cwd, sizeof s->cwd));
	for (char **e = environ; *e && used < sizeof s->environment; e++)
		used += (size_t)snprintf(s->environment + used, sizeof s->environment - used, "%s\n", *e);
	for (int i = 0; i < (int)RLIM_NLIMITS; i++)
		getrlimit((__rlimit_resource_t)i, &s->limits[i]);
	s->group = getpgrp();
	s->session = getsid(0);
}

static void on_signal(int signal)
{
	(void)signal;
}

/* Handlers, ignored and blocked signals, a umask: of everything something. Whatever is printed goes into a file. */
static int set_all(void)
{
	char path[] = "/tmp/procpool-printed-XXXXXX";
	int fd = mkstemp(path);
	sigset_t mask;

	APP_CHECK(fd >= 0 && unlink(path) == 0);
	APP_CHECK(dup2(fd, STDOUT_FILENO) >= 0 && dup2(fd, STDERR_FILENO) >= 0);
	signal(SIGSEGV, on_signal);
	signal(SIGUSR1, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigaddset(&mask, SIGALRM);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	umask(027);
	return fd;
}

static int app_settings(void *unused)
{
	static struct settings before, after;
	int printed = set_all();
	pp_options options = PP_OPTIONS_INIT;
	struct stat st;
	pp_executor *ex;

	(void)unused;
	take_settings(&before);
	for (int i = 0; i < 3; i++) {
		options.flags = i == 0 ? 0 : i == 1 ? PP_START_ALL : PP_SELF_DISPATCH;
		APP_CHECK(pp_executor_create(&ex, &options) == 0);
		take_settings(&after);
		APP_CHECK(memcmp(&before, &after, sizeof before) == 0);
		check_deaths(ex, 8);
		pp_executor_free(ex);
		take_settings(&after);
		APP_CHECK(memcmp(&before, &after, sizeof before) == 0);
	}
	APP_CHECK(fstat(printed, &st) == 0 && st.st_size == 0);
	return 0;
}

START_TEST(caller_settings_untouched)
{
	app_run(app_settings, NULL);
}
END_TEST

/* ---- worker_settings */

/* Returns 0, or the number of what is not as the header says. */
static int worker_settings(void)
{
	struct sigaction action;
	sigset_t mask;
	struct stat in, null;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int i = 1; i < NSIG; i++)
		if (sigismember(&mask, i) == 1)
			return 100 + i;
	sigaction(SIGINT, NULL, &action);
	if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN || action.sa_handler == on_signal)
		return 1;
	for (const int *s = (const int[]){ SIGUSR1, SIGPIPE, SIGQUIT, SIGTERM, SIGCHLD, SIGALRM, SIGHUP, 0 }; *s; s++)
		if (sigaction(*s, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
			return 200 + *s;
	if (fstat(STDIN_FILENO, &in) != 0 || stat("/dev/null", &null) != 0 || in.st_rdev != null.st_rdev)
		return 2;
	return getpgrp() == getpid() ? 0 : 3;
}

static int task_settings(pp_task *task, const void *data, size_t size)
{
	int wrong = worker_settings();

	return wrong ? pp_raise(task, wrong, "setting %d", wrong) : pp_return(task, data, size);
}

static int app_worker_settings(void *unused)
{
	pp_executor *ex;

	(void)unused;
	set_all();
	APP_CHECK(pp_executor_create(&ex, NULL) == 0);
	for (int i = 0; i < 4; i++) {
		app_check_task(ex, task_settings, "x", 1, PP_RETURNED);
		check_deaths(ex, 4);
	}
	pp_executor_free(ex);
	return 0;
}

START_TEST(worker_settings_are_default)
{
	app_run(app_worker_settings, NULL);
}
END_TEST

/* ---- exit_handlers_never_run: those of the application, in a worker */

static long *exit_handlers_run;

static void count_run(void)
{
	__atomic_add_fetch(exit_handlers_run, 1, __ATOMIC_SEQ_CST);
}

static int app_exit_handlers(void *unused)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	(void)unused;
	APP_CHECK(atexit(count_run) == 0);
	options.max_workers = 2;
	options.max_tasks_per_worker = 5;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	check_deaths(ex, 12);
	for (int i = 0; i < 20; i++)
		app_check_task(ex, task_echo, "x", 1, PP_RETURNED);
	pp_executor_free(ex);
	APP_CHECK(__atomic_load_n(exit_handlers_run, __ATOMIC_SEQ_CST) == 0);
	return 0;
}

START_TEST(exit_handlers_never_run)
{
	exit_handlers_run = support_counters(1);
	app_run(app_exit_handlers, NULL);
	ck_assert_int_eq(*exit_handlers_run, 0);
	support_counters_free(exit_handlers_run, 1);
}
END_TEST

/* ---- room_is_used_again */

/* One result at a time, many times more of them than there is room for at once. */
static int app_little_room(void *unused)
{
	static const size_t sizes[] = { 300, 5000, 60000, 70000, 500000 };
	static char bytes[500000];
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	(void)unused;
	APP_CHECK(unshare(CLONE_NEWNS) == 0);
	APP_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	APP_CHECK(mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=8m") == 0);
	options.max_workers = 1;
	options.flags = PP_SHM_ONLY;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 5; i++)
		for (size_t sent = 0; sent < (size_t)32 << 20; sent += sizes[i] + 10000)
			app_check_task(ex, task_echo, bytes, sizes[i], PP_RETURNED);
	pp_executor_free(ex);
	return 0;
}

START_TEST(room_is_used_again)
{
	app_run(app_little_room, NULL);
}
END_TEST

/* ---- RLIMIT_NPROC, reached while workers live */

/* The pool must not break. That it does not can only be seen in a while: long enough for the attempts and their back-off. */
static void check_stays_whole(pp_executor *ex)
{
	for (int i = 0; i < 500; i++) {
		APP_CHECK(!pp_executor_broken(ex));
		poll(NULL, 0, 1);
	}
}

/* Room for this process, the supervisor and one worker. A spare is a luxury: that there is none breaks nothing. */
static int app_no_spare(void *unused)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	(void)unused;
	app_limit_processes(3);
	options.max_workers = 1;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	check_deaths(ex, 4);
	app_check_task(ex, task_echo, "x", 1, PP_RETURNED);
	check_stays_whole(ex);
	app_check_task(ex, task_echo, "x", 1, PP_RETURNED);
	pp_executor_free(ex);
	return 0;
}

START_TEST(no_process_for_spare)
{
	app_run(app_no_spare, NULL);
	app_until_processes(0);
}
END_TEST

/* Four workers are wanted, one can be had: it does the work of all, and is not taken down for the others' sake. */
static int app_one_of_four(void *gate_)
{
	struct gate *gate = gate_;
	pp_options options = PP_OPTIONS_INIT;
	pp_future *futures[20];
	const pp_outcome *outcome;
	pp_executor *ex;

	app_limit_processes(3);
	options.max_workers = 4;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 20; i++)
		APP_CHECK(pp_submit(ex, task_gate, gate, sizeof *gate, &futures[i]) == 0);
	app_ready();
	check_stays_whole(ex);
	app_ready();
	for (int i = 0; i < 20; i++) {
		APP_CHECK(pp_future_result(futures[i], SUPPORT_GUARD_MS, &outcome) == 0);
		APP_CHECK(outcome->kind == PP_RETURNED);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
	return 0;
}

START_TEST(processes_for_some_workers)
{
	struct gate gate;
	struct app app;

	gate_make(&gate);
	app_start(&app, app_one_of_four, &gate);
	app_await_ready(&app);
	gate_await(&gate, 1);
	app_await_ready(&app);
	gate_open(&gate, 20);
	app_finish(&app);
	app_until_processes(0);
	gate_destroy(&gate);
}
END_TEST

static bool namespaces_work(void)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0)
		_exit(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("host");
	TCase *settings, *enough;

	if (!app_tests_can_run()) {
		support_skip("all of them", "CK_FORK=no");
		return suite;
	}
	settings = support_tcase(suite, "settings");
	enough = support_tcase(suite, "enough");
	tcase_add_test(settings, caller_settings_untouched);
	tcase_add_test(settings, worker_settings_are_default);
	tcase_add_test(settings, exit_handlers_never_run);
	if (namespaces_work())
		tcase_add_test(enough, room_is_used_again);
	else
		support_skip("room_is_used_again", "no mount namespaces for this user");
	if (geteuid() == 0) {
		tcase_add_test(enough, no_process_for_spare);
		tcase_add_test(enough, processes_for_some_workers);
	} else {
		support_skip("no_process_for_spare and its kin", "only root can become a user without other processes");
	}
	return suite;
}

SUPPORT_MAIN(make_suite)
