// SPDX-License-Identifier: MIT
// Section 5 of the contract, for tasks in C++: an exception that escapes ends the worker, and nothing of the frames in
// which the executor was created ever runs there: no catch block, and no destructor.
#include <check.h>
#include <procpool.h>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <string>
#include <pthread.h>
#include <sys/types.h>
#include <unistd.h>
extern "C" {
#include "support.h"
}

static int throw_error(pp_task *, const void *, size_t)
{
	throw std::runtime_error("escapes");
}

static int throw_int(pp_task *, const void *, size_t)
{
	throw 42;
}

// Exceptions that stay inside are a task's own affair.
static int throw_and_catch(pp_task *task, const void *, size_t)
{
	try {
		throw_error(nullptr, nullptr, 0);
	} catch (const std::exception &e) {
		return pp_return(task, e.what(), std::strlen(e.what()));
	}
	return 1;
}

static int exit_thread(pp_task *, const void *, size_t)
{
	pthread_exit(nullptr);
}

static const struct way { pp_fn *fn; int kind, signal; } ways[] = {
	{ throw_error, PP_CRASHED, SIGABRT }, { throw_int, PP_CRASHED, SIGABRT }, { exit_thread, PP_EXITED, 0 },
};
static const int count = sizeof ways / sizeof *ways;

static void assert_reported(pp_future *future, const way &w)
{
	support_assert_kind(future, w.kind);
	ck_assert_int_eq(support_outcome(future)->signal, w.signal);
	ck_assert_int_eq(support_outcome(future)->code, 0);
}

static void assert_works(pp_executor *ex)
{
	for (int i = 0; i < 20; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
	}
}

// std::terminate tells on stderr what it was called for; that is its right, but no use here.
class quiet_stderr {
	int saved = dup(STDERR_FILENO);
public:
	quiet_stderr() { ck_assert_ptr_nonnull(std::freopen("/dev/null", "w", stderr)); }
	quiet_stderr(const quiet_stderr &) = delete;
	quiet_stderr &operator=(const quiet_stderr &) = delete;
	~quiet_stderr() { dup2(saved, STDERR_FILENO); close(saved); }
};

START_TEST(crash_fails_only_its_task)
{
	quiet_stderr quiet;
	pp_executor *ex = support_executor(2);
	pp_future *dying = support_submit(ex, ways[_i].fn, nullptr, 0), *beside[20];

	for (int i = 0; i < 20; i++)
		beside[i] = support_submit(ex, task_echo, &i, sizeof i);
	assert_reported(dying, ways[_i]);
	for (int i = 0; i < 20; i++) {
		support_assert_returned(beside[i], &i, sizeof i);
		pp_future_free(beside[i]);
	}
	pp_future_free(dying);
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
}
END_TEST

START_TEST(every_task_crashes)
{
	quiet_stderr quiet;
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < 50; i++) {
		pp_future *future = support_submit(ex, ways[_i].fn, nullptr, 0);
		assert_reported(future, ways[_i]);
		pp_future_free(future);
	}
	assert_works(ex);
	pp_executor_free(ex);
}
END_TEST

START_TEST(exception_caught_inside)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, throw_and_catch, nullptr, 0);

	support_assert_returned(future, "escapes", 7);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

enum { CATCHES, DESTRUCTORS, COUNTERS };

// Counts how often it is destroyed in a process other than its maker's.
class witness {
	long *counters;
	pid_t maker = getpid();
public:
	explicit witness(long *c) : counters(c) {}
	witness(const witness &) = delete;
	witness &operator=(const witness &) = delete;
	~witness()
	{
		if (getpid() != maker)
			__atomic_fetch_add(&counters[DESTRUCTORS], 1, __ATOMIC_SEQ_CST);
	}
};

static pp_executor *create_inside_try(long *counters, const pp_options *options, pid_t maker)
{
	witness here(counters);

	try {
		witness inside(counters);
		return support_create(options);
	} catch (...) {
		if (getpid() != maker)
			__atomic_fetch_add(&counters[CATCHES], 1, __ATOMIC_SEQ_CST);
		throw;
	}
}

static void assert_no_frame_ran(long *counters)
{
	ck_assert_int_eq(__atomic_load_n(&counters[CATCHES], __ATOMIC_SEQ_CST), 0);
	ck_assert_int_eq(__atomic_load_n(&counters[DESTRUCTORS], __ATOMIC_SEQ_CST), 0);
}

// The frames of the create, the try block included, are below those of the task in the worker's stack.
START_TEST(exception_with_application_catch)
{
	quiet_stderr quiet;
	long *counters = support_counters(COUNTERS);
	pp_options options = support_options(1);
	pp_executor *ex = create_inside_try(counters, &options, getpid());

	for (int i = 0; i < 5; i++) {
		pp_future *future = support_submit(ex, ways[_i].fn, nullptr, 0);
		assert_reported(future, ways[_i]);
		pp_future_free(future);
		assert_works(ex);
	}
	assert_no_frame_ran(counters);
	pp_executor_free(ex);
	assert_no_frame_ran(counters);
	support_counters_free(counters, COUNTERS);
}
END_TEST

// The same out of an initializer: it counts as a crash of that, and the pool breaks.
START_TEST(exception_in_initializer)
{
	quiet_stderr quiet;
	long *counters = support_counters(COUNTERS);
	pp_options options = support_options(1);
	pp_executor *ex;
	pp_future *future;

	options.initializer = throw_error;
	ex = create_inside_try(counters, &options, getpid());
	future = support_submit(ex, task_nothing, nullptr, 0);
	support_assert_kind(future, PP_BROKEN);
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	pp_future_free(future);
	pp_executor_free(ex);
	assert_no_frame_ran(counters);
	support_counters_free(counters, COUNTERS);
}
END_TEST

static Suite *make_suite()
{
	Suite *suite = suite_create("cxx");
	TCase *tcase = support_tcase(suite, "exception");

	tcase_add_loop_test(tcase, crash_fails_only_its_task, 0, count);
	tcase_add_loop_test(tcase, every_task_crashes, 0, count);
	tcase_add_loop_test(tcase, exception_with_application_catch, 0, count);
	tcase_add_test(tcase, exception_caught_inside);
	tcase_add_test(tcase, exception_in_initializer);
	return suite;
}

SUPPORT_MAIN(make_suite)
