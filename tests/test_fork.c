/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: what a fork copies: into workers (stdio, locks), and into the application's own children. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "app.h"
#include "support.h"

/* ---- caller_fork_child_refused */

struct inherited {
	pp_executor *ex, *self_dispatch;
	pp_future *done, *running, *to_free;
	pp_walk *walk;
	const pp_outcome *outcome;               /* of done, whose bytes only the parent has */
};

static void never_called(pp_future *future, void *called)
{
	(void)future;
	*(bool *)called = true;
}

static void check_executor_calls(struct inherited *in)
{
	pp_executor *made = (pp_executor *)1;
	pid_t pids[4];

	APP_CHECK(pp_executor_create(&made, NULL) == -ECHILD);
	APP_CHECK(made == NULL);
	APP_CHECK(pp_executor_shutdown(in->ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_KILL, PP_FOREVER) == -ECHILD);
	APP_CHECK(pp_executor_workers(in->ex, pids, 4) == -ECHILD);
	APP_CHECK(pp_executor_signal(in->ex, SIGKILL) == -ECHILD);
	APP_CHECK(pp_executor_broken(in->ex) == NULL);
	APP_CHECK(pp_executor_fd(in->self_dispatch) == -ECHILD);
	APP_CHECK(pp_executor_dispatch(in->self_dispatch, 0) == -ECHILD);
}

static void check_submit_calls(struct inherited *in)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *made = (pp_future *)1;

	APP_CHECK(pp_submit(in->ex, task_nothing, NULL, 0, &made) == -ECHILD);
	APP_CHECK(made == NULL);
	made = (pp_future *)1;
	APP_CHECK(pp_submit_with(in->ex, &options, task_nothing, NULL, 0, &made) == -ECHILD);
	APP_CHECK(made == NULL);
	APP_CHECK(pp_submit(in->ex, task_nothing, NULL, 0, NULL) == -ECHILD);
}

static void check_future_calls(pp_future *future)
{
	const pp_outcome *outcome = (const pp_outcome *)1;
	bool called = false;

	APP_CHECK(pp_future_result(future, PP_FOREVER, &outcome) == -ECHILD);
	APP_CHECK(outcome == NULL);
	outcome = (const pp_outcome *)1;
	APP_CHECK(pp_future_exception(future, PP_FOREVER, &outcome) == -ECHILD);
	APP_CHECK(outcome == NULL);
	APP_CHECK(!pp_future_done(future));
	APP_CHECK(!pp_future_running(future));
	APP_CHECK(!pp_future_cancelled(future));
	APP_CHECK(pp_future_state(future) == NULL);
	APP_CHECK(!pp_future_cancel(future));
	APP_CHECK(pp_future_kill(future) == -ECHILD);
	APP_CHECK(pp_future_add_done_callback(future, never_called, &called) == -ECHILD);
	APP_CHECK(!called);
	APP_CHECK(pp_future_context(future) == NULL);
	APP_CHECK(pp_future_ref(future) == NULL);
}

static void check_wait_calls(struct inherited *in)
{
	pp_future *futures[2] = { in->done, in->running }, *next = (pp_future *)1;
	pp_walk *walk = (pp_walk *)1;

	APP_CHECK(pp_wait(futures, 2, PP_ALL_COMPLETED, PP_FOREVER) == -ECHILD);
	APP_CHECK(pp_as_completed(futures, 2, PP_FOREVER, &walk) == -ECHILD);
	APP_CHECK(walk == NULL);
	APP_CHECK(pp_walk_next(in->walk, &next) == -ECHILD);
	APP_CHECK(next == NULL);
	APP_CHECK(pp_walk_left(in->walk) == 0);
}

static void check_outcome_calls(const pp_outcome *outcome)
{
	char text[100];

	APP_CHECK(pp_outcome_value(outcome, text, sizeof text) == -ECHILD);
	APP_CHECK(pp_outcome_describe(outcome, text, sizeof text) == -ECHILD);
	APP_CHECK(pp_outcome_print(outcome, stderr) == -ECHILD);
}

static int child_of_caller(void *inherited)
{
	struct inherited *in = inherited;

	check_executor_calls(in);
	check_submit_calls(in);
	check_future_calls(in->done);
	check_future_calls(in->running);
	check_wait_calls(in);
	check_outcome_calls(in->outcome);
	pp_walk_free(in->walk);
	pp_future_free(in->done);
	pp_future_free(in->running);
	pp_future_free(in->to_free);
	pp_executor_free(in->self_dispatch);
	pp_executor_free(in->ex);
	return 0;
}

static const char done_bytes[100] = "done";

static void check_parent_still_works(struct inherited *in, struct gate *gate)
{
	pp_future *next;

	support_assert_returned(in->done, done_bytes, sizeof done_bytes);
	ck_assert(pp_future_running(in->running));
	gate_open(gate, 1);
	ck_assert_int_eq(pp_walk_next(in->walk, &next), 1);
	ck_assert_ptr_eq(next, in->running);
	support_assert_returned(in->running, gate, sizeof *gate);
	ck_assert_uint_eq(pp_walk_left(in->walk), 0);
	support_assert_returned(in->to_free, "to free", 7);
	next = support_submit(in->ex, task_echo, "next", 4);
	support_assert_returned(next, "next", 4);
	pp_future_free(next);
}

/* The child frees everything, and the parent's is all there as before. */
START_TEST(caller_fork_child_refused)
{
	pp_options options = support_options(1);
	struct inherited in;
	struct gate gate;

	gate_make(&gate);
	in.ex = support_executor(2);
	options.flags = PP_SELF_DISPATCH;
	in.self_dispatch = support_create(&options);
	in.running = support_submit(in.ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	in.done = support_submit(in.ex, task_echo, done_bytes, sizeof done_bytes);
	ck_assert_int_eq(pp_future_result(in.done, SUPPORT_GUARD_MS, &in.outcome), 0);
	in.to_free = support_submit(in.ex, task_echo, "to free", 7);
	ck_assert_int_eq(pp_as_completed(&in.running, 1, SUPPORT_GUARD_MS, &in.walk), 0);
	for (int i = 0; i < 3; i++)
		app_run(child_of_caller, &in);
	check_parent_still_works(&in, &gate);
	pp_walk_free(in.walk);
	pp_future_free(in.done);
	pp_future_free(in.running);
	pp_future_free(in.to_free);
	pp_executor_free(in.self_dispatch);
	pp_executor_free(in.ex);
	gate_destroy(&gate);
}
END_TEST

/* ---- create_beside_busy_threads */

static atomic_bool busy_stop;

static void *busy_main(void *sink)
{
	unsigned n = 0;
	char text[64];

	while (!busy_stop) {
		char *p = malloc(16 + n++ % 5000);
		fprintf(sink, "%p %u\n", (void *)p, n);
		printf("%u\n", n);
		snprintf(text, sizeof text, "%u %g", n, n / 3.0);
		free(p);
	}
	return NULL;
}

static int task_busy(pp_task *task, const void *data, size_t size)
{
	char *p = malloc(10000);
	FILE *sink = fopen("/dev/null", "w");

	if (!p || !sink)
		return 1;
	fprintf(sink, "%p %zu\n", (void *)p, size);
	printf("%p\n", (void *)p);
	free(p);
	fclose(sink);
	return pp_return(task, data, size);
}

static int stdout_to(int fd)
{
	int saved;

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	ck_assert_int_eq(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	return saved;
}

static void stdout_back(int saved)
{
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
}

/* Four threads are in malloc and in printf all the time: no worker finds a lock of theirs held. */
START_TEST(create_beside_busy_threads)
{
	FILE *sink = fopen("/dev/null", "w");
	int saved = stdout_to(fileno(sink));
	pthread_t threads[4];

	busy_stop = false;
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, busy_main, sink), 0);
	for (int i = 0; i < 30; i++) {
		pp_executor *ex = support_executor(2);
		pp_future *futures[10];
		for (int k = 0; k < 10; k++)
			futures[k] = support_submit(ex, task_busy, &k, sizeof k);
		for (int k = 0; k < 10; k++) {
			support_assert_returned(futures[k], &k, sizeof k);
			pp_future_free(futures[k]);
		}
		pp_executor_free(ex);
	}
	busy_stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	stdout_back(saved);
	fclose(sink);
}
END_TEST

/* ---- stdio_not_repeated */

enum { END_RETURN, END_EXIT, END_EXIT_LATE, END_CRASH, END__EXIT, ENDS };
struct print { int n, end; };

static int task_print(pp_task *task, const void *data, size_t size)
{
	const struct print *print = data;

	if (size != sizeof *print)
		return 1;
	printf("[%d]\n", print->n);
	switch (print->end) {
	case END_EXIT: exit(0);
	case END_EXIT_LATE: exit(99);
	case END_CRASH: raise(SIGSEGV); break;
	case END__EXIT: _exit(0);
	default: break;
	}
	return pp_return(task, NULL, 0);
}

static int occurrences(int fd, const char *what)
{
	char text[8192];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	int count = 0;

	ck_assert_int_ge(n, 0);
	text[n] = 0;
	for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
		count++;
	return count;
}

static void print_and_check(pp_executor *ex, int fd, int n)
{
	struct print print = { n, n % ENDS };
	pp_future *future = support_submit(ex, task_print, &print, sizeof print);
	char line[16];

	support_outcome(future);
	snprintf(line, sizeof line, "[%d]\n", n);
	if (print.end <= END_EXIT_LATE)
		ck_assert_int_eq(occurrences(fd, line), 1);      /* before the future is done */
	else
		ck_assert_int_le(occurrences(fd, line), 1);
	pp_future_free(future);
}

/*
 * What the application has in its buffers at create is printed once, by the application; what a task prints is printed
 * once, however the task ends. A FILE of the application's own is not touched.
 */
START_TEST(stdio_not_repeated)
{
	char path[] = "/tmp/procpool-stdio-XXXXXX", own_path[] = "/tmp/procpool-own-XXXXXX";
	int fd = mkstemp(path), own_fd = mkstemp(own_path), saved;
	FILE *own = fdopen(own_fd, "w+");
	pp_executor *ex;

	unlink(path);
	unlink(own_path);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_APPEND), 0);
	saved = stdout_to(fd);
	setvbuf(stdout, NULL, _IOFBF, 4096);
	printf("<the application's>\n");
	fprintf(own, "<half-filled>\n");
	ex = support_executor(2);
	for (int i = 0; i < 6 * ENDS; i++)
		print_and_check(ex, fd, i);
	ck_assert_int_eq(occurrences(fd, "<the application's>"), 0);
	pp_executor_free(ex);
	stdout_back(saved);
	fflush(own);
	ck_assert_int_eq(occurrences(fd, "<the application's>"), 1);
	ck_assert_int_eq(occurrences(own_fd, "<half-filled>"), 1);
	for (int i = 0; i < 6 * ENDS; i++) {
		char line[16];
		snprintf(line, sizeof line, "[%d]\n", i);
		ck_assert_int_le(occurrences(fd, line), 1);
	}
	fclose(own);
	close(fd);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("fork");
	TCase *tcase = support_tcase(suite, "copies");

	tcase_add_test(tcase, caller_fork_child_refused);
	if (support_sanitized())
		support_skip("create_beside_busy_threads", "the allocator of sanitizers does not survive such a fork");
	else
		tcase_add_test(tcase, create_beside_busy_threads);
	tcase_add_test(tcase, stdio_not_repeated);
	return suite;
}

SUPPORT_MAIN(make_suite)
