/* SPDX-License-Identifier: MIT */
/*
 * Descriptors as arguments, continued: the order in which things are done, whose they are, and what stands on a number
 * that a task has used for something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "stage.h"

/* In the place of libc's: what this process sends is slow. */
static pid_t slow;

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t n;

	if (slow && getpid() == slow)
		poll(NULL, 0, 20);
	n = syscall(SYS_sendmsg, fd, message, flags);
	if (slow && getpid() == slow)
		poll(NULL, 0, 20);
	return n;
}

static pp_executor *make_executor(int workers)
{
	pp_options options = support_options(workers);

	options.flags = PP_PASS_FDS;
	if (workers != PP_INLINE)
		options.flags |= PP_START_ALL;
	return support_create(&options);
}

static pp_future *submit_fd(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int fd)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.fds = &fd;
	options.fd_count = 1;
	ck_assert_int_eq(pp_submit_with(ex, &options, fn, data, size, &future), 0);
	return future;
}

static void assert_int(pp_future *future, int n)
{
	support_assert_returned(future, &n, sizeof n);
	pp_future_free(future);
}

static int task_flags(pp_task *task, const void *data, size_t size)
{
	int flags = fcntl(pp_task_fd(task, 0), F_GETFD);

	(void)data;
	(void)size;
	return pp_return(task, &flags, sizeof flags);
}

static int task_takes_a_while(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	poll(NULL, 0, 30);
	return 0;
}

/* They are with the supervisor before anybody can start their task, and stay there until it starts, however long either
 * takes; and no program that the task starts inherits them. */
START_TEST(fds_before_their_task)
{
	pp_executor *ex = make_executor(1);

	slow = getpid();
	for (int i = 0; i < 6; i++) {
		if (i & 1)       /* the worker looks for its next task while this one is submitted */
			ck_assert_int_eq(pp_submit(ex, task_takes_a_while, NULL, 0, NULL), 0);
		assert_int(submit_fd(ex, task_flags, NULL, 0, STDIN_FILENO), FD_CLOEXEC);
	}
	slow = 0;
	pp_executor_free(ex);
}
END_TEST

static int task_write(pp_task *task, const void *data, size_t size)
{
	return write(pp_task_fd(task, 0), data, size) == (ssize_t)size ? 0 : errno;
}

/* The supervisor finds those of tasks that were cancelled, and of one that has their slot now, together with that one's
 * question. */
START_TEST(fds_of_their_own_generation)
{
	struct pollfd gone = { .events = POLLIN };
	int earlier[2], own[2];
	char text[8] = "";
	struct stage stage;
	pp_future *future;
	pid_t supervisor;

	stage_make(&stage, PP_PASS_FDS);
	ck_assert_int_eq(pipe(earlier) | pipe(own), 0);  /* not before there are processes to inherit them */
	supervisor = support_supervisor();
	kill(supervisor, SIGSTOP);
	for (int i = 0; i < 8; i++) {
		future = submit_fd(stage.ex, task_write, "no", 2, earlier[1]);
		ck_assert(pp_future_cancel(future));
		pp_future_free(future);
	}
	future = submit_fd(stage.ex, task_write, "yes", 3, own[1]);
	stage_let_go(&stage);
	support_until_running(future);
	poll(NULL, 0, 20);               /* it has asked */
	kill(supervisor, SIGCONT);
	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(close(own[1]) | close(earlier[1]), 0);
	ck_assert_int_eq(read(own[0], text, sizeof text), 3);
	gone.fd = earlier[0];
	ck_assert_int_eq(poll(&gone, 1, SUPPORT_GUARD_MS), 1);
	ck_assert_int_eq(read(earlier[0], text, sizeof text), 0);
	ck_assert_int_eq(close(own[0]) | close(earlier[0]), 0);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

struct other { int number; dev_t dev; ino_t ino; };

/* Puts the file of its argument, which it has as of create, in the place of its descriptor. */
static int task_replace(pp_task *task, const void *data, size_t size)
{
	struct other other = { .number = pp_task_fd(task, 0) };
	struct stat st;
	int from;

	if (size != sizeof from)
		return EINVAL;
	memcpy(&from, data, sizeof from);
	if (dup2(from, other.number) < 0 || fstat(from, &st) < 0)
		return errno;
	other.dev = st.st_dev;
	other.ino = st.st_ino;
	return pp_return(task, &other, sizeof other);
}

static int task_is_there(pp_task *task, const void *data, size_t size)
{
	struct other other = { .number = -1 };
	struct stat st;
	int is;

	memcpy(&other, data, size < sizeof other ? size : sizeof other);
	is = fstat(other.number, &st) == 0 && st.st_dev == other.dev && st.st_ino == other.ino;
	return pp_return(task, &is, sizeof is);
}

static void assert_stays(int given, int other)
{
	pp_executor *ex = make_executor(1);
	pp_future *future = submit_fd(ex, task_replace, &other, sizeof other, given);
	struct other put;

	support_assert_kind(future, PP_RETURNED);
	ck_assert_uint_eq(support_outcome(future)->size, sizeof put);
	memcpy(&put, support_outcome(future)->data, sizeof put);
	pp_future_free(future);
	assert_int(support_submit(ex, task_is_there, &put, sizeof put), 1);
	pp_executor_free(ex);
}

/* Two of one device. */
START_TEST(fds_replaced_on_the_same_device)
{
	int one[2], two[2];

	ck_assert_int_eq(pipe(one) | pipe(two), 0);
	assert_stays(one[1], two[1]);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(close(one[i]) | close(two[i]), 0);
}
END_TEST

/* Two of one number: the roots of file systems often have the same. */
START_TEST(fds_replaced_by_the_same_inode)
{
	int one = open("/proc", O_RDONLY | O_CLOEXEC), two = open("/sys", O_RDONLY | O_CLOEXEC);
	struct stat first, second;
	bool same = fstat(one, &first) == 0 && fstat(two, &second) == 0 && first.st_ino == second.st_ino
	            && first.st_dev != second.st_dev;

	if (same)
		assert_stays(one, two);
	close(one);
	close(two);
}
END_TEST

/* The caller's own stays open: the task has a copy. */
START_TEST(fds_inline_are_copies)
{
	pp_executor *ex = make_executor(PP_INLINE);
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	for (int i = 0; i < 3; i++)
		assert_int(submit_fd(ex, task_flags, NULL, 0, fds[1]), FD_CLOEXEC);
	ck_assert_int_eq(close(fds[0]) | close(fds[1]), 0);
	pp_executor_free(ex);
}
END_TEST

/* No room for a copy: raised, the function is not called, and no copy of those before it stays. */
START_TEST(fds_inline_emfile)
{
	pp_executor *ex = make_executor(PP_INLINE);
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	int fds[2] = { STDIN_FILENO, STDIN_FILENO }, next = dup(STDIN_FILENO);
	struct rlimit limit, few;
	pp_future *future;

	ck_assert_int_eq(close(next), 0);
	getrlimit(RLIMIT_NOFILE, &limit);
	few = limit;
	few.rlim_cur = (rlim_t)next + 1;
	setrlimit(RLIMIT_NOFILE, &few);
	options.fds = fds;
	options.fd_count = 2;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_flags, NULL, 0, &future), 0);
	setrlimit(RLIMIT_NOFILE, &limit);
	support_assert_kind(future, PP_RAISED);
	ck_assert_int_eq(support_outcome(future)->code, -EMFILE);
	ck_assert_int_eq(fcntl(next, F_GETFD), -1);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("passing_more");
	TCase *tcase = support_tcase(suite, "whose");

	tcase_add_test(tcase, fds_before_their_task);
	tcase_add_test(tcase, fds_of_their_own_generation);
	tcase_add_test(tcase, fds_replaced_on_the_same_device);
	tcase_add_test(tcase, fds_replaced_by_the_same_inode);
	tcase_add_test(tcase, fds_inline_are_copies);
	tcase_add_test(tcase, fds_inline_emfile);
	return suite;
}

SUPPORT_MAIN(make_suite)
