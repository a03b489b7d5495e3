/* SPDX-License-Identifier: MIT */
/* What a task used, in its outcome. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "support.h"

#define MEGABYTE ((size_t)1 << 20)
#define BURN_NS  20000000
#define NOT_KNOWN UINT64_MAX

static pp_executor *accounting(int n, unsigned flags)
{
	pp_options options = support_options(n);

	options.flags = PP_ACCOUNTING | flags;
	return support_create(&options);
}

/* Until the kernel says that this process has used so much more CPU time. */
static int task_burns(pp_task *task, const void *data, size_t size)
{
	struct timespec t;
	int64_t start = -1, now;

	(void)task;
	(void)data;
	(void)size;
	do {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
		now = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
		start = start < 0 ? now : start;
	} while (now - start < BURN_NS);
	return 0;
}

/* Touches data megabytes of fresh memory, page by page. */
static int task_touches(pp_task *task, const void *data, size_t size)
{
	size_t megabytes, bytes;
	char *room;

	(void)task;
	memcpy(&megabytes, data, size);
	bytes = megabytes * MEGABYTE;
	room = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return ENOMEM;
	madvise(room, bytes, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < bytes; i += 4096)
		room[i] = 1;
	munmap(room, bytes);
	return 0;
}

static int task_yields(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	for (int i = 0; i < 20; i++)
		usleep(100);
	return 0;
}

static const pp_outcome *run(pp_executor *ex, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	*future = support_submit(ex, fn, data, size);
	return support_outcome(*future);
}

START_TEST(accounting_of_each_task)
{
	pp_executor *ex = accounting(1, 0);
	size_t megabytes = 64;
	pp_future *burns, *touches, *yields, *nothing;
	const pp_outcome *o = run(ex, task_burns, NULL, 0, &burns);

	ck_assert_uint_ge(o->cpu_ns, BURN_NS / 2);
	ck_assert_uint_lt(o->cpu_ns, UINT64_C(20) * BURN_NS);
	o = run(ex, task_touches, PP_BYTES(megabytes), &touches);
	ck_assert_uint_ge(o->faults, 64 * 256);
	ck_assert_uint_ge(o->peak_rss, 64 * MEGABYTE);
	o = run(ex, task_yields, NULL, 0, &yields);
	ck_assert_uint_ge(o->switches, 20);
	ck_assert_uint_lt(o->faults, 64 * 256);
	o = run(ex, task_nothing, NULL, 0, &nothing);
	ck_assert_uint_lt(o->cpu_ns, BURN_NS / 2);
	ck_assert_uint_lt(o->faults, 64 * 256);
	ck_assert_uint_ge(o->peak_rss, 64 * MEGABYTE);   /* of the process, as documented */
	ck_assert_uint_ne(o->peak_rss, NOT_KNOWN);
	pp_future_free(burns);
	pp_future_free(touches);
	pp_future_free(yields);
	pp_future_free(nothing);
	pp_executor_free(ex);
}
END_TEST

static void assert_known(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int kind, bool known)
{
	pp_future *future;
	const pp_outcome *o = run(ex, fn, data, size, &future);

	ck_assert_int_eq(o->kind, kind);
	ck_assert((o->cpu_ns != NOT_KNOWN) == known && (o->peak_rss != NOT_KNOWN) == known);
	ck_assert((o->faults != NOT_KNOWN) == known && (o->switches != NOT_KNOWN) == known);
	pp_future_free(future);
}

/* Whoever is still there to say it says it; nothing of the slot's last task is taken for this one's. */
START_TEST(accounting_of_each_kind)
{
	pp_executor *ex = accounting(1, 0);

	for (int i = 0; i < 2; i++) {
		assert_known(ex, task_nothing, NULL, 0, PP_RETURNED, true);
		assert_known(ex, task_raise, NULL, 0, PP_RAISED, true);
		assert_known(ex, task_die, PP_BYTES((enum death){ DIE_ABRT }), PP_CRASHED, true);
		assert_known(ex, task_die, PP_BYTES((enum death){ DIE_EXIT99 }), PP_EXITED, true);
		assert_known(ex, task_die, PP_BYTES((enum death){ DIE_KILL }), PP_CRASHED, false);
		assert_known(ex, task_die, PP_BYTES((enum death){ DIE__EXIT }), PP_EXITED, false);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(accounting_off)
{
	pp_executor *ex = support_executor(1);

	assert_known(ex, task_nothing, NULL, 0, PP_RETURNED, false);
	assert_known(ex, task_die, PP_BYTES((enum death){ DIE_ABRT }), PP_CRASHED, false);
	pp_executor_free(ex);
}
END_TEST

START_TEST(accounting_of_cancelled)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *running, *pending;

	gate_make(&gate);
	ex = accounting(1, 0);
	running = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	pending = support_submit(ex, task_nothing, NULL, 0);
	ck_assert(pp_future_cancel(pending));
	ck_assert_uint_eq(support_outcome(pending)->cpu_ns, NOT_KNOWN);
	gate_open(&gate, 1);
	ck_assert_uint_ne(support_outcome(running)->cpu_ns, NOT_KNOWN);
	pp_future_free(running);
	pp_future_free(pending);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("accounting");
	TCase *accounting_case = support_tcase(suite, "accounting");

	tcase_add_test(accounting_case, accounting_of_each_task);
	tcase_add_test(accounting_case, accounting_of_each_kind);
	tcase_add_test(accounting_case, accounting_off);
	tcase_add_test(accounting_case, accounting_of_cancelled);
	return suite;
}

SUPPORT_MAIN(make_suite)
