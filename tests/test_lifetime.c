/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: how long futures and outcomes live, and when they may be freed. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "stage.h"

#define BIG (3u << 20)

static void fill(unsigned char *bytes, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(i * 31 + i / 251 + seed);
}

static int task_big(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = malloc(BIG);
	int rc;

	(void)size;
	if (!bytes)
		return ENOMEM;
	fill(bytes, BIG, *(const unsigned char *)data);
	rc = pp_return(task, bytes, BIG);
	free(bytes);
	return rc;
}

static void assert_big(const pp_outcome *outcome, unsigned char seed)
{
	unsigned char *bytes = malloc(BIG);

	fill(bytes, BIG, seed);
	ck_assert_int_eq(outcome->kind, PP_RETURNED);
	ck_assert_uint_eq(outcome->size, BIG);
	ck_assert(memcmp(outcome->data, bytes, BIG) == 0);
	free(bytes);
}

static void count_and_free(pp_future *future, void *counter)
{
	const pp_outcome *outcome = NULL;
	bool ok = pp_future_done(future);

	pp_future_free(future);
	ok = ok && pp_future_done(future);       /* the pointer is good until this returns */
	ok = ok && pp_future_result(future, 0, &outcome) == 0 && outcome && *outcome->message == 0;
	*(atomic_int *)counter += ok;
}

START_TEST(free_in_callback)
{
	pp_executor *ex = support_executor(2);
	atomic_int counter = 0;

	for (int i = 0; i < 500; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		if (i % 3 == 0)
			support_assert_returned(future, &i, sizeof i);
		ck_assert_int_eq(pp_future_add_done_callback(future, count_and_free, &counter), 0);
	}
	until_count(&counter, 500, "all callbacks");
	pp_executor_free(ex);
	ck_assert_int_eq(counter, 500);
}
END_TEST

/* The first callback gives the last reference up; the second of the same future still runs. */
START_TEST(free_in_first_callback_of_two)
{
	atomic_int counter = 0;
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	future = stage_submit(&stage, "");
	ck_assert_int_eq(pp_future_add_done_callback(future, count_and_free, &counter), 0);
	ck_assert_int_eq(pp_future_add_done_callback(future, count_and_free, &counter), 0);
	pp_future_ref(future);
	stage_let_go(&stage);
	until_count(&counter, 2, "both callbacks");
	stage_free(&stage);
}
END_TEST

static void note_outcome(pp_future *future, void *counter)
{
	const pp_outcome *outcome;

	if (pp_future_result(future, 0, &outcome) == 0 && outcome->kind == PP_RETURNED && outcome->size == 8
	    && memcmp(outcome->data, "detached", 8) == 0)
		++*(atomic_int *)counter;
}

START_TEST(free_undone_callbacks_still_run)
{
	atomic_int counter = 0;
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < 100; i++) {
		pp_future *future = stage_submit(&stage, "detached");
		ck_assert_int_eq(pp_future_add_done_callback(future, note_outcome, &counter), 0);
		pp_future_free(future);
	}
	ck_assert_int_eq(counter, 0);
	stage_let_go(&stage);
	until_count(&counter, 100, "the callbacks of futures given up");
	stage_free(&stage);
	ck_assert_int_eq(counter, 100);
}
END_TEST

/* Of a running future, too: its last reference is given up while its task is at the gate. */
START_TEST(free_running_callback_still_runs)
{
	atomic_int counter = 0;
	struct gate gate;
	pp_executor *ex;
	pp_future *future;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_gate, &gate, sizeof gate);
	ck_assert_int_eq(pp_future_add_done_callback(future, count_call, &counter), 0);
	gate_await(&gate, 1);
	pp_future_free(future);
	gate_open(&gate, 1);
	until_count(&counter, 1, "the callback of a future given up");
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

static int task_add(pp_task *task, const void *data, size_t size)
{
	long *counter;

	(void)task;
	memcpy(&counter, data, size);
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
	return 0;
}

START_TEST(free_pending_runs_detached)
{
	long *counter = support_counters(1);
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < 1000; i++)
		pp_future_free(support_submit(stage.ex, task_add, &counter, sizeof counter));
	ck_assert_int_eq(*counter, 0);
	stage_let_go(&stage);
	stage_free(&stage);
	ck_assert_int_eq(*counter, 1000);
	support_counters_free(counter, 1);
}
END_TEST

static int task_big_error(pp_task *task, const void *data, size_t size)
{
	return pp_raise_data(task, 42, data, size, "with a detail of %zu bytes", size);
}

START_TEST(free_executor_before_futures)
{
	unsigned char seed = 7, detail[5000];
	int how = DIE_SEGV;
	pp_executor *ex = support_executor(2);
	pp_future *small = support_submit(ex, task_echo, "small", 5), *big = support_submit(ex, task_big, &seed, 1);
	pp_future *raised, *crashed = support_submit(ex, task_die, &how, sizeof how);
	const pp_outcome *outcome;

	fill(detail, sizeof detail, 1);
	raised = support_submit(ex, task_big_error, detail, sizeof detail);
	pp_executor_free(ex);
	ck_assert(pp_future_done(small) && pp_future_done(big) && pp_future_done(raised) && pp_future_done(crashed));
	support_assert_returned(small, "small", 5);
	assert_big(support_outcome(big), seed);
	outcome = support_outcome(raised);
	ck_assert_int_eq(outcome->code, 42);
	ck_assert_str_eq(outcome->message, "with a detail of 5000 bytes");
	ck_assert_uint_eq(outcome->size, sizeof detail);
	ck_assert_mem_eq(outcome->data, detail, sizeof detail);
	ck_assert_int_eq(support_outcome(crashed)->signal, SIGSEGV);
	ck_assert(!pp_future_cancel(small));
	ck_assert_int_eq(pp_future_kill(small), 0);
	ck_assert_int_eq(pp_wait((pp_future *[]){ small, big }, 2, PP_ALL_COMPLETED, 0), 2);
	pp_future_free(small);
	pp_future_free(raised);
	pp_future_free(crashed);
	assert_big(support_outcome(big), seed);
	pp_future_free(big);
}
END_TEST

/* A callback may be added to a future whose executor is gone: it was done already, so it runs at once. */
START_TEST(callback_after_executor)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_echo, "detached", 8);
	atomic_int counter = 0;

	pp_executor_free(ex);
	ck_assert_int_eq(pp_future_add_done_callback(future, note_outcome, &counter), 0);
	ck_assert_int_eq(counter, 1);
	pp_future_free(future);
}
END_TEST

START_TEST(free_yielded)
{
	enum { N = 200 };
	pp_executor *ex = support_executor(2);
	pp_future *futures[N], *future;
	pp_walk *walk;
	size_t n = 0;

	for (int i = 0; i < N; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	ck_assert_int_eq(pp_as_completed(futures, N, SUPPORT_GUARD_MS, &walk), 0);
	while (pp_walk_next(walk, &future) == 1) {
		const pp_outcome *outcome = support_outcome(future);
		int i;
		memcpy(&i, outcome->data, sizeof i);
		ck_assert_ptr_eq(future, futures[i]);
		pp_future_free(future);
		n++;
	}
	ck_assert_uint_eq(n, N);
	pp_walk_free(walk);
	pp_executor_free(ex);
}
END_TEST

START_TEST(outcome_lives_with_future)
{
	unsigned char seeds[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	pp_executor *ex = support_executor(2);
	pp_future *first = support_submit(ex, task_big, &seeds[0], 1);
	pp_future *small = support_submit(ex, task_echo, "kept", 4);
	const pp_outcome *outcome = support_outcome(first), *small_outcome = support_outcome(small);

	ck_assert_ptr_eq(pp_future_ref(first), first);
	ck_assert_ptr_eq(pp_future_ref(small), small);
	pp_future_free(first);
	pp_future_free(small);
	for (int i = 0; i < 2000; i++) {
		pp_future *future = i % 250 ? support_submit(ex, task_echo, &i, sizeof i)
		                            : support_submit(ex, task_big, &seeds[i / 250], 1);
		ck_assert_ptr_ne(future, first);
		ck_assert_ptr_ne(future, small);
		ck_assert_int_eq(pp_future_result(future, SUPPORT_GUARD_MS, NULL), 0);
		pp_future_free(future);
	}
	assert_big(outcome, seeds[0]);
	pp_executor_free(ex);
	assert_big(outcome, seeds[0]);
	ck_assert_ptr_eq(support_outcome(first), outcome);
	ck_assert_mem_eq(small_outcome->data, "kept", 4);
	ck_assert_ptr_eq(support_outcome(small), small_outcome);
	pp_future_free(first);
	pp_future_free(small);
}
END_TEST

START_TEST(null_is_freed)
{
	pp_future_free(NULL);
	pp_walk_free(NULL);
	pp_executor_free(NULL);
}
END_TEST

static void free_executor(pp_future *future, void *ex)
{
	(void)future;
	pp_executor_free(ex);
}

/* The application must die of it, so it has no way to report success. */
static int app_frees_executor_in_callback(void *unused)
{
	pp_executor *ex;
	pp_future *future;

	(void)unused;
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);        /* the assertion's text is not ours to read */
	APP_CHECK(pp_executor_create(&ex, NULL) == 0);
	APP_CHECK(pp_submit(ex, task_nothing, NULL, 0, &future) == 0);
	APP_CHECK(pp_future_add_done_callback(future, free_executor, ex) == 0);
	pp_future_result(future, PP_FOREVER, NULL);
	pause();
	return 0;
}

START_TEST(free_executor_in_callback_asserted)
{
	struct app app;
	int status;

	app_start(&app, app_frees_executor_in_callback, NULL);
	status = app_wait(&app);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lifetime");
	TCase *futures = support_tcase(suite, "futures"), *outcomes = support_tcase(suite, "outcomes");
	TCase *executors = support_tcase(suite, "executors");

	tcase_add_test(futures, free_in_callback);
	tcase_add_test(futures, free_in_first_callback_of_two);
	tcase_add_test(futures, free_undone_callbacks_still_run);
	tcase_add_test(futures, free_running_callback_still_runs);
	tcase_add_test(futures, free_pending_runs_detached);
	tcase_add_test(futures, free_yielded);
	tcase_add_test(futures, null_is_freed);
	tcase_add_test(outcomes, outcome_lives_with_future);
	tcase_add_test(executors, free_executor_before_futures);
	tcase_add_test(executors, callback_after_executor);
	if (app_tests_can_run())
		tcase_add_test(executors, free_executor_in_callback_asserted);
	else
		support_skip("free_executor_in_callback_asserted", "CK_FORK=no");
	return suite;
}

SUPPORT_MAIN(make_suite)
