/* SPDX-License-Identifier: MIT */
/*
 * What the options of an executor put around its workers: priority, CPUs, environment, directory and name.
 * The application itself keeps what it has. Limits are in test_rlimits.c.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "support.h"

/* What a worker sees of its surroundings. */
struct view { char name[16], directory[200], home[32], given[32]; int nice; cpu_set_t cpus; };

static int look(struct view *view)
{
	const char *home = getenv("HOME"), *given = getenv("GIVEN");

	memset(view, 0, sizeof *view);
	snprintf(view->home, sizeof view->home, "%s", home ? home : "none");
	snprintf(view->given, sizeof view->given, "%s", given ? given : "none");
	view->nice = getpriority(PRIO_PROCESS, 0);
	if (!getcwd(view->directory, sizeof view->directory) || prctl(PR_GET_NAME, view->name) < 0
	    || sched_getaffinity(0, sizeof view->cpus, &view->cpus) < 0)
		return errno;
	return 0;
}

static int task_look(pp_task *task, const void *data, size_t size)
{
	struct view view;
	int error = look(&view);

	(void)data;
	(void)size;
	return error ? pp_raise(task, error, "cannot look") : pp_return(task, PP_BYTES(view));
}

/* The view of one worker of an executor with these options. */
static struct view view_with(const pp_options *options)
{
	pp_executor *ex = support_create(options);
	pp_future *future = support_submit(ex, task_look, NULL, 0);
	struct view view;

	support_assert_kind(future, PP_RETURNED);
	memcpy(&view, support_outcome(future)->data, sizeof view);
	pp_future_free(future);
	pp_executor_free(ex);
	return view;
}

START_TEST(surroundings_inherited)
{
	pp_options options = support_options(1);
	struct view here, there;

	ck_assert_int_eq(setenv("GIVEN", "by the caller", 1), 0);
	ck_assert_int_eq(look(&here), 0);
	there = view_with(&options);
	ck_assert_str_eq(there.name, "procpool");
	memcpy(there.name, here.name, sizeof there.name);
	ck_assert_mem_eq(&there, &here, sizeof here);
}
END_TEST

START_TEST(surroundings_given)
{
	static const char *const environment[] = { "GIVEN=by options", NULL };
	pp_options options = support_options(1);
	struct view before, after, there;

	ck_assert_int_eq(look(&before), 0);
	options.name = "a name of more than fifteen bytes";
	options.working_directory = "/usr/..";
	options.environment = environment;
	options.nice = 3;
	there = view_with(&options);
	ck_assert_str_eq(there.name, "a name of more ");
	ck_assert_str_eq(there.directory, "/");
	ck_assert_str_eq(there.home, "none");
	ck_assert_str_eq(there.given, "by options");
	ck_assert_int_eq(there.nice, before.nice + 3 < 19 ? before.nice + 3 : 19);
	ck_assert_int_eq(look(&after), 0);
	ck_assert_mem_eq(&after, &before, sizeof before);
}
END_TEST

static int task_setenv(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	if (setenv("GIVEN", "anew", 1) != 0 || setenv("MORE", "of it", 1) != 0)
		return pp_raise(task, errno, "setenv");
	return strcmp(getenv("GIVEN"), "anew") != 0;
}

/* The array of the options is constant, and may be where nobody can write. */
START_TEST(environment_is_the_workers_own)
{
	static const char *const environment[] = { "GIVEN=by options", NULL }, *const none[] = { NULL };
	pp_options options = support_options(1);
	pp_future *future;
	pp_executor *ex;

	options.environment = _i ? environment : none;
	ex = support_create(&options);
	future = support_submit(ex, task_setenv, NULL, 0);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* ---- CPUs */

static int my_cpus(cpu_set_t *set)
{
	ck_assert_int_eq(sched_getaffinity(0, sizeof *set, set), 0);
	return CPU_COUNT(set);
}

static int32_t nth_cpu(const cpu_set_t *set, int n)
{
	for (int32_t cpu = 0; ; cpu++)
		if (CPU_ISSET((size_t)cpu, set) && n-- == 0)
			return cpu;
}

START_TEST(cpus_list)
{
	pp_options options = support_options(1);
	cpu_set_t mine;
	int n = my_cpus(&mine);
	int32_t last = nth_cpu(&mine, n - 1);
	struct view there;

	options.cpus = &last;
	options.cpu_count = 1;
	there = view_with(&options);
	ck_assert_int_eq(CPU_COUNT(&there.cpus), 1);
	ck_assert(CPU_ISSET((size_t)last, &there.cpus));
}
END_TEST

static int task_cpus_at_gate(pp_task *task, const void *data, size_t size)
{
	struct { int worker; cpu_set_t set; } mine = { .worker = pp_task_worker(task) };

	(void)size;
	if (sched_getaffinity(0, sizeof mine.set, &mine.set) < 0 || gate_pass(data) != 0)
		return pp_raise(task, 1, "no CPUs, or no gate");
	return pp_return(task, PP_BYTES(mine));
}

/* As many as there are workers, so each of them has one. */
static void check_pinned(pp_executor *ex, struct gate *gate, int workers, const int32_t *cpus, int n)
{
	struct { int worker; cpu_set_t set; } theirs;
	pp_future *futures[4];
	unsigned seen = 0;

	for (int i = 0; i < workers; i++)
		futures[i] = support_submit(ex, task_cpus_at_gate, PP_BYTES(*gate));
	gate_await(gate, workers);
	gate_open(gate, workers);
	for (int i = 0; i < workers; i++) {
		support_assert_kind(futures[i], PP_RETURNED);
		memcpy(&theirs, support_outcome(futures[i])->data, sizeof theirs);
		seen |= 1u << theirs.worker;
		ck_assert_int_eq(CPU_COUNT(&theirs.set), 1);
		ck_assert(CPU_ISSET((size_t)cpus[theirs.worker % n], &theirs.set));
		pp_future_free(futures[i]);
	}
	ck_assert_uint_eq(seen, (1u << workers) - 1);
}

/* Also those that take the place of a dead one. */
static void pin_each(const int32_t *given, const int32_t *cpus, int n)
{
	pp_options options = support_options(3);
	struct gate gate;
	pp_executor *ex;

	gate_make(&gate);
	options.flags = PP_PIN_EACH;
	options.cpus = given;
	options.cpu_count = given ? (uint32_t)n : 0;
	ex = support_create(&options);
	check_pinned(ex, &gate, 3, cpus, n);
	for (int i = 0; i < 4; i++) {
		int how = i % 2 ? DIE_SEGV : DIE_KILL;
		pp_future *future = support_submit(ex, task_die, PP_BYTES(how));
		support_assert_kind(future, PP_CRASHED);
		pp_future_free(future);
	}
	check_pinned(ex, &gate, 3, cpus, n);
	pp_executor_free(ex);
	gate_destroy(&gate);
}

START_TEST(pin_each_of_inherited)
{
	int32_t cpus[CPU_SETSIZE];
	cpu_set_t mine;
	int n = my_cpus(&mine);

	for (int i = 0; i < n; i++)
		cpus[i] = nth_cpu(&mine, i);
	pin_each(NULL, cpus, n);
}
END_TEST

START_TEST(pin_each_of_list)
{
	int32_t cpus[2];
	cpu_set_t mine;
	int n = my_cpus(&mine);

	cpus[0] = nth_cpu(&mine, n - 1);
	cpus[1] = nth_cpu(&mine, 0);
	pin_each(cpus, cpus, 2);
}
END_TEST

/* ---- what cannot be had */

static void expect_broken(const pp_options *options, int code, const char *word)
{
	pp_executor *ex = support_create(options);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	const pp_outcome *outcome = support_outcome(future);

	support_assert_kind(future, PP_BROKEN);
	ck_assert_int_eq(outcome->code, code);
	ck_assert_msg(strstr(outcome->message, word) != NULL, "%s", outcome->message);
	ck_assert_msg(strstr(outcome->message, strerror(-code)) != NULL, "%s", outcome->message);
	pp_future_free(future);
	pp_executor_free(ex);
}

START_TEST(no_such_directory)
{
	pp_options options = support_options(1);
	pp_executor *ex = (pp_executor *)1;

	options.working_directory = "/dev/null/nowhere";
	expect_broken(&options, -ENOTDIR, "/dev/null/nowhere");
	options.flags = PP_START_ALL;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -ENOTDIR);
	ck_assert_ptr_null(ex);
}
END_TEST

START_TEST(no_such_cpu)
{
	static const int32_t cpu = CPU_SETSIZE - 1;
	pp_options options = support_options(1);

	options.cpus = &cpu;
	options.cpu_count = 1;
	expect_broken(&options, -EINVAL, "CPUs");
}
END_TEST

START_TEST(surroundings_refused)
{
	static const int32_t below = -1, above = CPU_SETSIZE;
	pp_options bad[16];
	pp_executor *ex;
	int n = 0;

	for (int i = 0; i < 16; i++)
		bad[i] = support_options(1);
	bad[n++].nice = 40;
	bad[n++].nice = -40;
	bad[n++].name = "";
	bad[n++].working_directory = "";
	bad[n++].cpus = &below;          /* without a count */
	bad[n++].cpu_count = 1;
	bad[n].cpu_count = 1;
	bad[n++].cpus = &below;
	bad[n].cpu_count = 1;
	bad[n++].cpus = &above;
	bad[n++].limits.address_space = -2;
	bad[n++].limits.data = -2;
	bad[n++].limits.cpu_seconds = -2;
	bad[n++].limits.file_size = INT64_MIN;
	bad[n++].limits.open_files = -3;
	bad[n++].limits.core_size = -2;
	for (int i = 0; i < n; i++)
		ck_assert_msg(pp_executor_create(&ex, &bad[i]) == -EINVAL, "%d", i);
}
END_TEST

/* ---- whom the kernel takes when memory runs short */

static int oom_score(pid_t pid)
{
	char path[64];
	FILE *file;
	int score = INT_MIN;

	snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fscanf(file, "%d", &score), 1);
	fclose(file);
	return score;
}

START_TEST(oom_scores)
{
	int mine = oom_score(getpid()), above = mine + 200 < 1000 ? mine + 200 : 1000;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	pid_t worker;

	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(pp_executor_workers(ex, &worker, 1), 1);
	ck_assert_int_eq(oom_score(worker), above > 800 ? above : 800);
	ck_assert_int_eq(oom_score(support_supervisor()), above);
	ck_assert_int_eq(oom_score(getpid()), mine);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("surroundings");
	TCase *tcase = support_tcase(suite, "surroundings");

	tcase_add_test(tcase, surroundings_inherited);
	tcase_add_test(tcase, surroundings_given);
	tcase_add_loop_test(tcase, environment_is_the_workers_own, 0, 2);
	tcase_add_test(tcase, cpus_list);
	tcase_add_test(tcase, pin_each_of_inherited);
	tcase_add_test(tcase, pin_each_of_list);
	tcase_add_test(tcase, no_such_directory);
	tcase_add_test(tcase, no_such_cpu);
	tcase_add_test(tcase, surroundings_refused);
	tcase_add_test(tcase, oom_scores);
	return suite;
}

SUPPORT_MAIN(make_suite)
