/* SPDX-License-Identifier: MIT */
/* White box: what tasks have overwritten in shared memory, continued. The pool works on, and a shutdown that kills
 * nobody ends. */
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "pool.h"
#include "stage.h"
#include "wake.h"

/* Publishes its own end behind its worker's back, and stays. */
static int task_end_and_stay(pp_task *task, const void *data, size_t size)
{
	struct pp__shared shared;

	memcpy(&shared, data, size);
	for (uint32_t slot = 0; slot < PP__SLAB; slot++) {
		struct pp__cell *cell = &shared.cells[slot];
		if (pp__word_state(atomic_load(&cell->word)) == PP__RUNNING)
			pp__slot_publish(cell, atomic_load(&cell->word));
	}
	pause();
	return pp_return(task, "", 0);
}

START_TEST(deaf_worker_ends)
{
	pp_executor *ex = support_executor(1);
	pp_future *deaf = support_submit(ex, task_end_and_stay, &ex->segment.shared, sizeof ex->segment.shared);

	support_assert_kind(deaf, PP_RAISED);
	pp_future_free(deaf);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	pp_executor_free(ex);
}
END_TEST

static bool all_sleep(void *ex_)
{
	const struct pp__shared *shared = &((pp_executor *)ex_)->segment.shared;

	return __builtin_popcountll(atomic_load(&shared->control->sleepers[0])) == 2;
}

/* As a page of zeros over the workers' lines does: those that sleep have no pid any more. */
START_TEST(sleepers_without_a_pid_end)
{
	pp_options options = support_options(2);
	pp_executor *ex;

	options.flags |= PP_START_ALL;
	ex = support_create(&options);
	support_until(all_sleep, ex, "both workers sleep");
	for (uint32_t i = 0; i < ex->segment.shared.header->entries; i++)
		atomic_store(&ex->segment.shared.workers[i].pid, 0);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	pp_executor_free(ex);
}
END_TEST

/* As if all workers had left, being idle for too long, where none ever does: those that die are replaced all the
 * same. */
START_TEST(forged_idle_exits)
{
	struct stage stage;
	pp_future *next;
	pid_t worker;

	stage_make(&stage, 0);
	next = stage_submit(&stage, "next");
	ck_assert_int_eq(pp_executor_workers(stage.ex, &worker, 1), 1);
	atomic_store(&stage.ex->segment.shared.control->idle_exits, 20);
	kill(worker, SIGKILL);
	support_assert_kind(stage.running, PP_CRASHED);
	support_assert_returned(next, "next", 4);
	pp_future_free(next);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("heal_more");
	TCase *tcase = support_tcase(suite, "heal_more");

	tcase_add_test(tcase, deaf_worker_ends);
	tcase_add_test(tcase, sleepers_without_a_pid_end);
	tcase_add_test(tcase, forged_idle_exits);
	return suite;
}

SUPPORT_MAIN(make_suite)
