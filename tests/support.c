/* SPDX-License-Identifier: MIT */
/* How test programs report, and how a test meets its tasks. What is left over after a test: support_leftovers.c. */
#include "support.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "support_leftovers.h"

#define MAX_SKIPS 64

static struct { const char *name, *reason; } skips[MAX_SKIPS];
static int skip_count;
/* Counts the tests that came to the end of their teardown, in memory that the tests' processes share. */
static atomic_int *ended;

void support_skip(const char *test_name, const char *reason)
{
	if (skip_count < MAX_SKIPS) {
		skips[skip_count].name = test_name;
		skips[skip_count].reason = reason;
		skip_count++;
	}
}

/*
 * Check writes TAP of its own; the lines are numbered anew, so that skipped tests can stand among them. cut_short tests
 * passed without coming to their end: Check takes exit(0) in a test, or in a worker that returns into it, for success.
 */
static void print_tap(FILE *log, const char *suite, int cut_short)
{
	char line[4096], *rest;
	int n = 0;

	rewind(log);
	while (fgets(line, sizeof line, log)) {
		bool ok = strncmp(line, "ok ", 3) == 0;
		if (!ok && strncmp(line, "not ok ", 7) != 0) {
			if (strncmp(line, "1..", 3) != 0)
				printf("# %s", line);
			continue;
		}
		rest = strchr(line, ':');        /* behind the file's name */
		printf("%s %d - %s%s", ok ? "ok" : "not ok", ++n, suite, rest ? rest : "?\n");
	}
	for (int i = 0; i < skip_count; i++)
		printf("ok %d - %s:%s # SKIP %s\n", ++n, suite, skips[i].name, skips[i].reason);
	if (cut_short > 0)
		printf("not ok %d - %s:all_tests_end # %d exited before their end\n", ++n, suite, cut_short);
	printf("1..%d\n", n);
}

int support_main(int argc, char **argv, Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	char path[] = "/tmp/procpool-tap-XXXXXX";
	int fd = mkstemp(path), failed, cut_short;
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	FILE *log;

	(void)argc;
	ended = mmap(NULL, sizeof *ended, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || ended == MAP_FAILED) {
		printf("Bail out! no memory, or no place for a temporary file\n");
		return EXIT_FAILURE;
	}
	srunner_set_tap(runner, path);
	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	cut_short = srunner_ntests_run(runner) - failed - atomic_load(ended);
	srunner_free(runner);
	log = fdopen(fd, "r");
	if (log) {
		print_tap(log, strncmp(name, "lt-", 3) == 0 ? name + 3 : name, cut_short);
		fclose(log);
	}
	unlink(path);
	return failed || cut_short > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void check_leftovers(void)
{
	leftovers_check();
	atomic_fetch_add(ended, 1);
}

TCase *support_tcase(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_add_checked_fixture(tcase, leftovers_note, check_leftovers);
	tcase_set_timeout(tcase, 300);
	suite_add_tcase(suite, tcase);
	return tcase;
}

bool support_under_valgrind(void)
{
	const char *preload = getenv("LD_PRELOAD");

	return preload && strstr(preload, "vgpreload");
}

int support_many(int n)
{
	int part = support_sanitized() || support_under_valgrind() ? n / 100 : getenv("PROCPOOL_TEST_ALL") ? n : n / 10;

	return part ? part : 1;
}

bool support_sanitized(void)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
	return true;
#elif defined __has_feature
# if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
# else
	return false;
# endif
#else
	return false;
#endif
}

pp_options support_options(int n)
{
	pp_options options = PP_OPTIONS_INIT;

	options.max_workers = n;
	options.grace_ms = PP_NONE;      /* the steps of a stop have tests of their own */
	return options;
}

pp_executor *support_create(const pp_options *options)
{
	pp_executor *executor;
	int rc = pp_executor_create(&executor, options);

	ck_assert_msg(rc == 0, "create: %s", pp_strerror(rc));
	ck_assert_ptr_nonnull(executor);
	return executor;
}

pp_executor *support_executor(int n)
{
	pp_options options = support_options(n);

	return support_create(&options);
}

pp_future *support_submit(pp_executor *executor, pp_fn *fn, const void *data, size_t size)
{
	pp_future *future;
	int rc = pp_submit(executor, fn, data, size, &future);

	ck_assert_msg(rc == 0, "submit: %s", pp_strerror(rc));
	ck_assert_ptr_nonnull(future);
	return future;
}

pp_future *support_submit_named(pp_executor *executor, const char *name, pp_fn *fn, const void *data, size_t size)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.name = name;
	ck_assert_int_eq(pp_submit_with(executor, &options, fn, data, size, &future), 0);
	return future;
}

pid_t support_run_for_pid(pp_executor *executor)
{
	pp_future *future = support_submit(executor, task_pid, NULL, 0);
	pid_t pid;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&pid, support_outcome(future)->data, sizeof pid);
	pp_future_free(future);
	return pid;
}

const pp_outcome *support_outcome(pp_future *future)
{
	const pp_outcome *outcome;
	int rc = pp_future_result(future, SUPPORT_GUARD_MS, &outcome);

	ck_assert_msg(rc == 0, "result: %s (%s)", pp_strerror(rc), pp_future_state(future));
	ck_assert_ptr_nonnull(outcome);
	return outcome;
}

void support_assert_returned(pp_future *future, const void *data, size_t size)
{
	const pp_outcome *outcome = support_outcome(future);
	char text[256];

	pp_outcome_describe(outcome, text, sizeof text);
	ck_assert_msg(outcome->kind == PP_RETURNED, "%s", text);
	ck_assert_uint_eq(outcome->size, size);
	ck_assert_ptr_nonnull(outcome->data);
	ck_assert(size == 0 || memcmp(outcome->data, data, size) == 0);
}

void support_assert_kind(pp_future *future, int kind)
{
	const pp_outcome *outcome = support_outcome(future);
	char text[256];

	pp_outcome_describe(outcome, text, sizeof text);
	ck_assert_msg(outcome->kind == kind, "wanted %s: %s", pp_kind_name(kind), text);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void support_until(bool (*condition)(void *), void *context, const char *what)
{
	int64_t deadline = now_ms() + SUPPORT_GUARD_MS;

	while (!condition(context)) {
		ck_assert_msg(now_ms() < deadline, "never came: %s", what);
		poll(NULL, 0, 1);
	}
}

static bool is_running(void *future)
{
	return pp_future_running(future);
}

void support_until_running(pp_future *future)
{
	support_until(is_running, future, "running");
}

void gate_make(struct gate *gate)
{
	ck_assert_int_eq(pipe(gate->arrive), 0);
	ck_assert_int_eq(pipe(gate->pass), 0);
}

void gate_destroy(struct gate *gate)
{
	for (int i = 0; i < 2; i++) {
		close(gate->arrive[i]);
		close(gate->pass[i]);
	}
}

static int one_byte(int fd, bool out)
{
	char byte = 'x';
	ssize_t n;

	do
		n = out ? write(fd, &byte, 1) : read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : n < 0 ? errno : EPIPE;
}

int gate_pass(const struct gate *gate)
{
	int error = one_byte(gate->arrive[1], true);

	return error ? error : one_byte(gate->pass[0], false);
}

void gate_await(const struct gate *gate, int n)
{
	struct pollfd fd = { .fd = gate->arrive[0], .events = POLLIN };

	for (int i = 0; i < n; i++) {
		ck_assert_msg(poll(&fd, 1, (int)SUPPORT_GUARD_MS) == 1, "only %d of %d arrived at the gate", i, n);
		ck_assert_int_eq(one_byte(gate->arrive[0], false), 0);
	}
}

void gate_open(const struct gate *gate, int n)
{
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(one_byte(gate->pass[1], true), 0);
}

long *support_counters(size_t n)
{
	long *counters = mmap(NULL, n * sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(counters, MAP_FAILED);
	return counters;
}

void support_counters_free(long *counters, size_t n)
{
	munmap(counters, n * sizeof *counters);
}

int task_echo(pp_task *task, const void *data, size_t size)
{
	return pp_return(task, data, size);
}

int task_pid(pp_task *task, const void *data, size_t size)
{
	pid_t pid = getpid();

	(void)data;
	(void)size;
	return pp_return(task, &pid, sizeof pid);
}

int task_nothing(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	return 0;
}

int task_raise(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_raise(task, 7, "raised on purpose");
}

int task_gate(pp_task *task, const void *data, size_t size)
{
	struct gate gate;
	int error;

	if (size < sizeof gate)
		return pp_raise(task, EINVAL, "no gate");
	memcpy(&gate, data, sizeof gate);
	error = gate_pass(&gate);
	if (error)
		return pp_raise(task, error, "the gate is broken");
	return pp_return(task, data, size);
}
