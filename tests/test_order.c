/* SPDX-License-Identifier: MIT */
/*
 * White box: two processes whose steps meet in an order that chance seldom brings about. Each case stops one of them at
 * its step, does the other's, and lets it go on.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
#include "pool.h"
#include "stepper.h"
#include "support.h"
#include "supervisor.h"
#include "wake.h"

static enum pp__state state_of(pp_future *future)
{
	return pp__word_state(pp__slot_look(pp__cell_of(future)));
}

static pp_executor *create(int64_t idle_timeout_ms)
{
	pp_options options = support_options(1);

	options.flags = PP_START_ALL;
	options.idle_timeout_ms = idle_timeout_ms;
	return support_create(&options);
}

static pp_future *submit_timed(pp_executor *ex, const struct gate *gate, int64_t timeout_ms)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.timeout_ms = timeout_ms;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_gate, gate, sizeof *gate, &future), 0);
	return future;
}

/* Stopped where it is about to take itself out of the map of sleepers, because it was idle for too long. */
static pid_t stop_leaver(pp_executor *ex)
{
	for (int try = 0; try < 20; try++) {
		pid_t pid = support_run_for_pid(ex);
		if (stepper_attach(pid) && stepper_run_to(pid, (uintptr_t)pp__sleepers_take, 1, 0) == STEPPER_OK)
			return pid;              /* else it was gone already, on a busy machine */
	}
	ck_abort_msg("no worker leaves");
	return 0;
}

START_TEST(leaver_that_is_woken_stays)
{
	pp_executor *ex = create(100);
	pid_t pid = stop_leaver(ex), other;
	pp_future *future = support_submit(ex, task_pid, NULL, 0);

	stepper_release(pid);
	support_assert_kind(future, PP_RETURNED);
	memcpy(&other, support_outcome(future)->data, sizeof other);
	ck_assert_int_eq(other, pid);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* Looks at the word alone: a wait of the library would mend what is lost. */
static bool ends_by_itself(pp_future *future)
{
	for (int ms = 0; ms < 5000 && !pp__state_is_end(state_of(future)); ms++)
		usleep(1000);
	return pp__state_is_end(state_of(future));
}

/* Submitted when the worker has found nothing and is not known to sleep yet: nobody wakes it, so it has to look again. */
START_TEST(last_look_before_sleep)
{
	pp_executor *ex = create(0);
	pid_t pid = support_run_for_pid(ex);
	pp_future *futures[2];

	ck_assert(stepper_attach(pid));
	futures[0] = support_submit(ex, task_echo, "first", 5);
	ck_assert_int_eq(stepper_run_to(pid, (uintptr_t)pp__sleepers_enter, 1, 0), STEPPER_OK);
	if (state_of(futures[0]) == PP__READY)   /* it has not slept yet, when it was stopped */
		ck_assert_int_eq(stepper_run_to(pid, (uintptr_t)pp__sleepers_enter, 1, 0), STEPPER_OK);
	futures[1] = support_submit(ex, task_echo, "second", 6);
	stepper_release(pid);
	ck_assert(ends_by_itself(futures[1]));
	support_assert_returned(futures[0], "first", 5);
	support_assert_returned(futures[1], "second", 6);
	pp_future_free(futures[0]);
	pp_future_free(futures[1]);
	pp_executor_free(ex);
}
END_TEST

static bool is_buried_and_asleep(void *ex_)
{
	const struct pp__shared *shared = &((pp_executor *)ex_)->segment.shared;

	return atomic_load(&shared->workers[0].incarnation) && atomic_load(&shared->control->supervisor_wakes_ns);
}

/* How many workers are started depends on how many there are and should be, not on how many have ended. */
START_TEST(leaver_is_not_replaced)
{
	pp_executor *ex = create(1);

	support_until(is_buried_and_asleep, ex, "the idle worker has left");
	ck_assert_uint_eq(atomic_load(&ex->segment.shared.control->restarts), 1);
	pp_executor_free(ex);
}
END_TEST

struct meeting { pid_t worker; pp_future *next; };

static bool has_ended(pid_t pid)
{
	char path[64], text[256] = "";
	const char *close_paren;
	FILE *file;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return true;
	close_paren = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
	fclose(file);
	return close_paren && (close_paren[2] == 'Z' || close_paren[2] == 'X');
}

static bool has_gone_on(void *meeting_)
{
	struct meeting *meeting = meeting_;

	return has_ended(meeting->worker) || state_of(meeting->next) == PP__RUNNING;
}

/* The supervisor is about to kill the worker of a task whose time is over, when that task ends. The next is not hit. */
START_TEST(signal_meets_no_other_task)
{
	struct meeting meeting;
	struct gate gate;
	pp_executor *ex;
	pp_future *late;
	pid_t supervisor;

	gate_make(&gate);
	ex = create(0);
	meeting.worker = support_run_for_pid(ex);
	supervisor = ex->supervisor.pid;
	ck_assert(stepper_attach(supervisor));
	late = submit_timed(ex, &gate, 20);
	meeting.next = support_submit(ex, task_gate, &gate, sizeof gate);
	gate_await(&gate, 1);
	ck_assert_int_eq(stepper_run_to(supervisor, (uintptr_t)pp__kill_worker, 1, 0), STEPPER_OK);
	gate_open(&gate, 1);
	support_until(has_gone_on, &meeting, "the worker has ended, or goes on");
	stepper_release(supervisor);
	gate_open(&gate, 1);
	support_assert_returned(meeting.next, &gate, sizeof gate);
	support_assert_kind(late, PP_TIMED_OUT);
	pp_future_free(late);
	pp_future_free(meeting.next);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

static bool is_stopping(void *future)
{
	enum pp__state state = state_of(future);

	return pp__state_stops(state) || pp__state_is_end(state);
}

/* The kernel tells nobody of the end of a process before its tracer has heard of it. Until then nothing is settled. */
START_TEST(nothing_settled_before_death)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future;
	pid_t pid;

	gate_make(&gate);
	ex = create(0);
	pid = support_run_for_pid(ex);
	ck_assert(stepper_attach(pid));
	future = submit_timed(ex, &gate, 20);
	ck_assert_int_eq(stepper_run_to(pid, (uintptr_t)task_gate, 1, 0), STEPPER_OK);
	support_until(is_stopping, future, "the task is stopped");
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(state_of(future), PP__STOP_TIME);
		usleep(1000);
	}
	stepper_kill(pid);
	support_assert_kind(future, PP_TIMED_OUT);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* A plain mutex that somebody else has locked: whoever locks it waits for ever. */
static void forge_lives(const struct pp__shared *shared)
{
	for (uint32_t i = 0; i < shared->header->entries; i++) {
		memset((void *)&shared->workers[i].life, 0, sizeof shared->workers[i].life);
		*(int *)(void *)&shared->workers[i].life = 1;
	}
}

/* The mutexes of all workers' lives are overwritten when a worker has been forked and has not taken its own yet. It works,
 * and so does whoever comes after it. */
START_TEST(life_forged_at_birth)
{
	pp_executor *ex = create(0);
	pid_t first = support_run_for_pid(ex), born;

	ck_assert(stepper_attach_parent(ex->supervisor.pid));
	kill(first, SIGKILL);
	born = stepper_run_to_child(ex->supervisor.pid);
	ck_assert_int_gt(born, 0);
	forge_lives(&ex->segment.shared);
	stepper_release(born);
	ck_assert_int_eq(support_run_for_pid(ex), born);
	forge_lives(&ex->segment.shared);
	kill(born, SIGKILL);
	ck_assert_int_ne(support_run_for_pid(ex), born);
	pp_executor_free(ex);
}
END_TEST

#if defined __x86_64__

#define TRAP_FLAG 0x100          /* of the processor: SIGTRAP after each instruction */

/* After so many instructions of this thread the size in the cell becomes another. */
static struct { struct pp__cell *cell; unsigned left; bool on; } change;

static void on_step(int signal, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)signal, (void)info;
	if (change.on && change.left-- == 0) {
		*(volatile uint64_t *)&change.cell->size = UINT64_C(1) << 40;
		change.on = false;
	}
	*flags = change.on ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
}

/* As if nobody had looked at it yet. */
static void unread(pp_future *future)
{
	pp__box_clear(pp__box_of(future));
	future->neat = false;
	atomic_store(&future->boxed, PP__UNBOXED);
}

/* false: it was read before so many instructions. */
static bool read_changing_after(pp_future *future, unsigned n)
{
	const pp_outcome *outcome;
	bool changed;

	unread(future);
	change.cell->size = 3;
	change.left = n;
	change.on = true;
	raise(SIGTRAP);
	outcome = pp__future_outcome(future);
	changed = !change.on;
	change.on = false;
	raise(SIGTRAP);
	if (outcome->kind != PP_RETURNED) {
		ck_assert_int_eq(outcome->code, -EBADMSG);
		return changed;
	}
	ck_assert_msg(outcome->size == 3, "changed after %u instructions: %zu bytes", n, outcome->size);
	ck_assert_mem_eq(outcome->data, "abc", 3);
	return changed;
}

/* The size in shared memory changes while the parent reads the result, at each of its instructions: what it reads is the
 * right one, or an error. */
START_TEST(length_that_changes)
{
	struct sigaction action = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO }, before;
	pp_executor *ex = create(0);
	pp_future *future = support_submit(ex, task_echo, "abc", 3);
	unsigned n = 0;

	support_assert_returned(future, "abc", 3);
	change.cell = pp__cell_of(future);
	sigaction(SIGTRAP, &action, &before);
	while (read_changing_after(future, n))
		n++;
	sigaction(SIGTRAP, &before, NULL);
	ck_assert_uint_gt(n, 50);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

#endif

static Suite *make_suite(void)
{
	Suite *suite = suite_create("order");

#if defined __x86_64__
	if (!support_under_valgrind())
		tcase_add_test(support_tcase(suite, "length"), length_that_changes);
#endif
	tcase_add_test(support_tcase(suite, "number"), leaver_is_not_replaced);
	if (!stepper_allowed() || support_under_valgrind()) {
		support_skip("leaver_that_is_woken_stays", "this process may not trace others");
		return suite;
	}
	tcase_add_test(support_tcase(suite, "leaver"), leaver_that_is_woken_stays);
	tcase_add_test(support_tcase(suite, "sleeper"), last_look_before_sleep);
	tcase_add_test(support_tcase(suite, "signal"), signal_meets_no_other_task);
	tcase_add_test(support_tcase(suite, "death"), nothing_settled_before_death);
	tcase_add_test(support_tcase(suite, "birth"), life_forged_at_birth);
	return suite;
}

SUPPORT_MAIN(make_suite)
