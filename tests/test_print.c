/* SPDX-License-Identifier: MIT */
/*
 * The report that a person pastes into a bug report: what is in it, for each way to end, and that nothing in it depends on
 * what a task has left in shared memory.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "plant.h"
#include "support.h"

static char report[65536];

static const char *print(const pp_outcome *o)
{
	FILE *file = fmemopen(report, sizeof report, "w");

	memset(report, 0, sizeof report);
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(pp_outcome_print(o, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	return report;
}

static void assert_has(const char *part)
{
	ck_assert_msg(strstr(report, part) != NULL, "\"%s\" is not in:\n%s", part, report);
}

static void assert_has_not(const char *part)
{
	ck_assert_msg(strstr(report, part) == NULL, "\"%s\" is in:\n%s", part, report);
}

static pp_future *submit_named(pp_executor *ex, const char *name, pp_fn *fn, const void *data, size_t size)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.name = name;
	ck_assert_int_eq(pp_submit_with(ex, &options, fn, data, size, &future), 0);
	return future;
}

static int task_talk_and_crash(pp_task *task, const void *data, size_t size)
{
	printf("the last words\n\033[31mof it\n");
	return task_plant(task, data, size);
}

START_TEST(report_of_a_crash)
{
	int which = PLANT_SEGV;
	pp_options options = support_options(1);
	const pp_postmortem *p;
	pp_executor *ex;
	pp_future *future;
	char line[100];

	options.flags |= PP_CAPTURE;
	ex = support_create(&options);
	future = submit_named(ex, "the one that crashes", task_talk_and_crash, &which, sizeof which);
	print(support_outcome(future));          /* perhaps before there is a post-mortem: it waits for none */
	assert_has("task \"the one that crashes\" crashed: SIGSEGV: address not mapped at 0x10\n");
	ck_assert_int_eq(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p), 0);
	print(support_outcome(future));
	snprintf(line, sizeof line, "worker        0, pid %d, attempt 1", (int)support_outcome(future)->pid);
	assert_has(line);
	assert_has("fault address 0x10\n");
	assert_has("worker process ended by signal 11, no core, CPU ");
	assert_has("output (the last ");
	assert_has("  | the last words\n  | \\x1b[31mof it\n");
#if defined __x86_64__
	assert_has("  registers     rax ");
	assert_has("rip ");
#endif
#ifdef HAVE_LIBDW
	snprintf(line, sizeof line, "%s at %s:%d", plant_facts[which].function, p->frames[0].file, plant_facts[which].line);
	assert_has("  #0   0x");
	assert_has(line);
#endif
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(report_of_an_endless_recursion)
{
	int which = PLANT_STACK;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &which, sizeof which);
	const pp_postmortem *p;

	ck_assert_int_eq(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p), 0);
	print(support_outcome(future));
	assert_has("SIGSEGV: stack overflow at 0x");
#ifdef HAVE_LIBDW
	assert_has("backtrace (deeper frames are left out)\n");
	assert_has("times more\n");
#endif
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(report_of_other_ends)
{
	int deaths[] = { DIE_KILL, DIE_EXIT99 };
	const pp_postmortem *p;
	struct gate gate;
	pp_executor *ex;
	pp_future *future, *killed, *cancelled;

	gate_make(&gate);
	ex = support_executor(1);
	for (int i = 0; i < 2; i++) {
		future = support_submit(ex, task_die, &deaths[i], sizeof deaths[i]);
		ck_assert_int_eq(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p), 0);
		print(support_outcome(future));
		assert_has(i ? "task \"\" exited: exited with status 99\n" : "task \"\" crashed: SIGKILL: Killed\n");
		assert_has(i ? "worker process exited with status 99, CPU" : "worker process ended by signal 9, no core");
		assert_has_not("registers");
		assert_has_not("  #");
		pp_future_free(future);
	}
	future = submit_named(ex, "a\nb", task_raise, NULL, 0);
	print(support_outcome(future));
	assert_has("raised 7: raised on purpose\n");
	assert_has_not("worker process");
	pp_future_free(future);
	killed = support_submit(ex, task_gate, &gate, sizeof gate);
	cancelled = support_submit(ex, task_nothing, NULL, 0);
	gate_await(&gate, 1);
	ck_assert(pp_future_cancel(cancelled));
	print(support_outcome(cancelled));
	assert_has("cancelled: cancelled before it started\n");
	assert_has_not("  ran ");
	ck_assert_int_eq(pp_future_kill(killed), 0);
	ck_assert_int_eq(pp_future_postmortem(killed, SUPPORT_GUARD_MS, &p), 0);
	print(support_outcome(killed));
	assert_has("killed: killed on request\n");
	assert_has("worker process ended by signal 9");
	pp_future_free(killed);
	pp_future_free(cancelled);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(report_of_a_broken_pool)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	kill(support_supervisor(), SIGKILL);
	support_assert_kind(future, PP_BROKEN);
	print(support_outcome(future));
	assert_has("broken: the supervisor is gone\n");
	print(pp_executor_broken(ex));
	assert_has("broken: the supervisor is gone\n");
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(report_of_earlier_attempts)
{
	int which = PLANT_FPE;
	pp_executor *ex = support_executor(1);
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	const char *first;
	pp_future *future;

	options.retries = 2;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_plant, &which, sizeof which, &future), 0);
	print(support_outcome(future));
	assert_has("attempt 3\n");
	first = strstr(report, "attempt before: crashed: ");
	ck_assert_msg(first && strstr(first, "attempt 2, ") && strstr(first + 1, "attempt before: crashed: "), "%s", report);
	ck_assert_msg(strstr(first, "attempt 1, ") > strstr(first, "attempt 2, "), "%s", report);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int next_plant(const void **data, size_t *size, void *left)
{
	static const int which = PLANT_FPE;

	*data = &which;
	*size = sizeof which;
	return (*(int *)left)-- > 0;
}

/* An item of a map has no future that anybody could ask. */
START_TEST(report_of_an_item_of_a_map)
{
	pp_executor *ex = support_executor(1);
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	const pp_outcome *o;
	pp_map *map;
	int left = 3;

	options.chunk = 3;
	ck_assert_int_eq(pp_map_create(ex, &options, task_plant, next_plant, &left, &map), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(pp_map_next(map, NULL, &o), 1);
		print(o);
		assert_has("crashed: SIGFPE: integer divide by zero\n");
		assert_has("instruction   0x");
	}
	ck_assert_int_eq(pp_map_next(map, NULL, &o), 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

START_TEST(report_of_bad_calls)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	FILE *full = fopen("/dev/full", "w");

	ck_assert_int_eq(pp_outcome_print(NULL, stdout), -EINVAL);
	ck_assert_int_eq(pp_outcome_print(support_outcome(future), NULL), -EINVAL);
	ck_assert_ptr_nonnull(full);
	setvbuf(full, NULL, _IONBF, 0);
	ck_assert_int_eq(pp_outcome_print(support_outcome(future), full), -EIO);
	fclose(full);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("print");
	TCase *tcase = support_tcase(suite, "print");

	tcase_add_test(tcase, report_of_a_crash);
	tcase_add_test(tcase, report_of_an_endless_recursion);
	tcase_add_test(tcase, report_of_other_ends);
	tcase_add_test(tcase, report_of_a_broken_pool);
	tcase_add_test(tcase, report_of_earlier_attempts);
	tcase_add_test(tcase, report_of_an_item_of_a_map);
	tcase_add_test(tcase, report_of_bad_calls);
	return suite;
}

SUPPORT_MAIN(make_suite)
