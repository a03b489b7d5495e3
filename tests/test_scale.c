/* SPDX-License-Identifier: MIT */
/*
 * Large numbers, and races that want many rounds. How fast it is, bench/ says. Check notes each assertion in a file, so
 * loops of a million count what is wrong, and assert once that it is nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "support.h"

#define MILLION 1000000
#define MIB     ((uint64_t)1 << 20)

/* Returns 0; 1 when it could not be submitted. */
static int submit_quietly(pp_executor *ex, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	return pp_submit(ex, fn, data, size, future) != 0;
}

/* Returns 0; 1 when it did not return these bytes. */
static int check_quietly(pp_future *future, const void *data, size_t size)
{
	const pp_outcome *o;

	return pp_future_result(future, SUPPORT_GUARD_MS, &o) != 0 || o->kind != PP_RETURNED || o->size != size
	       || memcmp(o->data, data, size) != 0;
}

/* ---- million_pending */

/* All of them are pending before the first result is read: two tasks at a gate hold both workers meanwhile. */
START_TEST(million_pending)
{
	pp_future **futures = malloc(MILLION * sizeof(pp_future *)), *at_gate[2];
	struct gate gate;
	pp_executor *ex;
	int wrong = 0;

	gate_make(&gate);
	ex = support_executor(2);
	for (int i = 0; i < 2; i++)
		at_gate[i] = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 2);
	for (int i = 0; i < MILLION; i++)
		wrong += submit_quietly(ex, task_echo, &i, sizeof i, &futures[i]);
	ck_assert_int_eq(wrong, 0);
	ck_assert(!pp_future_done(futures[0]));
	gate_open(&gate, 2);
	for (int i = 0; i < MILLION; i++) {
		wrong += check_quietly(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	ck_assert_int_eq(wrong, 0);
	for (int i = 0; i < 2; i++) {
		support_assert_returned(at_gate[i], &gate, sizeof gate);
		pp_future_free(at_gate[i]);
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
	free(futures);
}
END_TEST

/* ---- no_stale_references */

static uint64_t resident_kib(const char *field)
{
	FILE *status = fopen("/proc/self/status", "r");
	unsigned long long kib = 0;
	char line[256];

	while (status && fgets(line, sizeof line, status))
		if (strncmp(line, field, strlen(field)) == 0)
			sscanf(line + strlen(field), " %llu", &kib);
	if (status)
		fclose(status);
	return kib;
}

/* Of the only executor's segment: all, or where the kernel does not let us look what this process has touched. */
static uint64_t shared_bytes(void)
{
	int64_t bytes = support_shared_bytes();

	return bytes < 0 ? resident_kib("RssShmem:") * 1024 : (uint64_t)bytes;
}

/* So many futures with results of all sizes; some are cancelled, some freed before they are done. Returns what is wrong. */
static int make_and_free(pp_executor *ex, int n)
{
	static const size_t sizes[] = { 4, 40, 400, 4000 };
	static char bytes[4000];
	pp_future *futures[1000];
	int wrong = 0;

	for (int done = 0; done < n; done += 1000) {
		for (int i = 0; i < 1000; i++)
			wrong += submit_quietly(ex, task_echo, bytes, sizes[i % 4], &futures[i]);
		for (int i = 0; i < 1000; i++) {
			if (i % 10 == 7)
				pp_future_cancel(futures[i]);
			else if (i % 10 != 3)
				wrong += check_quietly(futures[i], bytes, sizes[i % 4]);
			pp_future_free(futures[i]);
		}
	}
	return wrong;
}

START_TEST(no_stale_references)
{
	pp_executor *ex = support_executor(2);
	uint64_t private_then, shared_then;

	ck_assert_int_eq(make_and_free(ex, MILLION / 10), 0);
	private_then = resident_kib("RssAnon:") * 1024;
	shared_then = shared_bytes();
	ck_assert_uint_gt(private_then, 0);
	ck_assert_uint_gt(shared_then, 0);
	ck_assert_int_eq(make_and_free(ex, MILLION - MILLION / 10), 0);
	ck_assert_uint_le(resident_kib("RssAnon:") * 1024, private_then + MIB);
	ck_assert_uint_le(shared_bytes(), shared_then + 2 * MIB);        /* as far as workers were behind */
	pp_executor_free(ex);
}
END_TEST

/* ---- thousand_every_third_crashes */

static int way_of(int i)
{
	return i / 3 % (DIE_CHILD_RETURNS + 1);
}

static void assert_third(pp_future *future, int i)
{
	int how = way_of(i);

	if (i % 3)
		support_assert_returned(future, &i, sizeof i);
	else if (how == DIE_CHILD_RETURNS)
		support_assert_returned(future, "parent", 6);
	else if (how >= DIE_EXIT0 && how <= DIE_EXEC)
		support_assert_kind(future, PP_EXITED);
	else
		support_assert_kind(future, PP_CRASHED);
}

START_TEST(thousand_every_third_crashes)
{
	pp_executor *ex = support_executor(4);
	pp_future *futures[1000];

	for (int i = 0; i < 1000; i++) {
		int how = way_of(i);
		futures[i] = i % 3 ? support_submit(ex, task_echo, &i, sizeof i) : support_submit(ex, task_die, &how, sizeof how);
	}
	for (int i = 0; i < 1000; i++) {
		assert_third(futures[i], i);
		pp_future_free(futures[i]);
	}
	ck_assert_ptr_null(pp_executor_broken(ex));
	pp_executor_free(ex);
}
END_TEST

/* ---- saturation */

struct load { struct gate gate; long *now, *most; };

static int task_load(pp_task *task, const void *data, size_t size)
{
	const struct load *load = data;
	long now = __atomic_add_fetch(load->now, 1, __ATOMIC_SEQ_CST), most = __atomic_load_n(load->most, __ATOMIC_SEQ_CST);
	int rc;

	while (now > most && !__atomic_compare_exchange_n(load->most, &most, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	rc = gate_pass(&load->gate);
	__atomic_sub_fetch(load->now, 1, __ATOMIC_SEQ_CST);
	return rc ? rc : pp_return(task, data, size);
}

#define WORKERS 4

/* 15 times as many tasks as workers: never more of them at once than there may be, nor more workers. */
START_TEST(saturation)
{
	pp_future *futures[15 * WORKERS];
	struct load load;
	pp_executor *ex;

	gate_make(&load.gate);
	load.now = support_counters(2);
	load.most = load.now + 1;
	ex = support_executor(WORKERS);
	for (int i = 0; i < 15 * WORKERS; i++)
		futures[i] = support_submit(ex, task_load, &load, sizeof load);
	for (int i = 0; i < 15; i++) {
		gate_await(&load.gate, WORKERS);
		ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), WORKERS);
		gate_open(&load.gate, WORKERS);
	}
	for (int i = 0; i < 15 * WORKERS; i++) {
		support_assert_returned(futures[i], &load, sizeof load);
		pp_future_free(futures[i]);
	}
	ck_assert_int_eq(*load.most, WORKERS);
	ck_assert_int_eq(*load.now, 0);
	pp_executor_free(ex);
	support_counters_free(load.now, 2);
	gate_destroy(&load.gate);
}
END_TEST

/* ---- submit_from_threads */

#define PER_THREAD 100000
struct submitter { pp_executor *ex; int number, wrong; };

/* Keeps a window of futures, so that submits, results and frees of all threads mix. */
static void *submitter_main(void *submitter_)
{
	struct submitter *s = submitter_;
	pp_future *window[64] = { NULL };

	for (int i = 0; i < PER_THREAD + 64; i++) {
		pp_future **at = &window[i % 64];
		int value[2] = { s->number, i - 64 };
		if (*at) {
			s->wrong += check_quietly(*at, value, sizeof value);
			pp_future_free(*at);
			*at = NULL;
		}
		value[1] = i;
		if (i < PER_THREAD)
			s->wrong += submit_quietly(s->ex, task_echo, value, sizeof value, at);
	}
	return NULL;
}

START_TEST(submit_from_threads)
{
	pp_executor *ex = support_executor(2);
	struct submitter submitters[4];
	pthread_t threads[4];

	for (int i = 0; i < 4; i++) {
		submitters[i] = (struct submitter){ .ex = ex, .number = i };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, submitter_main, &submitters[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(submitters[i].wrong, 0);
	}
	pp_executor_free(ex);
}
END_TEST

/* ---- shutdown */

/* CPython issue 12364: 50 queued tasks, and a shutdown that used to hang: all complete. */
START_TEST(hang_issue12364)
{
	pp_executor *ex = support_executor(2);
	pp_future *futures[50];

	for (int i = 0; i < 50; i++)
		futures[i] = support_submit(ex, task_echo, &i, sizeof i);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < 50; i++) {
		ck_assert(pp_future_done(futures[i]));
		support_assert_returned(futures[i], &i, sizeof i);
		pp_future_free(futures[i]);
	}
	pp_executor_free(ex);
}
END_TEST

/* CPython issue 12456: one task more than workers, and shutdown at once, while workers are only just starting. */
START_TEST(shutdown_race_issue12456)
{
	for (int round = 0; round < 60; round++) {
		pp_executor *ex = support_executor(2);
		pp_future *futures[3];
		for (int i = 0; i < 3; i++)
			futures[i] = support_submit(ex, task_echo, &i, sizeof i);
		if (round % 2)
			ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
		else
			ck_assert_int_eq(pp_executor_shutdown(ex, 0, 0), 0);
		for (int i = 0; i < 3; i++) {
			support_assert_returned(futures[i], &i, sizeof i);
			pp_future_free(futures[i]);
		}
		pp_executor_free(ex);
	}
}
END_TEST

static bool has_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) == 0 && (uint64_t)info.totalram * info.mem_unit >= 2048 * MIB;
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("scale");
	TCase *numbers = support_tcase(suite, "numbers"), *races = support_tcase(suite, "races");

	if (has_memory())
		tcase_add_test(numbers, million_pending);
	else
		support_skip("million_pending", "less than 2 GiB of memory");
	if (support_sanitized())
		support_skip("no_stale_references", "sanitizers keep freed memory");
	else
		tcase_add_test(numbers, no_stale_references);
	tcase_add_test(numbers, thousand_every_third_crashes);
	tcase_add_test(numbers, saturation);
	tcase_add_test(races, submit_from_threads);
	tcase_add_test(races, hang_issue12364);
	tcase_add_test(races, shutdown_race_issue12456);
	return suite;
}

SUPPORT_MAIN(make_suite)
