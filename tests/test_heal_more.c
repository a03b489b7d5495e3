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

/* One that has died, and whose entry no process has any more; there is a worker again. */
static pp_future *make_corpse(pp_executor *ex)
{
	static const int how = DIE_SEGV;
	pp_future *corpse = support_submit(ex, task_die, &how, sizeof how), *next;

	support_assert_kind(corpse, PP_CRASHED);
	next = support_submit(ex, task_echo, "on", 2);
	support_assert_returned(next, "on", 2);
	pp_future_free(next);
	return corpse;
}

/* The last entry, which nobody has as long as few die, becomes its owner, and looks as if that one were about to die. */
static void forge_dying_owner(pp_future *corpse)
{
	const struct pp__shared *shared = &corpse->executor->segment.shared;
	_Atomic uint64_t *word = &shared->cells[corpse->slot].word;
	uint32_t last = shared->header->entries - 1;
	struct pp__worker *line = &shared->workers[last];

	ck_assert_int_eq(atomic_load(&line->pid), 0);
	atomic_store(&line->pid, 20);
	atomic_store(word, (atomic_load(word) & ~PP__OWNER_BITS) | pp__owner(last, atomic_load(&line->incarnation)));
}

static bool has_no_slots(void *ex_)
{
	pp_executor *ex = ex_;
	bool none;

	pthread_mutex_lock(&ex->submit_lock);
	pp__slots_harvest(ex);
	none = pp__slots_in_use(ex) == 0;
	pthread_mutex_unlock(&ex->submit_lock);
	return none;
}

/* The supervisor knows that nobody is there. */
START_TEST(slot_of_nobody_comes_back)
{
	pp_executor *ex = support_executor(1);
	pp_future *corpse = make_corpse(ex);

	forge_dying_owner(corpse);
	pp_future_free(corpse);
	ck_assert(!has_no_slots(ex));
	pp__nudge(ex);
	support_until(has_no_slots, ex, "the slot is free");
	pp_executor_free(ex);
}
END_TEST

/* Nobody is left who could know, and nobody who could die. */
START_TEST(slot_of_nobody_comes_back_at_the_end)
{
	pp_executor *ex = support_executor(1);
	pp_future *corpse = make_corpse(ex);

	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	forge_dying_owner(corpse);
	pp_future_free(corpse);
	ck_assert(has_no_slots(ex));
	pp_executor_free(ex);
}
END_TEST

/* Its owner is said to be another life of the worker that runs it, by the word and by the line. */
START_TEST(running_in_another_life)
{
	struct stage stage;
	struct pp__worker *line;
	_Atomic uint64_t *word;
	uint64_t before;

	stage_make(&stage, 0);
	word = &pp__cell_of(stage.running)->word;
	before = atomic_load(word);
	line = &stage.ex->segment.shared.workers[pp__word_worker(before)];
	atomic_store(&line->incarnation, pp__word_incarnation(before) + 1);
	atomic_store(word, (before & ~PP__OWNER_BITS) | pp__owner(pp__word_worker(before), pp__word_incarnation(before) + 1));
	support_assert_kind(stage.running, PP_BROKEN);
	stage_free(&stage);
}
END_TEST

struct place { uint32_t slot, phase, round; };
struct claim { struct pp__shared shared; struct place place; };

/* Where a worker in a task that never ends seems to be. A page of zeros over its line, and then a number, name a slot that was
 * never used; the first of all workers is the owner that such a word has. No slot has who is in a round, or had no task yet,
 * or has nothing left to do. There has been no round. */
static const struct place elsewhere[] = {
	{ PP__SLAB - 1, PP__LIVE, 0 }, { PP__NO_SLOT, PP__LIVE, 0 }, { PP__NO_SLOT, PP__LEAVING, 0 },
	{ PP__NO_SLOT, PP__LIVE, 1 }, { PP__NO_SLOT, PP__LIVE, UINT32_MAX }
};

static int task_claim_to_be_elsewhere(pp_task *task, const void *data, size_t size)
{
	struct claim claim;

	memcpy(&claim, data, size);
	atomic_store(&claim.shared.workers[0].cur, claim.place.slot);
	atomic_store(&claim.shared.workers[0].phase, claim.place.phase);
	atomic_store(&claim.shared.workers[0].round, claim.place.round);
	pause();
	return pp_return(task, "", 0);
}

START_TEST(claims_to_be_elsewhere)
{
	pp_executor *ex = support_executor(1);
	struct claim claim = { ex->segment.shared, elsewhere[_i] };
	pp_future *future = support_submit(ex, task_claim_to_be_elsewhere, &claim, sizeof claim);

	support_assert_kind(future, PP_BROKEN);
	pp_future_free(future);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("heal_more");
	TCase *tcase = support_tcase(suite, "heal_more");

	tcase_add_test(tcase, deaf_worker_ends);
	tcase_add_test(tcase, sleepers_without_a_pid_end);
	tcase_add_test(tcase, forged_idle_exits);
	tcase_add_test(tcase, running_in_another_life);
	tcase_add_loop_test(tcase, claims_to_be_elsewhere, 0, (int)(sizeof elsewhere / sizeof *elsewhere));
	tcase_add_test(tcase, slot_of_nobody_comes_back);
	tcase_add_test(tcase, slot_of_nobody_comes_back_at_the_end);
	return suite;
}

SUPPORT_MAIN(make_suite)
