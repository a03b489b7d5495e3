/* SPDX-License-Identifier: MIT */
/*
 * What is known once the worker of a crash is gone: wait status, core, usage, and the backtrace with function, file and
 * line of deaths that were planted in known lines.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "app.h"
#include "plant.h"
#include "support.h"

static const pp_postmortem *postmortem_of(pp_future *future)
{
	const pp_postmortem *p = NULL;

	ck_assert_int_eq(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p), 0);
	ck_assert_ptr_nonnull(p);
	ck_assert_ptr_nonnull(p->frames);
	ck_assert_ptr_nonnull(p->frames_note);
	ck_assert_uint_le(p->frame_count, 64);
	return p;
}

/* A compiler that cuts a function in parts puts .cold or .part behind the name. */
static bool is_planted(const pp_frame *frame, const struct plant_facts *facts)
{
	size_t length = strlen(facts->function);

	return frame->function && strncmp(frame->function, facts->function, length) == 0
	       && (!frame->function[length] || frame->function[length] == '.');
}

/* Among the first frames: abort and memset are called by what was planted. */
static const pp_frame *find_planted(const pp_postmortem *p, const struct plant_facts *facts)
{
	for (size_t i = 0; i < p->frame_count; i++)
		if (is_planted(&p->frames[i], facts))
			return &p->frames[i];
	return NULL;
}

static void assert_planted(pp_future *future, int which)
{
	const pp_postmortem *p = postmortem_of(future);
	const pp_frame *frame = find_planted(p, &plant_facts[which]);
	const char *base;

	ck_assert_msg(frame != NULL, "%s is not among %zu frames (%s)", plant_facts[which].function, p->frame_count,
	              p->frames_note);
	ck_assert_ptr_nonnull(frame->file);
	base = strrchr(frame->file, '/');
	ck_assert_str_eq(base ? base + 1 : frame->file, "plant.c");
	ck_assert_int_eq(frame->line, plant_facts[which].line);
	ck_assert_ptr_nonnull(frame->module);
	ck_assert_uint_gt(frame->offset, 0);
}

START_TEST(backtrace_names_function_file_line)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &_i, sizeof _i);

	support_assert_kind(future, PP_CRASHED);
	assert_planted(future, _i);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* The frames below the planted one are the caller's, down to where the worker called the task. */
START_TEST(backtrace_goes_down_to_the_task)
{
	int which = PLANT_SEGV;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &which, sizeof which);
	const pp_postmortem *p = postmortem_of(future);

	ck_assert_str_eq(p->frames_note, "");
	ck_assert(is_planted(&p->frames[0], &plant_facts[which]));
	ck_assert_int_eq(p->frames[0].is_caller, 0);
	ck_assert_uint_eq(p->frames[0].address, support_outcome(future)->instruction);
	ck_assert_uint_gt(p->frame_count, 2);
	ck_assert_str_eq(p->frames[1].function, "task_plant");
	ck_assert_int_eq(p->frames[1].is_caller, 1);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(backtrace_of_a_left_thread)
{
	int which = PLANT_FPE;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant_in_thread, &which, sizeof which);

	support_assert_kind(future, PP_CRASHED);
	assert_planted(future, which);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* Made once; and after the executor has gone it can still be made, and stays. */
START_TEST(postmortem_lives_with_the_future)
{
	int which = PLANT_SEGV;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &which, sizeof which);
	pp_future *other = support_submit(ex, task_plant, &which, sizeof which);
	const pp_postmortem *p = postmortem_of(future);

	ck_assert_ptr_eq(postmortem_of(future), p);
	pp_executor_free(ex);
	ck_assert_ptr_eq(postmortem_of(future), p);
	assert_planted(other, which);
	pp_future_free(other);
	assert_planted(future, which);
	pp_future_free(future);
}
END_TEST

START_TEST(usage_and_status)
{
	int deaths[] = { DIE_SEGV, DIE_KILL, DIE_EXIT99, DIE__EXIT };
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < 4; i++) {
		pp_future *future = support_submit(ex, task_die, &deaths[i], sizeof deaths[i]);
		const pp_postmortem *p = postmortem_of(future);
		if (i < 2)
			ck_assert(WIFSIGNALED(p->wait_status) && WTERMSIG(p->wait_status) == (i ? SIGKILL : SIGSEGV));
		else
			ck_assert(WIFEXITED(p->wait_status) && WEXITSTATUS(p->wait_status) == (i == 2 ? 99 : 3));
		ck_assert_uint_gt(p->peak_rss, 65536);
		ck_assert_uint_lt(p->peak_rss, UINT64_MAX);
		ck_assert_uint_gt(p->faults, 0);
		ck_assert_uint_lt(p->faults, UINT64_MAX);
		ck_assert_uint_lt(p->cpu_ns, UINT64_C(60000000000));
		ck_assert_uint_lt(p->switches, UINT64_MAX);
		if (i) {
			ck_assert_uint_eq(p->frame_count, 0);
			ck_assert_str_ne(p->frames_note, "");
		}
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

START_TEST(no_data_and_bad_calls)
{
	const pp_postmortem *p = (const pp_postmortem *)1;
	struct gate gate;
	pp_executor *ex;
	pp_future *ends[3], *running;

	gate_make(&gate);
	ex = support_executor(1);
	ends[0] = support_submit(ex, task_nothing, NULL, 0);
	ends[1] = support_submit(ex, task_raise, NULL, 0);
	running = support_submit(ex, task_gate, &gate, sizeof gate);
	ends[2] = support_submit(ex, task_nothing, NULL, 0);
	gate_await(&gate, 1);
	ck_assert(pp_future_cancel(ends[2]));
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(pp_future_postmortem(ends[i], PP_FOREVER, &p), -ENODATA);
		ck_assert_ptr_null(p);
		pp_future_free(ends[i]);
	}
	ck_assert_int_eq(pp_future_postmortem(running, 0, &p), -ETIMEDOUT);
	ck_assert_int_eq(pp_future_postmortem(running, 20, &p), -ETIMEDOUT);
	ck_assert_int_eq(pp_future_postmortem(running, -2, &p), -EINVAL);
	ck_assert_int_eq(pp_future_postmortem(running, 0, NULL), -EINVAL);
	ck_assert_int_eq(pp_future_postmortem(NULL, 0, &p), -EINVAL);
	ck_assert_int_eq(pp_future_kill(running), 0);
	ck_assert_int_eq(WTERMSIG(postmortem_of(running)->wait_status), SIGKILL);
	pp_future_free(running);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* The pool broke because its supervisor was killed: nobody buries, and nobody waits for it for ever. */
START_TEST(no_supervisor_no_postmortem)
{
	const pp_postmortem *p;
	struct gate gate;
	pp_executor *ex;
	pp_future *running;

	gate_make(&gate);
	ex = support_executor(1);
	running = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	kill(support_supervisor(), SIGKILL);
	support_assert_kind(running, PP_BROKEN);
	ck_assert_int_eq(pp_future_postmortem(running, PP_FOREVER, &p), -ENODATA);
	pp_future_free(running);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* The application has a folder of its own as the current one, so that is where a core goes. */
static int dump_core(void *context)
{
	int which = PLANT_SEGV;
	struct rlimit core = { RLIM_INFINITY, RLIM_INFINITY };
	const pp_postmortem *p = NULL;
	pp_executor *ex;
	pp_future *future;

	(void)context;
	APP_CHECK(setrlimit(RLIMIT_CORE, &core) == 0);
	APP_CHECK(pp_executor_create(&ex, NULL) == 0);
	APP_CHECK(pp_submit(ex, task_plant, &which, sizeof which, &future) == 0);
	APP_CHECK(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p) == 0);
	APP_CHECK(p->core_dumped == 1);
	APP_CHECK(WCOREDUMP(p->wait_status));
	pp_future_free(future);
	pp_executor_free(ex);
	return 0;
}

START_TEST(core_is_dumped)
{
	char folder[] = "/tmp/procpool-core-XXXXXX", command[100];

	ck_assert_ptr_nonnull(mkdtemp(folder));
	ck_assert_int_eq(chdir(folder), 0);
	app_run(dump_core, NULL);
	ck_assert_int_eq(chdir("/"), 0);
	snprintf(command, sizeof command, "ls %s/core* >/dev/null && rm -r %s", folder, folder);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

/* Why this machine puts no core into the current folder; NULL: it does. */
static const char *no_core(void)
{
	struct rlimit core;
	char pattern[8] = "";
	FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");

	if (file && !fgets(pattern, sizeof pattern, file))
		*pattern = 0;
	if (file)
		fclose(file);
	if (strncmp(pattern, "core", 4) != 0)
		return "core_pattern does not put cores into the current folder";
	if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_max != RLIM_INFINITY)
		return "the hard limit on cores forbids them";
	return app_tests_can_run() ? NULL : "needs a process of its own (CK_FORK=no)";
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("postmortem");
	TCase *backtrace = support_tcase(suite, "backtrace"), *facts = support_tcase(suite, "facts");

#ifdef HAVE_LIBDW
	tcase_add_loop_test(backtrace, backtrace_names_function_file_line, 0, PLANTS);
	tcase_add_test(backtrace, backtrace_goes_down_to_the_task);
	tcase_add_test(backtrace, backtrace_of_a_left_thread);
	tcase_add_test(backtrace, postmortem_lives_with_the_future);
#else
	support_skip("backtrace_names_function_file_line", "built without libdw");
#endif
	tcase_add_test(facts, usage_and_status);
	tcase_add_test(facts, no_data_and_bad_calls);
	tcase_add_test(facts, no_supervisor_no_postmortem);
	if (no_core())
		support_skip("core_is_dumped", no_core());
	else
		tcase_add_test(facts, core_is_dumped);
	return suite;
}

SUPPORT_MAIN(make_suite)
