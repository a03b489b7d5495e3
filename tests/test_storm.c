/* SPDX-License-Identifier: MIT */
/*
 * Workers that do not last: those that die before their first task come back more and more slowly and never break the
 * pool, and those that a task has made grow are replaced.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include "stage.h"
#include "support.h"

#define MIB ((size_t)1 << 20)

enum { STARTS, STOP, COUNTERS };

static long load(const long *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

/* The worker will be dead a few milliseconds later, unless the storm is over. */
static int initialize_mortal(pp_task *task, const void *data, size_t size)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 3000 } };
	long *counters;

	(void)task;
	memcpy(&counters, data, size);
	__atomic_fetch_add(&counters[STARTS], 1, __ATOMIC_SEQ_CST);
	return load(&counters[STOP]) ? 0 : setitimer(ITIMER_REAL, &soon, NULL);
}

static bool has_started_12(void *counters)
{
	return load((long *)counters + STARTS) >= 12;
}

/* The pauses double from 10 ms on, so the twelfth start, beside a spare each, is more than half a second away: that holds
 * however slow the machine is. Without pauses it is a matter of some ten milliseconds. */
START_TEST(early_deaths_slow_down)
{
	pp_options options = support_options(1);
	long *counters = support_counters(COUNTERS);
	int64_t began = now_ms();
	pp_executor *ex;
	pp_future *future;

	options.flags = PP_START_ALL;            /* so that there is a worker without a task */
	options.initializer = initialize_mortal;
	options.initializer_data = &counters;
	options.initializer_size = sizeof counters;
	ex = support_create(&options);
	support_until(has_started_12, counters, "twelve starts");
	ck_assert_int_ge(now_ms() - began, 500);
	ck_assert_ptr_null(pp_executor_broken(ex));
	__atomic_store_n(&counters[STOP], 1, __ATOMIC_SEQ_CST);
	future = support_submit(ex, task_echo, "after the storm", 16);
	support_outcome(future);                 /* the last mortal one may have taken it with it */
	pp_future_free(future);
	future = support_submit(ex, task_echo, "after the storm", 16);
	support_assert_returned(future, "after the storm", 16);
	pp_future_free(future);
	pp_executor_free(ex);
	support_counters_free(counters, COUNTERS);
}
END_TEST

/* ---- growth */

/* Keeps so many bytes, and returns its pid. */
static int task_keep(pp_task *task, const void *data, size_t size)
{
	size_t bytes;
	void *kept;

	memcpy(&bytes, data, size);
	kept = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (kept == MAP_FAILED)
		return pp_raise(task, 1, "no memory");
	memset(kept, 1, bytes);
	return task_pid(task, NULL, 0);
}

static pid_t pid_of(pp_executor *ex, size_t bytes)
{
	pp_future *future = support_submit(ex, task_keep, PP_BYTES(bytes));
	pid_t pid;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&pid, support_outcome(future)->data, sizeof pid);
	pp_future_free(future);
	return pid;
}

static int finalize_count(pp_task *task, const void *data, size_t size)
{
	long *counters;

	(void)task;
	memcpy(&counters, data, size);
	__atomic_fetch_add(&counters[STOP], 1, __ATOMIC_SEQ_CST);
	return 0;
}

static bool has_one_end(void *counters)
{
	return load((long *)counters + STOP) == 1;
}

/* The figures of the kernel are exact to some hundred KiB. */
START_TEST(growth_replaces_quietly)
{
	pp_options options = support_options(1);
	long *counters = support_counters(COUNTERS);
	pid_t first, second;
	pp_executor *ex;

	options.limits.growth_bytes = 16 * MIB;
	options.finalizer = finalize_count;
	options.initializer_data = &counters;
	options.initializer_size = sizeof counters;
	ex = support_create(&options);
	first = pid_of(ex, 4 * MIB);
	ck_assert_int_eq(pid_of(ex, 4 * MIB), first);
	ck_assert_int_eq(pid_of(ex, 24 * MIB), first);
	second = pid_of(ex, 4 * MIB);
	ck_assert_int_ne(second, first);
	ck_assert_int_eq(pid_of(ex, 4 * MIB), second);
	support_until(has_one_end, counters, "the finalizer of the first");
	pp_executor_free(ex);
	support_counters_free(counters, COUNTERS);
}
END_TEST

/* Each task makes its worker leave, and none is lost. */
START_TEST(growth_with_backlog)
{
	enum { N = 40 };
	pp_options options = support_options(2);
	size_t bytes = 2 * MIB;
	pp_future *futures[N];
	pp_executor *ex;

	options.limits.growth_bytes = 1 * (int64_t)MIB;
	ex = support_create(&options);
	for (int i = 0; i < N; i++)
		futures[i] = support_submit(ex, task_keep, PP_BYTES(bytes));
	for (int i = 0; i < N; i++) {
		support_assert_kind(futures[i], PP_RETURNED);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("storm");
	TCase *tcase = support_tcase(suite, "storm");

	tcase_add_test(tcase, early_deaths_slow_down);
	tcase = support_tcase(suite, "growth");
	tcase_add_test(tcase, growth_replaces_quietly);
	tcase_add_test(tcase, growth_with_backlog);
	return suite;
}

SUPPORT_MAIN(make_suite)
