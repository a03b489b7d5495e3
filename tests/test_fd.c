/* SPDX-License-Identifier: MIT */
/* Section 2 of the contract: the descriptor of self-dispatch, in quiet times, and when workers or the pool die. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "stage.h"

static bool becomes_silent(void *ex)
{
	return !fd_is_readable(ex, 0);
}

/* Neither tasks without callbacks, nor callbacks whose futures are not done, nor those that have run, are news. */
START_TEST(fd_silent_when_idle)
{
	atomic_int calls = 0;
	struct stage stage;
	pp_future *waiting;

	stage_make(&stage, PP_SELF_DISPATCH);
	ck_assert(!fd_is_readable(stage.ex, 30));
	waiting = stage_submit(&stage, "");
	ck_assert_int_eq(pp_future_add_done_callback(waiting, count_call, &calls), 0);
	ck_assert(!fd_is_readable(stage.ex, 30));
	stage_let_go(&stage);
	dispatch_until(stage.ex, 1);
	ck_assert(!fd_is_readable(stage.ex, 0));
	for (int i = 0; i < 100; i++) {
		pp_future *future = stage_submit(&stage, "");
		support_assert_returned(future, "", 0);
		pp_future_free(future);
	}
	ck_assert(!fd_is_readable(stage.ex, 100));
	ck_assert_int_eq(calls, 1);
	pp_future_free(waiting);
	stage_free(&stage);
}
END_TEST

/* Once all have run it falls silent, in the end also when much came at once; a last late byte may need one dispatch. */
START_TEST(fd_silent_after_a_storm)
{
	atomic_int calls = 0;
	pp_options options = support_options(2);
	pp_executor *ex;

	options.flags = PP_SELF_DISPATCH;
	ex = support_create(&options);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 100; i++) {
			pp_future *future = support_submit(ex, task_nothing, NULL, 0);
			ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &calls), 0);
			pp_future_free(future);
		}
		dispatch_until(ex, 100);
	}
	ck_assert_int_eq(calls, 2000);
	if (fd_is_readable(ex, 100))
		ck_assert_int_eq(pp_executor_dispatch(ex, 0), 0);
	support_until(becomes_silent, ex, "silence");
	ck_assert(!fd_is_readable(ex, 100));
	pp_executor_free(ex);
}
END_TEST

/* From outside, at whatever step it happens to be: also between its publishing and its waking. White-box tests take the
 * worker through each instruction. */
START_TEST(fd_after_worker_killed_before_wake)
{
	atomic_int calls = 0;
	pp_options options = support_options(1);
	pp_executor *ex;
	int kinds[16] = { 0 };

	options.flags = PP_SELF_DISPATCH;
	ex = support_create(&options);
	for (int i = 0; i < 200; i++) {
		pp_future *future = support_submit(ex, task_nothing, NULL, 0);
		pid_t pid = 0;
		ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &calls), 0);
		for (volatile int spin = 0; spin < i % 50 * 200; spin++)
			;
		if (pp_executor_workers(ex, &pid, 1) == 1 && pid > 1)
			kill(pid, SIGKILL);
		dispatch_until(ex, 1);
		ck_assert_int_eq(calls, i + 1);
		kinds[support_outcome(future)->kind & 15]++;
		pp_future_free(future);
	}
	ck_assert_int_eq(kinds[PP_RETURNED] + kinds[PP_CRASHED], 200);
	pp_executor_free(ex);
}
END_TEST

START_TEST(fd_after_crash)
{
	static const enum death ways[] = { DIE_SEGV, DIE_KILL, DIE__EXIT, DIE_EXIT0, DIE_EXEC, DIE_STACK };
	atomic_int calls = 0;
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	stage_let_go(&stage);
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		int how = (int)ways[i];
		pp_future *future = support_submit(stage.ex, task_die, &how, sizeof how);
		ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &calls), 0);
		dispatch_until(stage.ex, 1);
		ck_assert(support_outcome(future)->kind == PP_CRASHED || support_outcome(future)->kind == PP_EXITED);
		pp_future_free(future);
	}
	stage_free(&stage);
}
END_TEST

static bool is_broken(void *ex)
{
	return pp_executor_broken(ex) != NULL;
}

/* Readable for as long as it is broken, callbacks or not. */
static void assert_fd_tells_broken(bool with_callbacks)
{
	atomic_int calls = 0;
	struct stage stage;
	pp_future *pending;

	stage_make(&stage, PP_SELF_DISPATCH);
	pending = stage_submit(&stage, "");
	if (with_callbacks) {
		ck_assert_int_eq(pp_future_add_done_callback(stage.running, count_call, &calls), 0);
		ck_assert_int_eq(pp_future_add_done_callback(pending, count_call, &calls), 0);
	}
	ck_assert(!fd_is_readable(stage.ex, 0));
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	if (with_callbacks)
		dispatch_until(stage.ex, 2);
	ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
	support_until(is_broken, stage.ex, "a broken pool");     /* the end of a pipe comes before that of its process */
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 0);
		ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
	}
	support_assert_kind(stage.running, PP_BROKEN);
	support_assert_kind(pending, PP_BROKEN);
	pp_future_free(pending);
	stage_free(&stage);
	ck_assert_int_eq(calls, with_callbacks ? 2 : 0);
}

START_TEST(fd_on_broken_pool)
{
	assert_fd_tells_broken(true);
	assert_fd_tells_broken(false);
}
END_TEST

static int fail_to_start(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_raise(task, 3, "no start");
}

/* Broken by an initializer, with its supervisor alive. */
START_TEST(fd_on_failed_initializer)
{
	pp_options options = support_options(1);
	atomic_int calls = 0;
	pp_executor *ex;
	pp_future *future;

	options.flags = PP_SELF_DISPATCH;
	options.initializer = fail_to_start;
	ex = support_create(&options);
	future = support_submit(ex, task_nothing, NULL, 0);
	ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &calls), 0);
	dispatch_until(ex, 1);
	support_assert_kind(future, PP_BROKEN);
	ck_assert(fd_is_readable(ex, SUPPORT_GUARD_MS));
	ck_assert_int_eq(pp_executor_dispatch(ex, 0), 0);
	ck_assert(fd_is_readable(ex, SUPPORT_GUARD_MS));
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* The descriptor, and which file it is in the parent: in a worker the number may be another's. */
struct inherited { int fd; dev_t device; ino_t inode; };

static int task_drain(pp_task *task, const void *data, size_t size)
{
	struct inherited in;
	struct stat st;
	char bytes[4096];
	long n = 0;

	memcpy(&in, data, size);
	if (fstat(in.fd, &st) == 0 && st.st_dev == in.device && st.st_ino == in.inode) {
		for (int i = 0; i < 20; i++) {
			struct pollfd fd = { .fd = in.fd, .events = POLLIN };
			if (poll(&fd, 1, 1) == 1)
				n += read(in.fd, bytes, sizeof bytes) > 0;
		}
	}
	return pp_return(task, &n, sizeof n);
}

/* A worker that reads it while ends come in harms nobody. */
START_TEST(fd_drained_by_worker)
{
	pp_options options = support_options(2);
	atomic_int calls = 0;
	struct inherited in;
	struct stat st;
	pp_executor *ex;
	pp_future *drain;

	options.flags = PP_SELF_DISPATCH;
	ex = support_create(&options);
	in.fd = pp_executor_fd(ex);
	ck_assert_int_eq(fstat(in.fd, &st), 0);
	in.device = st.st_dev;
	in.inode = st.st_ino;
	for (int round = 0; round < 10; round++) {
		drain = support_submit(ex, task_drain, &in, sizeof in);
		for (int i = 0; i < 20; i++) {
			pp_future *future = support_submit(ex, task_nothing, NULL, 0);
			ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &calls), 0);
			pp_future_free(future);
		}
		ck_assert_int_eq(pp_future_add_done_callback(drain, count_call, &calls), 0);
		support_assert_kind(drain, PP_RETURNED);
		pp_future_free(drain);
		dispatch_until(ex, 21);
	}
	ck_assert_int_eq(calls, 210);
	pp_executor_free(ex);
}
END_TEST

#define UNREAD 20000

/* A crash costs 2 ms on a small virtual machine. With this in the environment every task crashes, else one of 100. */
static int crash_every(void)
{
	return getenv("PROCPOOL_TEST_ALL") ? 1 : 100;
}

/* Most of what the pipe holds, at once: by news it takes the supervisor a turn for each byte. */
static void fill_most(int fd, size_t bytes)
{
	char path[64], *zeros = calloc(1, bytes);
	int end;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	end = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_ge(end, 0);
	ck_assert_int_eq(write(end, zeros, bytes), (int)bytes);
	close(end);
	free(zeros);
}

/* The pipe is made as small as can be, and news come until not a byte more goes into it. Returns how many callbacks that
 * took. */
static int fill(pp_executor *ex, atomic_int *calls)
{
	int fd = pp_executor_fd(ex), room = fcntl(fd, F_SETPIPE_SZ, 4096), used = 0, n = 0;
	pp_future *done = support_submit(ex, task_nothing, NULL, 0);
	int64_t until = now_ms() + SUPPORT_GUARD_MS;

	support_assert_returned(done, NULL, 0);
	fill_most(fd, (size_t)room - 64);
	while (used < room && now_ms() < until) {
		n += pp_future_add_done_callback(done, count_call, calls) == 0;
		if (ioctl(fd, FIONREAD, &used) < 0)
			break;
	}
	ck_assert_int_ge(used, room);
	pp_future_free(done);
	return n;
}

static void submit_unread(pp_executor *ex, pp_future **futures, atomic_int *calls)
{
	int how = DIE__EXIT, wrong = 0, every = crash_every();

	for (int i = 0; i < UNREAD; i++) {
		pp_fn *fn = i % every ? task_nothing : task_die;
		wrong += pp_submit(ex, fn, &how, sizeof how, &futures[i]) != 0;
		wrong += pp_future_add_done_callback(futures[i], count_call, calls) != 0;
	}
	ck_assert_int_eq(wrong, 0);
}

static void assert_unread_ended(pp_future *const *futures)
{
	const pp_outcome *outcome = NULL;
	int every = crash_every();

	for (int i = 0; i < UNREAD; i++) {
		int rc = pp_future_result(futures[i], SUPPORT_GUARD_MS, &outcome);
		if (rc < 0 || outcome->kind != (i % every ? PP_RETURNED : PP_EXITED))
			ck_abort_msg("task %d: %s, %s", i, pp_strerror(rc), rc < 0 ? "" : pp_kind_name(outcome->kind));
	}
}

/* Port of gh-105829: ends and deaths that nobody reads of block no worker, and not the supervisor. */
START_TEST(parent_not_reading)
{
	static pp_future *futures[UNREAD];
	pp_options options = support_options(2);
	atomic_int calls = 0;
	pp_executor *ex;
	int before;

	options.flags = PP_SELF_DISPATCH;
	ex = support_create(&options);
	before = fill(ex, &calls);
	submit_unread(ex, futures, &calls);
	assert_unread_ended(futures);
	ck_assert_int_eq(calls, 0);
	dispatch_until(ex, before + UNREAD);
	for (int i = 0; i < UNREAD; i++)
		pp_future_free(futures[i]);
	pp_executor_free(ex);
	ck_assert_int_eq(calls, before + UNREAD);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("fd");
	TCase *quiet = support_tcase(suite, "quiet"), *deaths = support_tcase(suite, "deaths");
	TCase *unread = support_tcase(suite, "unread");

	tcase_add_test(quiet, fd_silent_when_idle);
	tcase_add_test(quiet, fd_silent_after_a_storm);
	tcase_add_test(quiet, fd_drained_by_worker);
	tcase_add_test(deaths, fd_after_worker_killed_before_wake);
	tcase_add_test(deaths, fd_after_crash);
	tcase_add_test(deaths, fd_on_broken_pool);
	tcase_add_test(deaths, fd_on_failed_initializer);
	tcase_set_timeout(unread, 600);
	tcase_add_test(unread, parent_not_reading);
	return suite;
}

SUPPORT_MAIN(make_suite)
