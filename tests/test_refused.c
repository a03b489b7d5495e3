/* SPDX-License-Identifier: MIT */
/*
 * What the calls of sections 1 to 3 of the contract refuse: bad arguments, and any use in a child that the application
 * forked, or in a worker.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

#define ONE_OUTCOME ((const pp_outcome *)(uintptr_t)1)
#define ONE_FUTURE  ((pp_future *)(uintptr_t)1)
#define ONE_WALK    ((pp_walk *)(uintptr_t)1)

static const int64_t bad_times[] = { -2, -1000, INT64_MIN };
#define BAD_TIMES (sizeof bad_times / sizeof *bad_times)

static void nothing(pp_future *future, void *context)
{
	(void)future;
	(void)context;
}

typedef int ask_fn(pp_future *future, int64_t timeout_ms, const pp_outcome **outcome);

static void assert_ask_refuses(ask_fn *ask, pp_future *future)
{
	const pp_outcome *outcome = ONE_OUTCOME;

	ck_assert_int_eq(ask(NULL, 0, &outcome), -EINVAL);
	ck_assert_ptr_null(outcome);
	ck_assert_int_eq(ask(NULL, PP_FOREVER, NULL), -EINVAL);
	for (size_t i = 0; i < BAD_TIMES; i++) {
		outcome = ONE_OUTCOME;
		ck_assert_int_eq(ask(future, bad_times[i], &outcome), -EINVAL);
		ck_assert_ptr_null(outcome);
		ck_assert_int_eq(ask(future, bad_times[i], NULL), -EINVAL);
	}
}

START_TEST(result_refuses)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);

	assert_ask_refuses(pp_future_result, future);
	assert_ask_refuses(pp_future_exception, future);
	support_assert_returned(future, NULL, 0);
	assert_ask_refuses(pp_future_result, future);            /* also of one that is done */
	assert_ask_refuses(pp_future_exception, future);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(predicates_of_null)
{
	ck_assert(!pp_future_done(NULL));
	ck_assert(!pp_future_running(NULL));
	ck_assert(!pp_future_cancelled(NULL));
	ck_assert(!pp_future_cancel(NULL));
	ck_assert_ptr_null(pp_future_context(NULL));
	ck_assert_ptr_null(pp_future_ref(NULL));
	ck_assert_uint_eq(pp_walk_left(NULL), 0);
	pp_future_set_context(NULL, NULL);
}
END_TEST

START_TEST(callback_refuses)
{
	struct stage stage;

	stage_make(&stage, 0);
	ck_assert_int_eq(pp_future_add_done_callback(NULL, nothing, NULL), -EINVAL);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, NULL, NULL), -EINVAL);
	ck_assert_int_eq(pp_future_kill(NULL), -EINVAL);
	ck_assert_int_eq(pp_executor_fd(NULL), -EINVAL);
	ck_assert_int_eq(pp_executor_dispatch(NULL, 0), -EINVAL);
	ck_assert_int_eq(pp_executor_fd(stage.ex), -ENOTSUP);
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), -ENOTSUP);
	stage_free(&stage);
}
END_TEST

START_TEST(wait_refuses)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);

	ck_assert_int_eq(pp_wait(NULL, 1, PP_ALL_COMPLETED, 0), -EINVAL);
	ck_assert_int_eq(pp_wait(NULL, SIZE_MAX, PP_ALL_COMPLETED, 0), -EINVAL);
	ck_assert_int_eq(pp_wait(&future, 1, (enum pp_when)3, 0), -EINVAL);
	ck_assert_int_eq(pp_wait(&future, 1, (enum pp_when)-1, 0), -EINVAL);
	ck_assert_int_eq(pp_wait(NULL, 0, (enum pp_when)99, 0), -EINVAL);
	for (size_t i = 0; i < BAD_TIMES; i++) {
		ck_assert_int_eq(pp_wait(&future, 1, PP_ALL_COMPLETED, bad_times[i]), -EINVAL);
		ck_assert_int_eq(pp_wait(NULL, 0, PP_ALL_COMPLETED, bad_times[i]), -EINVAL);
	}
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(walk_refuses)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0), *next = ONE_FUTURE;
	pp_walk *walk = ONE_WALK;

	ck_assert_int_eq(pp_as_completed(NULL, 1, 0, &walk), -EINVAL);
	ck_assert_ptr_null(walk);
	ck_assert_int_eq(pp_as_completed(&future, 1, 0, NULL), -EINVAL);
	for (size_t i = 0; i < BAD_TIMES; i++) {
		walk = ONE_WALK;
		ck_assert_int_eq(pp_as_completed(&future, 1, bad_times[i], &walk), -EINVAL);
		ck_assert_ptr_null(walk);
	}
	ck_assert_int_eq(pp_walk_next(NULL, &next), -EINVAL);
	ck_assert_ptr_null(next);
	ck_assert_int_eq(pp_as_completed(&future, 1, SUPPORT_GUARD_MS, &walk), 0);
	ck_assert_int_eq(pp_walk_next(walk, NULL), -EINVAL);
	ck_assert_uint_eq(pp_walk_left(walk), 1);
	ck_assert_int_eq(pp_walk_next(walk, &next), 1);
	ck_assert_int_eq(pp_walk_next(walk, NULL), -EINVAL);
	pp_walk_free(walk);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* What the application has when it forks. */
struct estate { struct stage stage; pp_future *finished; pp_walk *walk; };

static void estate_make(struct estate *estate)
{
	stage_make(&estate->stage, PP_SELF_DISPATCH);
	estate->finished = stage_submit(&estate->stage, "");
	ck_assert(pp_future_cancel(estate->finished));
	ck_assert_int_eq(pp_as_completed(&estate->stage.running, 1, PP_FOREVER, &estate->walk), 0);
}

static void estate_free(struct estate *estate)
{
	pp_walk_free(estate->walk);
	pp_future_free(estate->finished);
	stage_free(&estate->stage);
}

/* A child and a worker assert nothing: each tells the number of its first call that was not refused as it should be. */
#define REFUSED(number, expr) do { if (!(expr)) return number; } while (0)

static int looks_refused(pp_future *future)
{
	const pp_outcome *outcome = ONE_OUTCOME;

	REFUSED(1, pp_future_result(future, 0, &outcome) == -ECHILD && !outcome);
	outcome = ONE_OUTCOME;
	REFUSED(2, pp_future_exception(future, PP_FOREVER, &outcome) == -ECHILD && !outcome);
	REFUSED(3, pp_future_result(future, PP_FOREVER, NULL) == -ECHILD);
	REFUSED(4, !pp_future_done(future));
	REFUSED(5, !pp_future_running(future));
	REFUSED(6, !pp_future_cancelled(future));
	REFUSED(7, !pp_future_cancel(future));
	REFUSED(8, pp_future_kill(future) == -ECHILD);
	REFUSED(9, pp_future_add_done_callback(future, nothing, NULL) == -ECHILD);
	REFUSED(10, !pp_future_context(future));
	REFUSED(11, !pp_future_ref(future));
	REFUSED(12, !pp_future_state(future));
	pp_future_set_context(future, NULL);
	return 0;
}

static int calls_refused(struct estate *e)
{
	pp_future *both[] = { e->stage.running, e->finished }, *next = ONE_FUTURE;
	pp_walk *walk = ONE_WALK;
	int n = looks_refused(e->stage.running);

	if (n == 0)
		n = looks_refused(e->finished);
	if (n)
		return n;
	REFUSED(20, pp_wait(both, 2, PP_ALL_COMPLETED, PP_FOREVER) == -ECHILD);
	REFUSED(21, pp_wait(NULL, 0, PP_ALL_COMPLETED, 0) == -ECHILD);
	REFUSED(22, pp_as_completed(both, 2, PP_FOREVER, &walk) == -ECHILD && !walk);
	REFUSED(23, pp_walk_next(e->walk, &next) == -ECHILD && !next);
	REFUSED(24, pp_walk_left(e->walk) == 0);
	REFUSED(25, pp_executor_fd(e->stage.ex) == -ECHILD);
	REFUSED(26, pp_executor_dispatch(e->stage.ex, 0) == -ECHILD);
	REFUSED(27, pp_submit(e->stage.ex, task_nothing, NULL, 0, &next) == -ECHILD && !next);
	REFUSED(28, pp_executor_shutdown(e->stage.ex, PP_SHUTDOWN_WAIT, PP_FOREVER) == -ECHILD);
	return 0;
}

static int child_main(struct estate *estate)
{
	int n = calls_refused(estate);

	pp_walk_free(estate->walk);
	pp_future_free(estate->finished);
	pp_future_free(estate->stage.running);
	pp_executor_free(estate->stage.ex);
	return n;
}

START_TEST(forked_child_refused)
{
	struct estate estate;
	int status;
	pid_t pid;

	estate_make(&estate);
	pid = fork();
	if (pid == 0)
		_exit(child_main(&estate));
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "call %d was not refused (status 0x%x)", WEXITSTATUS(status), (unsigned)status);
	ck_assert(pp_future_running(estate.stage.running));      /* and the child harmed nothing */
	stage_let_go(&estate.stage);
	ck_assert(pp_future_cancelled(estate.finished));
	ck_assert_uint_eq(pp_walk_left(estate.walk), 1);
	estate_free(&estate);
}
END_TEST

static int task_uses_library(pp_task *task, const void *data, size_t size)
{
	struct estate *estate;
	pp_executor *ex = (pp_executor *)(uintptr_t)1;
	int n;

	memcpy(&estate, data, size);
	n = calls_refused(estate);
	if (n == 0 && (pp_executor_create(&ex, NULL) != -ECHILD || ex))
		n = 99;
	return n ? pp_raise(task, n, "call %d was not refused", n) : 0;
}

/* The worker has inherited all of the estate, which belongs to another executor. */
START_TEST(worker_refused)
{
	struct estate estate, *pointer = &estate;
	pp_executor *ex;
	pp_future *future;

	estate_make(&estate);
	ex = support_executor(1);
	future = support_submit(ex, task_uses_library, &pointer, sizeof pointer);
	support_assert_returned(future, NULL, 0);
	pp_future_free(future);
	pp_executor_free(ex);
	ck_assert(pp_future_running(estate.stage.running));
	stage_let_go(&estate.stage);
	estate_free(&estate);
}
END_TEST

/* Of the task's side, without a task. */
START_TEST(task_side_of_null)
{
	ck_assert_int_eq(pp_return(NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(pp_return(NULL, "x", 1), -EINVAL);
	ck_assert_int_ne(pp_raise(NULL, 0, NULL), 0);
	ck_assert_str_eq(pp_task_name(NULL), "");
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("refused");
	TCase *arguments = support_tcase(suite, "arguments"), *processes = support_tcase(suite, "processes");

	tcase_add_test(arguments, result_refuses);
	tcase_add_test(arguments, predicates_of_null);
	tcase_add_test(arguments, callback_refuses);
	tcase_add_test(arguments, wait_refuses);
	tcase_add_test(arguments, walk_refuses);
	tcase_add_test(arguments, task_side_of_null);
	tcase_add_test(processes, forked_child_refused);
	tcase_add_test(processes, worker_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
