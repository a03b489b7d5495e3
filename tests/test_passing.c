/* SPDX-License-Identifier: MIT */
/*
 * Descriptors as arguments: they arrive, whatever the caller does with its own; and no copy stays open. That is seen
 * by pipes: the read end tells of the end of the file when the last write end, of whatever process, is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "stage.h"
#include "support.h"

#define QUEUED 3

static pp_executor *make_executor(int workers)
{
	pp_options options = support_options(workers);

	options.flags = PP_PASS_FDS | PP_START_ALL;      /* none is being started, with a copy, while others run */
	return support_create(&options);
}

static int submit_fds(pp_executor *ex, pp_fn *fn, const void *data, size_t size, const int *fds, uint32_t n,
                      pp_future **future)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.fds = fds;
	options.fd_count = n;
	return pp_submit_with(ex, &options, fn, data, size, future);
}

/* Submits with the write end of a pipe, closes its own, and returns the read end. */
static int submit_pipe(pp_executor *ex, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(submit_fds(ex, fn, data, size, &fds[1], 1, future), 0);
	close(fds[1]);
	return fds[0];
}

/* What is in the pipe is this text, and then the end: now, or within the guard. Closes it. */
static void assert_pipe(int fd, const char *text, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char bytes[64] = "";
	size_t n = 0;
	ssize_t got;

	do {
		ck_assert_int_eq(poll(&p, 1, timeout_ms), 1);
		got = read(fd, bytes + n, sizeof bytes - 1 - n);
		ck_assert_int_ge(got, 0);
		n += (size_t)got;
	} while (got > 0);
	ck_assert_str_eq(bytes, text);
	close(fd);
}

/* Writes its argument into each of its descriptors, and returns how many it has. */
static int task_write(pp_task *task, const void *data, size_t size)
{
	int n = 0;

	for (int fd; (fd = pp_task_fd(task, (unsigned)n)) >= 0; n++)
		if (write(fd, data, size) != (ssize_t)size)
			return pp_raise(task, errno, "write");
	return pp_return(task, &n, sizeof n);
}

static int task_read(pp_task *task, const void *data, size_t size)
{
	char text[64];
	ssize_t n = read(pp_task_fd(task, 0), text, sizeof text);

	(void)data;
	(void)size;
	return n < 0 ? pp_raise(task, errno, "read") : pp_return(task, text, (size_t)n);
}

static void assert_count(pp_future *future, int n)
{
	support_assert_returned(future, &n, sizeof n);
	pp_future_free(future);
}

/* The same open file: its offset is the caller's. */
START_TEST(fds_file)
{
	char path[] = "/tmp/procpool-passing-XXXXXX";
	pp_executor *ex = make_executor(1);
	pp_future *future;
	int fd = mkstemp(path);

	unlink(path);
	ck_assert_int_eq(write(fd, "one two", 7), 7);
	ck_assert_int_eq(lseek(fd, 4, SEEK_SET), 4);
	ck_assert_int_eq(submit_fds(ex, task_read, NULL, 0, &fd, 1, &future), 0);
	close(fd);
	support_assert_returned(future, "two", 3);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* When the outcome is there, no copy of them is open any more. */
START_TEST(fds_closed_after_task)
{
	pp_executor *ex = make_executor(2);
	pp_future *future;

	for (int i = 0; i < 50; i++) {
		int fd = submit_pipe(ex, task_write, "text", 4, &future);
		assert_count(future, 1);
		assert_pipe(fd, "text", 0);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(fds_of_every_number)
{
	pp_executor *ex = make_executor(1);
	int fds[PP_TASK_FDS_MAX + 1], pair[2];
	pp_future *future;

	ck_assert_int_eq(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
	for (int i = 0; i <= PP_TASK_FDS_MAX; i++)
		fds[i] = pair[1];
	ck_assert_int_eq(submit_fds(ex, task_write, "", 0, fds, PP_TASK_FDS_MAX + 1, &future), -EMFILE);
	ck_assert_ptr_null(future);
	ck_assert_int_eq(submit_fds(ex, task_write, "", 0, fds, PP_TASK_FDS_MAX, &future), 0);
	assert_count(future, PP_TASK_FDS_MAX);
	ck_assert_int_eq(submit_fds(ex, task_write, "", 0, NULL, 0, &future), 0);
	assert_count(future, 0);
	close(pair[1]);
	assert_pipe(pair[0], "", 0);
	pp_executor_free(ex);
}
END_TEST

static int no_source(const void **data, size_t *size, void *context)
{
	(void)data;
	(void)size;
	(void)context;
	return 0;
}

START_TEST(fds_misused)
{
	pp_executor *ex = make_executor(1), *plain = support_executor(1);
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	int fds[2] = { STDIN_FILENO, -1 };
	pp_future *future;
	pp_map *map;

	ck_assert_int_eq(submit_fds(plain, task_write, "", 0, fds, 1, &future), -ENOTSUP);
	ck_assert_int_eq(submit_fds(ex, task_write, "", 0, fds, 2, &future), -EBADF);
	ck_assert_int_eq(submit_fds(ex, task_write, "", 0, NULL, 1, &future), -EINVAL);
	task.priority = 2;
	ck_assert_int_eq(pp_submit_with(ex, &task, task_write, "", 0, &future), -EINVAL);
	task.priority = 0;
	task.fds = fds;
	task.fd_count = 1;
	options.task = &task;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, no_source, NULL, &map), -EINVAL);
	ck_assert_int_eq(pp_task_fd(NULL, 0), -EINVAL);
	pp_executor_free(ex);
	pp_executor_free(plain);
}
END_TEST

/* One that never starts leaves nothing open. */
START_TEST(fds_cancelled)
{
	struct stage stage;
	pp_future *future;
	int fd;

	stage_make(&stage, PP_PASS_FDS);
	fd = submit_pipe(stage.ex, task_write, "text", 4, &future);
	ck_assert(pp_future_cancel(future));
	assert_pipe(fd, "", SUPPORT_GUARD_MS);
	pp_future_free(future);
	fd = submit_pipe(stage.ex, task_write, "text", 4, &future);
	ck_assert_int_eq(pp_executor_shutdown(stage.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	assert_pipe(fd, "", SUPPORT_GUARD_MS);
	support_assert_kind(future, PP_CANCELLED);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

struct submitter { pp_executor *ex; struct gate gate; int read_end; pp_future *future; };

static void *occupant_main(void *s_)
{
	struct submitter *s = s_;

	return (void *)(intptr_t)pp_submit(s->ex, task_gate, &s->gate, sizeof s->gate, NULL);
}

static void *submitter_main(void *s_)
{
	struct submitter *s = s_;

	s->read_end = submit_pipe(s->ex, task_write, "text", 4, &s->future);
	return NULL;
}

/* In the caller's own process, while another one's task runs: a submit that waits for its turn has copies already. */
START_TEST(fds_cancelled_inline)
{
	pp_options options = support_options(PP_INLINE);
	pp_stats stats = PP_STATS_INIT;
	pthread_t occupant, submitter;
	struct submitter s;

	options.flags = PP_PASS_FDS;
	s.ex = support_create(&options);
	gate_make(&s.gate);
	ck_assert_int_eq(pthread_create(&occupant, NULL, occupant_main, &s), 0);
	gate_await(&s.gate, 1);
	ck_assert_int_eq(pthread_create(&submitter, NULL, submitter_main, &s), 0);
	while (pp_executor_stats(s.ex, &stats) == 0 && stats.submitted < 2)
		poll(NULL, 0, 1);
	ck_assert_int_eq(pp_executor_shutdown(s.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	gate_open(&s.gate, 1);
	ck_assert_int_eq(pthread_join(submitter, NULL) | pthread_join(occupant, NULL), 0);
	support_assert_kind(s.future, PP_CANCELLED);
	assert_pipe(s.read_end, "", 0);
	pp_future_free(s.future);
	pp_executor_free(s.ex);
	gate_destroy(&s.gate);
}
END_TEST

/* A worker dies with its task's descriptor, and those of tasks behind it do not stay with the ones that follow. */
START_TEST(fds_across_a_death)
{
	pp_future *dying, *queued[QUEUED];
	int how = DIE_KILL, fd, fds[QUEUED];
	struct stage stage;

	stage_make(&stage, PP_PASS_FDS);
	fd = submit_pipe(stage.ex, task_die, &how, sizeof how, &dying);
	for (int i = 0; i < QUEUED; i++)
		fds[i] = submit_pipe(stage.ex, task_write, "text", 4, &queued[i]);
	stage_let_go(&stage);
	support_assert_kind(dying, PP_CRASHED);
	assert_pipe(fd, "", SUPPORT_GUARD_MS);
	for (int i = 0; i < QUEUED; i++) {
		assert_count(queued[i], 1);
		assert_pipe(fds[i], "text", SUPPORT_GUARD_MS);
	}
	pp_future_free(dying);
	stage_free(&stage);
}
END_TEST

/* Puts another file in the place of its descriptor, and returns the number. */
static int task_replace(pp_task *task, const void *data, size_t size)
{
	int fd = pp_task_fd(task, 0), null = open("/dev/null", O_RDWR);

	(void)data;
	(void)size;
	if (null < 0 || dup2(null, fd) < 0)
		return pp_raise(task, errno, "/dev/null");
	close(null);
	return pp_return(task, &fd, sizeof fd);
}

static int task_is_null(pp_task *task, const void *data, size_t size)
{
	struct stat st, null;
	int same = 0;

	if (size == sizeof(int) && fstat(*(const int *)data, &st) == 0 && stat("/dev/null", &null) == 0)
		same = st.st_dev == null.st_dev && st.st_ino == null.st_ino;
	return pp_return(task, &same, sizeof same);
}

START_TEST(fds_replaced_by_the_task)
{
	pp_executor *ex = make_executor(1);
	pp_future *future;
	int fd = submit_pipe(ex, task_replace, NULL, 0, &future), number;

	memcpy(&number, support_outcome(future)->data, sizeof number);
	pp_future_free(future);
	assert_pipe(fd, "", 0);
	assert_count(support_submit(ex, task_is_null, &number, sizeof number), 1);
	pp_executor_free(ex);
}
END_TEST

static int submit_patient(pp_executor *ex, int64_t timeout_ms, int fd)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.fds = &fd;
	options.fd_count = 1;
	options.submit_timeout_ms = timeout_ms;
	return pp_submit_with(ex, &options, task_write, "x", 1, NULL);
}

/* The supervisor reads nothing: a submit waits as long as it may, and others do not wait at all. */
START_TEST(fds_more_than_the_way_holds)
{
	pid_t supervisor;
	struct stage stage;
	int n = 0, pair[2], rc;
	char byte;

	stage_make(&stage, PP_PASS_FDS);
	supervisor = support_supervisor();
	ck_assert_int_eq(pipe2(pair, O_CLOEXEC), 0);
	kill(supervisor, SIGSTOP);
	while ((rc = submit_patient(stage.ex, PP_NONE, pair[1])) == 0)
		n++;
	ck_assert_int_eq(rc, -EAGAIN);
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(submit_patient(stage.ex, 5, pair[1]), -ETIMEDOUT);
	pp_future_free(stage_submit(&stage, "goes on"));
	kill(supervisor, SIGCONT);
	ck_assert_int_eq(submit_patient(stage.ex, 0, pair[1]), 0);
	close(pair[1]);
	stage_let_go(&stage);
	for (n++; n > 0; n--)
		ck_assert_int_eq(read(pair[0], &byte, 1), 1);
	ck_assert_int_eq(read(pair[0], &byte, 1), 0);
	close(pair[0]);
	stage_free(&stage);
}
END_TEST

/* The supervisor has room for some only: the others end as raised, and nothing is lost or mixed up. */
START_TEST(fds_more_than_the_supervisor_holds)
{
	enum { TASKS = 100 };
	struct rlimit limit, few;
	pp_future *futures[TASKS];
	int fds[TASKS], raised = 0;
	struct stage stage;

	getrlimit(RLIMIT_NOFILE, &limit);
	few = limit;
	few.rlim_cur = 60;
	setrlimit(RLIMIT_NOFILE, &few);
	stage_make(&stage, PP_PASS_FDS);
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < TASKS; i++)
		fds[i] = submit_pipe(stage.ex, task_write, &"0123456789"[i % 10], 1, &futures[i]);
	stage_let_go(&stage);
	for (int i = 0; i < TASKS; i++) {
		bool failed = support_outcome(futures[i])->kind == PP_RAISED;
		char text[2] = { (char)('0' + i % 10), 0 };
		if (failed)
			ck_assert_int_eq(support_outcome(futures[i])->code, -EMFILE);
		assert_pipe(fds[i], failed ? "" : text, SUPPORT_GUARD_MS);
		pp_future_free(futures[i]);
		raised += failed;
	}
	ck_assert_int_gt(raised, 0);
	ck_assert_int_lt(raised, TASKS);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("passing");
	TCase *arrive = support_tcase(suite, "arrive"), *full = support_tcase(suite, "full");

	tcase_add_test(arrive, fds_file);
	tcase_add_test(arrive, fds_closed_after_task);
	tcase_add_test(arrive, fds_of_every_number);
	tcase_add_test(arrive, fds_misused);
	tcase_add_test(arrive, fds_cancelled);
	tcase_add_test(arrive, fds_cancelled_inline);
	tcase_add_test(arrive, fds_across_a_death);
	tcase_add_test(arrive, fds_replaced_by_the_task);
	tcase_add_test(full, fds_more_than_the_way_holds);
	tcase_add_test(full, fds_more_than_the_supervisor_holds);
	return suite;
}

SUPPORT_MAIN(make_suite)
