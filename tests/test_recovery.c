/* SPDX-License-Identifier: MIT */
/*
 * White box: what the supervisor finds after a death, and what it makes of it. Workers are killed at chosen steps of
 * their code; before each kill the slot's word says what has to come of the future.
 */
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "pool.h"
#include "stepper.h"
#include "support.h"

#define STRIDE 5         /* every so many instructions; the full proof tries each */

static struct pp__control *control_of(pp_executor *ex)
{
	return ex->segment.shared.control;
}

static enum pp__state state_of(pp_future *future)
{
	return pp__word_state(pp__slot_look(pp__cell_of(future)));
}

struct number { _Atomic uint64_t *at; uint64_t wanted; };

static bool has_reached(void *number_)
{
	struct number *number = number_;

	return atomic_load(number->at) >= number->wanted;
}

static void until_reached(_Atomic uint64_t *at, uint64_t wanted, const char *what)
{
	struct number number = { at, wanted };

	support_until(has_reached, &number, what);
}

START_TEST(ownerdead_settles)
{
	pp_executor *ex = support_executor(1);
	int how = DIE_KILL;

	for (int i = 0; i < 50; i++) {
		pp_future *future = support_submit(ex, task_die, &how, sizeof how);
		support_assert_kind(future, PP_CRASHED);
		pp_future_free(future);
	}
	until_reached(&control_of(ex)->deaths, 50, "50 deaths");
	ck_assert_uint_eq(atomic_load(&control_of(ex)->owner_deaths), 50);
	pp_executor_free(ex);
}
END_TEST

/* A wild write takes the kernel's mark away: the whole mutex is wiped by its owner, who dies then. */
static int task_wipe_mark(pp_task *task, const void *data, size_t size)
{
	struct pp__worker *line;

	(void)task;
	memcpy(&line, data, size);
	for (int i = 0; i < 8; i++)
		memset(&line[i].life, 0, sizeof line[i].life);
	raise(SIGKILL);
	return 0;
}

START_TEST(ownerdead_mark_removed)
{
	pp_options options = support_options(3);
	struct pp__worker *line;
	pp_executor *ex;
	pp_future *future;

	ex = support_create(&options);
	line = ex->segment.shared.workers;
	future = support_submit(ex, task_wipe_mark, &line, sizeof line);
	support_assert_kind(future, PP_CRASHED);
	ck_assert_int_eq(support_outcome(future)->signal, SIGKILL);
	pp_future_free(future);
	future = support_submit(ex, task_echo, "next", 4);
	support_assert_returned(future, "next", 4);
	pp_future_free(future);
	until_reached(&control_of(ex)->deaths, 1, "a death");
	ck_assert_uint_eq(atomic_load(&control_of(ex)->owner_deaths), 0);
	pp_executor_free(ex);
}
END_TEST

static pid_t idle_worker(pp_executor *ex)
{
	pp_future *future = support_submit(ex, task_pid, NULL, 0);
	pid_t pid;

	memcpy(&pid, support_outcome(future)->data, sizeof pid);
	pp_future_free(future);
	return pid;
}

/* Steps until the slot is in the state, or the function is reached, or so many steps are done. Returns the steps. */
static int step_to(pid_t pid, pp_future *future, enum pp__state state, pp_fn *fn, int limit)
{
	int n = 0;

	while (n < limit && state_of(future) != state && stepper_instruction(pid) != (uintptr_t)fn) {
		ck_assert_int_eq(stepper_step(pid), STEPPER_OK);
		n++;
	}
	return n;
}

/* Killed after n instructions from its sleep on: the word at that instant decides. Returns false at the window's end. */
static bool kill_after(int n)
{
	pp_executor *ex = support_executor(1);
	pid_t pid = idle_worker(ex);
	pp_future *future;
	enum pp__state state;
	bool inside;

	ck_assert(stepper_attach(pid));
	future = support_submit(ex, task_echo, "abc", 3);
	inside = step_to(pid, future, PP__STATES, task_echo, n) == n && stepper_instruction(pid) != (uintptr_t)task_echo;
	state = state_of(future);
	stepper_kill(pid);
	if (state == PP__RUNNING) {
		support_assert_kind(future, PP_CRASHED);
		ck_assert_int_eq(support_outcome(future)->signal, SIGKILL);
	} else {
		support_assert_returned(future, "abc", 3);
	}
	pp_future_free(future);
	future = support_submit(ex, task_echo, "next", 4);
	support_assert_returned(future, "next", 4);
	pp_future_free(future);
	pp_executor_free(ex);
	return inside;
}

START_TEST(crash_between_claim_and_user_code)
{
	int n = 0;

	while (kill_after(n))
		n += STRIDE;
	ck_assert_int_gt(n, 100);
}
END_TEST

/* A worker that is stopped with a claim: after a second the task goes to another, and it is killed. */
START_TEST(claim_of_stopped_worker_taken_back)
{
	pp_executor *ex = support_executor(2);
	pid_t pid = idle_worker(ex), other;
	pp_future *future;

	ck_assert(stepper_attach(pid));
	future = support_submit(ex, task_pid, NULL, 0);
	step_to(pid, future, PP__CLAIMED, task_pid, 100000);
	ck_assert_int_eq(state_of(future), PP__CLAIMED);
	ck_assert(!pp_future_running(future));
	ck_assert_int_eq(support_outcome(future)->kind, PP_RETURNED);
	memcpy(&other, support_outcome(future)->data, sizeof other);
	ck_assert_int_ne(other, pid);
	ck_assert_uint_eq(atomic_load(&control_of(ex)->requeues), 1);
	stepper_kill(pid);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* Cancelled while claimed: the claimer drops it, and works on. */
START_TEST(cancel_of_claimed)
{
	pp_executor *ex = support_executor(1);
	pid_t pid = idle_worker(ex);
	pp_future *future;

	ck_assert(stepper_attach(pid));
	future = support_submit(ex, task_pid, NULL, 0);
	step_to(pid, future, PP__CLAIMED, task_pid, 100000);
	ck_assert_int_eq(state_of(future), PP__CLAIMED);
	ck_assert(pp_future_cancel(future));
	stepper_release(pid);
	support_assert_kind(future, PP_CANCELLED);
	pp_future_free(future);
	ck_assert_int_eq(idle_worker(ex), pid);
	pp_executor_free(ex);
}
END_TEST

/* Likewise while it is taken back from a worker that is stopped: which, should it go on, starts nothing any more. */
START_TEST(cancel_of_claim_taken_back)
{
	pp_executor *ex = support_executor(1);
	pid_t pid = idle_worker(ex), supervisor = support_supervisor();
	pp_future *future, *next;

	ck_assert(stepper_attach(pid));
	future = support_submit(ex, task_pid, NULL, 0);
	step_to(pid, future, PP__CLAIMED, task_pid, 100000);
	ck_assert_int_eq(kill(supervisor, SIGSTOP), 0);
	atomic_store(&ex->segment.shared.workers[0].condemned, 1);
	ck_assert(pp__slot_stop_claimed(pp__cell_of(future), pp__slot_look(pp__cell_of(future))));
	ck_assert(_i ? pp_future_kill(future) == 0 : pp_future_cancel(future));
	support_assert_kind(future, PP_CANCELLED);
	pp_future_free(future);
	next = support_submit(ex, task_pid, NULL, 0);
	stepper_release(pid);
	ck_assert_int_eq(kill(supervisor, SIGCONT), 0);
	ck_assert_int_eq(support_outcome(next)->kind, PP_RETURNED);
	ck_assert_int_ne(support_outcome(next)->pid, pid);
	pp_future_free(next);
	pp_executor_free(ex);
}
END_TEST

/* Published, and killed before anybody was told: the supervisor tells. */
START_TEST(killed_between_done_and_wake)
{
	pp_executor *ex = support_executor(1);
	pid_t pid = idle_worker(ex);
	pp_future *futures[2];
	pp_walk *walk;

	ck_assert(stepper_attach(pid));
	futures[0] = support_submit(ex, task_echo, "abc", 3);
	ck_assert_int_eq(pp_as_completed(futures, 1, SUPPORT_GUARD_MS, &walk), 0);
	step_to(pid, futures[0], PP__DONE, NULL, 100000);
	ck_assert_int_eq(state_of(futures[0]), PP__DONE);
	stepper_kill(pid);
	ck_assert_int_eq(pp_walk_next(walk, &futures[1]), 1);
	ck_assert_ptr_eq(futures[0], futures[1]);
	support_assert_returned(futures[0], "abc", 3);
	ck_assert_uint_eq(atomic_load(&ex->rescues), 0);         /* the walk did not have to find it by itself */
	pp_walk_free(walk);
	pp_future_free(futures[0]);
	pp_executor_free(ex);
}
END_TEST

/* The same, and the supervisor dies before it can tell: the pool is broken, but who waits hears of what was done. */
START_TEST(killed_between_done_and_wake_with_supervisor)
{
	pp_executor *ex = support_executor(1);
	pid_t pid = idle_worker(ex);
	pp_future *futures[2];
	pp_walk *walk;

	ck_assert(stepper_attach(pid));
	futures[0] = support_submit(ex, task_echo, "abc", 3);
	ck_assert_int_eq(pp_as_completed(futures, 1, SUPPORT_GUARD_MS, &walk), 0);
	step_to(pid, futures[0], PP__DONE, NULL, 100000);
	ck_assert_int_eq(state_of(futures[0]), PP__DONE);
	ck_assert_int_eq(kill(support_supervisor(), SIGKILL), 0);
	stepper_kill(pid);
	ck_assert_int_eq(pp_walk_next(walk, &futures[1]), 1);
	ck_assert_ptr_eq(futures[0], futures[1]);
	support_assert_returned(futures[0], "abc", 3);
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	pp_walk_free(walk);
	pp_future_free(futures[0]);
	pp_executor_free(ex);
}
END_TEST

START_TEST(no_rescues)
{
	pp_executor *ex = support_executor(2);

	for (int i = 0; i < 2000; i++) {
		pp_future *future = support_submit(ex, task_echo, &i, sizeof i);
		support_assert_returned(future, &i, sizeof i);
		pp_future_free(future);
	}
	ck_assert_uint_eq(atomic_load(&ex->rescues), 0);
	pp_executor_free(ex);
}
END_TEST

/* Given up while it ran, and its word overwritten: the slot is free again, and so is all of the executor in the end. */
START_TEST(given_up_and_overwritten)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	pp_future_free(future);
	atomic_store(&ex->segment.shared.cells[future->slot].word, future->check);
	gate_open(&gate, 1);
	pp_executor_free(ex);            /* the fixture asserts that its memory is gone */
	gate_destroy(&gate);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("recovery");
	TCase *deaths = support_tcase(suite, "deaths"), *steps;

	tcase_add_test(deaths, ownerdead_settles);
	tcase_add_test(deaths, ownerdead_mark_removed);
	tcase_add_test(deaths, no_rescues);
	tcase_add_test(deaths, given_up_and_overwritten);
	if (!stepper_allowed() || support_under_valgrind()) {
		support_skip("crash_between_claim_and_user_code", "this process may not trace others");
		return suite;
	}
	steps = support_tcase(suite, "steps");
	tcase_add_test(steps, crash_between_claim_and_user_code);
	tcase_add_test(steps, claim_of_stopped_worker_taken_back);
	tcase_add_test(steps, cancel_of_claimed);
	tcase_add_loop_test(steps, cancel_of_claim_taken_back, 0, 2);
	tcase_add_test(steps, killed_between_done_and_wake);
	tcase_add_test(steps, killed_between_done_and_wake_with_supervisor);
	return suite;
}

SUPPORT_MAIN(make_suite)
