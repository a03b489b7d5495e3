/* SPDX-License-Identifier: MIT */
/* Section 5 of the contract: crashes at inconvenient moments. What each way of dying is reported as: test_crash.c. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"

#define BIG ((size_t)64 << 20)

static pp_future *submit_death(pp_executor *ex, int how)
{
	return support_submit(ex, task_die, &how, sizeof how);
}

/* ---- crash_big_data */

static void fill(unsigned char *bytes, unsigned seed)
{
	for (size_t i = 0; i < BIG; i += sizeof(uint64_t)) {
		uint64_t value = i * 2654435761u + seed;
		memcpy(bytes + i, &value, sizeof value);
	}
}

enum moment { KILLED_WHILE, CRASHED_WHILE, CRASHED_AFTER, MOMENTS };
struct big { struct gate gate; unsigned seed; enum moment moment; };

static void *crash_soon(void *gate)
{
	gate_pass(gate);
	raise(SIGSEGV);
	return NULL;
}

/*
 * Builds 64 MiB and stores them again and again, so that the end comes while they are being written: by SIGKILL from the
 * parent, or by a thread of its own; or stores them once, and crashes before it returns.
 */
static int task_big_for_ever(pp_task *task, const void *data, size_t size)
{
	static struct big big;
	unsigned char *bytes = malloc(BIG);
	pthread_t thread;
	char byte = 0;
	int rc;

	if (!bytes || size != sizeof big)
		return 1;
	memcpy(&big, data, size);
	fill(bytes, big.seed);
	if (big.moment == CRASHED_WHILE && pthread_create(&thread, NULL, crash_soon, &big.gate) != 0)
		return 2;
	if (big.moment != CRASHED_WHILE && write(big.gate.arrive[1], &byte, 1) != 1)
		return 3;
	do
		rc = pp_return(task, bytes, BIG);
	while (rc == 0 && big.moment != CRASHED_AFTER);
	if (rc == 0)
		raise(SIGSEGV);
	return rc;
}

static int task_big(pp_task *task, const void *data, size_t size)
{
	unsigned char *bytes = malloc(BIG);
	unsigned seed;
	int rc;

	if (!bytes || size != sizeof seed)
		return 1;
	memcpy(&seed, data, size);
	fill(bytes, seed);
	rc = pp_return(task, bytes, BIG);
	free(bytes);
	return rc;
}

static void assert_big_works(pp_executor *ex, unsigned char *expected, unsigned seed)
{
	pp_future *future = support_submit(ex, task_big, &seed, sizeof seed);

	fill(expected, seed);
	support_assert_returned(future, expected, BIG);
	pp_future_free(future);
}

static void die_with_big(pp_executor *ex, struct big *big)
{
	pp_future *future = support_submit(ex, task_big_for_ever, big, sizeof *big);
	pid_t pids[2] = { 0, 0 };

	gate_await(&big->gate, 1);
	ck_assert_int_eq(pp_executor_workers(ex, pids, 2), 1);
	if (big->moment == CRASHED_WHILE)
		gate_open(&big->gate, 1);
	if (big->moment == KILLED_WHILE)
		kill(pids[0], SIGKILL);
	support_assert_kind(future, PP_CRASHED);
	ck_assert_int_eq(support_outcome(future)->signal, big->moment == KILLED_WHILE ? SIGKILL : SIGSEGV);
	ck_assert_uint_eq(support_outcome(future)->size, 0);
	pp_future_free(future);
}

/* A result in the making is never seen, and its room is used again. */
START_TEST(crash_big_data)
{
	unsigned char *expected = malloc(BIG);
	struct big big = { .seed = 1 };
	pp_executor *ex;

	gate_make(&big.gate);
	ex = support_executor(1);
	for (int i = 0; i < MOMENTS; i++) {
		big.moment = i % MOMENTS;
		die_with_big(ex, &big);
		assert_big_works(ex, expected, (unsigned)i);
		/* One of the living, one of the dead, one of a dead that is not confirmed to be so; and what else there is. */
		ck_assert_int_lt(support_shared_bytes(), (int64_t)(4 * BIG));
	}
	pp_executor_free(ex);
	gate_destroy(&big.gate);
	free(expected);
}
END_TEST

/* ---- crash_in_initializer */

struct unlucky { long *counter; long crashes; int how; };

/* Dies the first crashes times; then is fine. */
static int initialize_unlucky(pp_task *task, const void *data, size_t size)
{
	const struct unlucky *unlucky = data;

	(void)size;
	if (__atomic_fetch_add(unlucky->counter, 1, __ATOMIC_SEQ_CST) >= unlucky->crashes)
		return 0;
	return task_die(task, &unlucky->how, sizeof unlucky->how);
}

static pp_executor *unlucky_executor(struct unlucky *unlucky, int32_t attempts)
{
	pp_options options = support_options(1);

	unlucky->counter = support_counters(1);
	options.start_attempts = attempts;
	options.initializer = initialize_unlucky;
	options.initializer_data = unlucky;
	options.initializer_size = sizeof *unlucky;
	return support_create(&options);
}

START_TEST(crash_in_initializer)
{
	static const int ways[] = { DIE_SEGV, DIE_KILL, DIE_EXIT99, DIE_ABRT };
	static const int32_t attempts[] = { 0, 1, 3, 5 };

	for (int i = 0; i < 4; i++) {
		struct unlucky unlucky = { .crashes = 1000, .how = ways[i] };
		pp_executor *ex = unlucky_executor(&unlucky, attempts[i]);
		pp_future *future = support_submit(ex, task_nothing, NULL, 0), *next = future;
		support_assert_kind(future, PP_BROKEN);
		ck_assert_int_eq(*unlucky.counter, attempts[i] ? attempts[i] : 3);
		ck_assert_ptr_nonnull(pp_executor_broken(ex));
		ck_assert_msg(strstr(pp_executor_broken(ex)->message, "initializer"), "%s", pp_executor_broken(ex)->message);
		ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, &next), -EPIPE);
		ck_assert_ptr_null(next);
		pp_future_free(future);
		pp_executor_free(ex);
		support_counters_free(unlucky.counter, 1);
	}
}
END_TEST

/* One less than the pool would break at. And what counts is a row: after a start that went well it begins anew. */
START_TEST(crash_in_initializer_then_luck)
{
	struct unlucky unlucky = { .crashes = 2, .how = DIE_SEGV };
	pp_executor *ex = unlucky_executor(&unlucky, 3);

	ck_assert_int_ne(support_run_for_pid(ex), 0);
	ck_assert_int_eq(__atomic_load_n(unlucky.counter, __ATOMIC_SEQ_CST), 3);
	for (int i = 0; i < 5; i++) {
		pp_future *future = submit_death(ex, DIE_KILL);
		support_assert_kind(future, PP_CRASHED);
		pp_future_free(future);
		ck_assert_int_ne(support_run_for_pid(ex), 0);
	}
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
	support_counters_free(unlucky.counter, 1);
}
END_TEST

/* ---- crash_in_callback_chain */

struct chain { pp_executor *ex; atomic_int links, wrong; atomic_bool ended; };
#define LINKS 100

/* Each link checks that its task crashed, and submits the next one, which does so too. */
static void next_link(pp_future *future, void *chain_)
{
	struct chain *chain = chain_;
	const pp_outcome *outcome = NULL;
	int how = chain->links % 3 == 0 ? DIE_SEGV : chain->links % 3 == 1 ? DIE_KILL : DIE_ABRT;
	pp_future *next = NULL;

	if (pp_future_result(future, 0, &outcome) != 0 || outcome->kind != PP_CRASHED)
		chain->wrong++;
	pp_future_free(future);
	if (++chain->links == LINKS || pp_submit(chain->ex, task_die, &how, sizeof how, &next) != 0
	    || pp_future_add_done_callback(next, next_link, chain) != 0)
		chain->ended = true;
}

static bool has_ended(void *chain)
{
	return ((struct chain *)chain)->ended;
}

START_TEST(crash_in_callback_chain)
{
	struct chain chain = { .ex = support_executor(2) };

	ck_assert_int_eq(pp_future_add_done_callback(submit_death(chain.ex, DIE_SEGV), next_link, &chain), 0);
	support_until(has_ended, &chain, "the end of the chain");
	ck_assert_int_eq(chain.links, LINKS);
	ck_assert_int_eq(chain.wrong, 0);
	pp_executor_free(chain.ex);
}
END_TEST

/* ---- crash_during_shutdown */

/* All workers at a gate when shutdown begins; then each dies, and so does what waits. */
static int task_gate_then_die(pp_task *task, const void *data, size_t size)
{
	int how = DIE_SEGV;

	if (task_gate(task, data, size) != 0)
		return 1;
	return task_die(task, &how, sizeof how);
}

START_TEST(crash_during_shutdown)
{
	pp_future *futures[12];
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	ex = support_executor(3);
	for (int i = 0; i < 9; i++)
		futures[i] = support_submit(ex, task_gate_then_die, &gate, sizeof gate);
	for (int i = 9; i < 12; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	gate_await(&gate, 3);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, 0), -ETIMEDOUT);
	gate_open(&gate, 9);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < 12; i++) {
		ck_assert(pp_future_done(futures[i]));
		if (i < 9)
			support_assert_kind(futures[i], PP_CRASHED);
		else
			support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* ---- crash_beside_busy_cpu */

#define HOGS 3

static void hogs_start(pid_t *pids)
{
	for (int i = 0; i < HOGS; i++) {
		pids[i] = fork();
		ck_assert_int_ge(pids[i], 0);
		if (pids[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);        /* also when the test fails */
		for (volatile unsigned n = 0; ; n++)
			;
	}
}

static void hogs_stop(const pid_t *pids)
{
	for (int i = 0; i < HOGS; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
}

/* One CPU for everything, and others want it: deaths take long to be confirmed, and new ones come meanwhile. */
START_TEST(crash_beside_busy_cpu)
{
	cpu_set_t all, one;
	pp_future *futures[60];
	pid_t hogs[HOGS];
	pp_executor *ex;

	ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
	hogs_start(hogs);
	ex = support_executor(2);
	for (int i = 0; i < 60; i++)
		futures[i] = submit_death(ex, i % 2 ? DIE_SEGV : DIE_EXIT99);
	for (int i = 0; i < 60; i++) {
		support_assert_kind(futures[i], i % 2 ? PP_CRASHED : PP_EXITED);
		ck_assert_int_eq(support_outcome(futures[i])->signal, i % 2 ? SIGSEGV : 0);
		pp_future_free(futures[i]);
	}
	ck_assert_int_ne(support_run_for_pid(ex), 0);
	ck_assert_ptr_null(pp_executor_broken(ex));
	hogs_stop(hogs);
	pp_executor_free(ex);
	ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("crash_more");
	TCase *tcase = support_tcase(suite, "moments");

	tcase_add_test(tcase, crash_big_data);
	tcase_add_test(tcase, crash_in_initializer);
	tcase_add_test(tcase, crash_in_initializer_then_luck);
	tcase_add_test(tcase, crash_in_callback_chain);
	tcase_add_test(tcase, crash_during_shutdown);
	tcase_add_test(tcase, crash_beside_busy_cpu);
	return suite;
}

SUPPORT_MAIN(make_suite)
