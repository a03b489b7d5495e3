/* SPDX-License-Identifier: MIT */
/* Large numbers, continued: of futures that nobody waits for, that are cancelled or crash; and submits beside a shutdown. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "stage.h"

#define MIB ((uint64_t)1 << 20)

/* A backlog that shutdown cancels, instead of running it. */
START_TEST(million_pending_cancelled)
{
	int n = support_many(1000000), cancelled = 0;
	pp_future **futures = calloc((size_t)n, sizeof *futures);
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < n; i++)
		futures[i] = support_submit(stage.ex, task_echo, &i, sizeof i);
	ck_assert_int_eq(pp_executor_shutdown(stage.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	for (int i = 0; i < n; i++) {
		cancelled += pp_future_cancelled(futures[i]);
		pp_future_free(futures[i]);
	}
	ck_assert_int_eq(cancelled, n);
	ck_assert(pp_future_running(stage.running));
	stage_free(&stage);
	free(futures);
}
END_TEST

/* A backlog that its owner cancels, in an order of its own; what is left over is run. */
START_TEST(backlog_half_cancelled)
{
	int n = support_many(200000);
	pp_future **futures = calloc((size_t)n, sizeof *futures);
	struct stage stage;

	stage_make(&stage, 0);
	for (int i = 0; i < n; i++)
		futures[i] = support_submit(stage.ex, task_echo, &i, sizeof i);
	for (int i = n - 1; i >= 0; i -= 2)
		ck_assert(pp_future_cancel(futures[i]));
	stage_let_go(&stage);
	for (int i = 0; i < n; i++) {
		if ((n - 1 - i) % 2 == 0)
			ck_assert(pp_future_cancelled(futures[i]));
		else
			support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	stage_free(&stage);
	free(futures);
}
END_TEST

/* ---- no_stale_references_of_others */

struct usage { uint64_t resident, shared; };

/* shared: what the only executor's segment has; 0 where the kernel does not let us look. */
static struct usage usage_now(void)
{
	FILE *maps = fopen("/proc/self/maps", "r"), *statm = fopen("/proc/self/statm", "r");
	unsigned long from, to, pages = 0;
	struct usage usage = { 0, 0 };
	char line[512], path[128];
	struct stat st;

	ck_assert(maps && statm);
	ck_assert_int_eq(fscanf(statm, "%*u %lu", &pages), 1);
	usage.resident = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
	while (fgets(line, sizeof line, maps)) {
		if (!strstr(line, "/dev/shm/") && !strstr(line, "/memfd:procpool"))
			continue;
		ck_assert_int_eq(sscanf(line, "%lx-%lx", &from, &to), 2);
		snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", from, to);
		if (stat(path, &st) == 0)
			usage.shared = (uint64_t)st.st_blocks * 512;
	}
	fclose(maps);
	fclose(statm);
	return usage;
}

/* Stores a result, which is never published, and dies; every other by a signal that nothing can catch. */
static int task_stores_and_dies(pp_task *task, const void *data, size_t size)
{
	int way;

	if (pp_return(task, data, size) != 0)
		return 1;
	memcpy(&way, data, sizeof way);
	raise(way % 2 ? SIGKILL : SIGSEGV);
	return 2;
}

static void use_and_lose(pp_executor *ex, int rounds)
{
	static char bytes[70000];        /* more than small units are for */
	static const size_t sizes[] = { 8, 100, 1000, 70000 };

	for (int i = 0; i < rounds; i++) {
		pp_future *dying, *raised;
		size_t size = sizes[i / 2 % 4];
		memcpy(bytes, &i, sizeof i);
		dying = support_submit(ex, task_stores_and_dies, bytes, size);
		raised = support_submit(ex, task_raise, bytes, size);
		for (int k = 0; k < 20; k++)
			ck_assert_int_eq(pp_submit(ex, task_echo, bytes, sizes[k % 4], NULL), 0);
		support_assert_kind(dying, PP_CRASHED);
		support_assert_kind(raised, PP_RAISED);
		pp_future_free(dying);
		pp_future_free(raised);
	}
}

/* Whoever waits for a task after which there is none: everything before it is over, and has been recycled. */
static void let_settle(pp_executor *ex)
{
	for (int i = 0; i < 100; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
	}
}

/* Detached tasks, such as raise, and such as take their worker along, with results of all sizes. */
START_TEST(no_stale_references_of_others)
{
	pp_executor *ex = support_executor(2);
	struct usage early, late;

	use_and_lose(ex, support_many(400));
	let_settle(ex);
	early = usage_now();
	use_and_lose(ex, support_many(1200));
	let_settle(ex);
	late = usage_now();
	ck_assert_uint_le(late.resident, early.resident + 4 * MIB);      /* what is in flight at once varies */
	ck_assert_uint_le(late.shared, early.shared + 8 * MIB);
	pp_executor_free(ex);
}
END_TEST

/* ---- submit_races_shutdown */

#define MOST_TASKS 50000

struct flood { pp_executor *ex; int refusal; atomic_int submitted; int wrong; pthread_t thread; };

static bool has_ended_well(const struct flood *flood, pp_future *future, int i)
{
	const pp_outcome *outcome;

	if (pp_future_result(future, SUPPORT_GUARD_MS, &outcome) != 0)
		return false;
	if (outcome->kind == PP_BROKEN)
		return flood->refusal == -EPIPE;
	return outcome->kind == PP_RETURNED && outcome->size == sizeof i && memcmp(outcome->data, &i, sizeof i) == 0;
}

/* Submits until it is refused. What was accepted must return, however close to the end it was. Asserts nothing: Check
 * wants that from the main thread. */
static void *flood_main(void *flood_)
{
	struct flood *flood = flood_;
	pp_future **futures = calloc(MOST_TASKS, sizeof *futures);
	int n = 0, rc = 0;

	while (n < MOST_TASKS && (rc = pp_submit(flood->ex, task_echo, &n, sizeof n, &futures[n])) == 0)
		flood->submitted = ++n;
	flood->wrong = n < MOST_TASKS && rc != flood->refusal;
	for (int i = 0; i < n; i++) {
		flood->wrong += !has_ended_well(flood, futures[i], i);
		pp_future_free(futures[i]);
	}
	free(futures);
	return NULL;
}

static bool has_begun(void *flood)
{
	return ((struct flood *)flood)->submitted > 10;
}

static void floods_start(struct flood *floods, int refusal)
{
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < 2; i++) {
		floods[i] = (struct flood){ .ex = ex, .refusal = refusal };
		ck_assert_int_eq(pthread_create(&floods[i].thread, NULL, flood_main, &floods[i]), 0);
	}
	for (int i = 0; i < 2; i++)
		support_until(has_begun, &floods[i], "some tasks");
}

static void floods_end(struct flood *floods)
{
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(floods[i].thread, NULL), 0);
		ck_assert_int_eq(floods[i].wrong, 0);
	}
	pp_executor_free(floods[0].ex);
}

START_TEST(submit_races_shutdown)
{
	struct flood floods[2];

	for (int round = 0; round < support_many(40); round++) {
		floods_start(floods, -ESHUTDOWN);
		ck_assert_int_eq(pp_executor_shutdown(floods[0].ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
		floods_end(floods);
	}
}
END_TEST

/* The same, but the supervisor dies instead: each one that was accepted ends, as returned or as broken. */
START_TEST(submit_races_broken_pool)
{
	struct flood floods[2];

	for (int round = 0; round < support_many(30); round++) {
		floods_start(floods, -EPIPE);
		ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
		floods_end(floods);
	}
}
END_TEST

/* ---- crash_on_busy_cpu */

static void *spin_main(void *stop)
{
	while (!*(atomic_bool *)stop)
		;
	return NULL;
}

/*
 * One CPU for everything, and three threads that never leave it: the dead take their time to go, and there are more of
 * them than workers. That is no reason for a pool to break.
 */
START_TEST(crash_on_busy_cpu)
{
	static const int ways[] = { DIE_SEGV, DIE_ABRT, DIE_EXIT99 };
	atomic_bool stop = false;
	pthread_t threads[3];
	pp_future *futures[9];
	cpu_set_t all, one;
	pp_executor *ex;

	ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, spin_main, &stop), 0);
	ex = support_executor(_i);
	for (int i = 0; i < 9; i++)
		futures[i] = support_submit(ex, task_die, &ways[i % 3], sizeof *ways);
	for (int i = 0; i < 9; i++) {
		support_assert_kind(futures[i], i % 3 == 2 ? PP_EXITED : PP_CRASHED);
		pp_future_free(futures[i]);
	}
	ck_assert_ptr_null(pp_executor_broken(ex));
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	pp_executor_free(ex);
	ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("scale_more");
	TCase *numbers = support_tcase(suite, "numbers"), *races = support_tcase(suite, "races");

	if (sysconf(_SC_PHYS_PAGES) < (2L << 30) / sysconf(_SC_PAGESIZE))
		support_skip("million_pending_cancelled", "less than 2 GiB of memory");
	else
		tcase_add_test(numbers, million_pending_cancelled);
	tcase_add_test(numbers, backlog_half_cancelled);
	tcase_add_test(numbers, no_stale_references_of_others);
	tcase_add_test(races, submit_races_shutdown);
	tcase_add_test(races, submit_races_broken_pool);
	tcase_add_loop_test(races, crash_on_busy_cpu, 1, 2);
	return suite;
}

SUPPORT_MAIN(make_suite)
