/* SPDX-License-Identifier: MIT */
/*
 * The windows of the supervisor, each from what wakes it until it is about to sleep again: it finds a worker dead and
 * settles what that had at hand, announces, gives the seat away, starts workers, stops a task, ends with the executor. It
 * is killed itself at each point, and nobody is there to replace it: every future has to end, as broken unless it was
 * done, the application is told, and no process stays.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>
#include "kills.h"
#include "supervisor.h"
#include "wake.h"

#define SLICES_EVERY 8           /* so often the death is left to a wait to notice, which takes 50 ms */

/* Worker and supervisor are stopped, and the worker comes so far with its task; another task stands behind that. */
static pid_t begin_worker_at(struct yard *yard, uintptr_t place, uint32_t *entry)
{
	pid_t pid;

	yard_settle(yard);
	pid = yard_sleeper(yard, entry);
	if (!stepper_attach_parent(yard_supervisor(yard)) || !stepper_attach(pid))
		yard_fault(yard, WRONG, "the processes cannot be traced");
	yard_submit(yard, JOB_RETURN, 20000);
	yard_submit(yard, JOB_RETURN, 3);
	if (stepper_run_to(pid, place, 1, 0) != STEPPER_OK)
		yard_fault(yard, WRONG, "the worker does not come to its place");
	return pid;
}

static pid_t begin_bury(struct yard *yard, uintptr_t place, bool asked, uint32_t *entry)
{
	pid_t pid = begin_worker_at(yard, place, entry);

	if (asked)
		pp_future_kill(yard->parts[0].future);
	yard_note(yard, *entry);
	stepper_kill(pid);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

static pid_t begin_bury_running(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	return begin_bury(yard, (uintptr_t)yard_job, false, entry);
}

static pid_t begin_bury_claimed(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	return begin_bury(yard, (uintptr_t)pp__slot_run, false, entry);
}

static pid_t begin_bury_done(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	return begin_bury(yard, (uintptr_t)pp__announce_end, false, entry);
}

static pid_t begin_bury_stopped(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	return begin_bury(yard, (uintptr_t)yard_job, true, entry);
}

static bool runs(void *part)
{
	return pp__word_state(yard_word(part)) == PP__RUNNING;
}

static pid_t begin_stop(struct yard *yard, const struct window *window, uint32_t *entry)
{
	struct part *part;

	(void)window;
	yard_settle(yard);
	part = yard_submit(yard, JOB_SLEEP, 0);
	if (!yard_until(runs, part))
		yard_fault(yard, HUNG, "the task does not start");
	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	pp_future_kill(part->future);
	yard_note(yard, PP__NO_SLOT);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

/* The task's time is over, and the supervisor has not looked. */
static pid_t begin_time_out(struct yard *yard, const struct window *window, uint32_t *entry)
{
	struct part *part;

	yard_settle(yard);
	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	part = yard_submit_with(yard, window_task(window), window->job, window->size);
	if (!yard_until(runs, part))
		yard_fault(yard, HUNG, "the task does not start");
	usleep(2000);
	yard_note(yard, PP__NO_SLOT);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

static bool has_failed(void *part)
{
	const struct part *p = part;

	return pp__word_state(yard_word(p)) == PP__FAILED && pp__sleepers_any(&p->future->executor->segment.shared);
}

/* Its first attempt has raised, and its worker has told the supervisor, and sleeps. */
static pid_t begin_retry(struct yard *yard, const struct window *window, uint32_t *entry)
{
	struct part *part;

	yard_settle(yard);
	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	part = yard_submit_with(yard, window_task(window), window->job, window->size);
	if (!yard_until(has_failed, part))
		yard_fault(yard, HUNG, "the task does not fail");
	yard_note(yard, PP__NO_SLOT);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

/* A worker was killed in the first attempt. */
static pid_t begin_retry_after_death(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t pid;

	yard_settle(yard);
	pid = yard_sleeper(yard, entry);
	if (!stepper_attach_parent(yard_supervisor(yard)) || !stepper_attach(pid))
		yard_fault(yard, WRONG, "the processes cannot be traced");
	yard_submit_with(yard, window_task(window), window->job, window->size);
	if (stepper_run_to(pid, (uintptr_t)pp_return, 1, 0) != STEPPER_OK)
		yard_fault(yard, WRONG, "the worker does not come to its place");
	yard_note(yard, *entry);
	stepper_kill(pid);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

static pid_t begin_start(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	for (unsigned i = 0; i < 2; i++)
		yard_submit(yard, JOB_RETURN, 3);
	yard_note(yard, PP__NO_SLOT);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

/* A worker that is idle, and a task that has ended. */
static pid_t begin_shutdown(struct yard *yard, const struct window *window, uint32_t *entry)
{
	(void)window;
	yard_settle(yard);
	yard_submit(yard, JOB_RETURN, 3);
	yard_judge(yard);
	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	pp_executor_shutdown(yard->ex, 0, 0);
	*entry = PP__NO_SLOT;
	return yard_supervisor(yard);
}

static bool has_ended(const struct part *part)
{
	return pp__future_has_ended(part->future);
}

/* It may have been stopped before, or come to its second attempt. */
static bool is_right_by_policy(const struct part *part, const pp_outcome *o, unsigned n)
{
	if (part->job.kind == JOB_SLEEP)
		return o->kind == PP_TIMED_OUT;
	return part->retries && o->kind == PP_RETURNED && n == 2 && yard_is_right(&part->job, o);
}

/* What is right besides broken: that it was done; the true cause; what the next worker made of it before it died too. */
static void judge_part(struct yard *yard, const struct part *part)
{
	enum pp__state state = pp__word_state(part->word);
	bool undone = part->ours && (state == PP__RUNNING || state == PP__STOP_KILL);
	const pp_outcome *o = pp__future_outcome(part->future);
	unsigned n = yard_runs(part);

	yard->tally->fates[state][o->kind]++;
	if (n > 1 + part->retries)
		yard_fault(yard, DUPLICATED, "job %u was run %u times", part->job.id, n);
	if (is_right_by_policy(part, o, n))
		return;
	if (o->kind == PP_RETURNED && !undone && !part->retries) {
		if (!yard_is_right(&part->job, o) || n != 1)
			yard_fault(yard, WRONG, "it returned what it should not");
		return;
	}
	if (state == PP__DONE)
		yard_fault(yard, LOST, "it was done, and ended as %s", pp_kind_name(o->kind));
	if (o->kind == PP_BROKEN || (undone && !part->retries && o->kind == (state == PP__RUNNING ? PP_CRASHED : PP_KILLED)))
		return;
	yard_fault(yard, WRONG, "state %d when killed, and ended as %s", (int)state, pp_kind_name(o->kind));
}

/* The supervisor is dead: the pool is broken, or at its end. */
static void end_broken(struct yard *yard, const struct window *window, uint32_t entry)
{
	static unsigned trials;
	pp_future *futures[YARD_PARTS], *none;

	(void)window;
	(void)entry;
	for (unsigned i = 0; i < yard->count; i++)
		futures[i] = yard->parts[i].future;
	if (trials++ % SLICES_EVERY)
		pp__tend(yard->ex);
	if (pp_wait(futures, yard->count, PP_ALL_COMPLETED, yard_guard_ms()) != (int)yard->count)
		yard_fault(yard, HUNG, "not all futures have ended");
	if (!pp_executor_broken(yard->ex) && !atomic_load(&yard->ex->segment.shared.control->finished))
		yard_fault(yard, WRONG, "the pool does not know that it is broken");
	for (unsigned i = 0; i < yard->count; i++) {
		if (!has_ended(&yard->parts[i]) || !yard_is_announced(&yard->parts[i]))
			yard_fault(yard, HUNG, "the end of part %u is not announced", i);
		judge_part(yard, &yard->parts[i]);
	}
	yard_forget(yard);
	if (pp_submit(yard->ex, yard_job, NULL, 0, &none) >= 0)
		yard_fault(yard, WRONG, "a broken pool takes tasks");
}

#define TASK(...) .task = { .size = sizeof(pp_task_options), __VA_ARGS__ }
/* Up to its next call, behind its second look: a task is ready again then. */
#define TO_SLEEP .end = end_broken, .stop = (uintptr_t)ppoll, .fresh = true, .own = 90, .others = 20
#define SLEEPS .end = end_broken, .stop = (uintptr_t)pp__patrol_timeout, .fresh = true, .own = 60, .others = 20

const struct window supervisor_windows[] = {
	{ .name = "supervisor: buries one that ran", .begin = begin_bury_running, SLEEPS, .seats = 1, .start_all = true },
	{ .name = "supervisor: buries a claimer", .begin = begin_bury_claimed, SLEEPS, .seats = 1, .start_all = true },
	{ .name = "supervisor: announces for the dead", .begin = begin_bury_done, SLEEPS, .seats = 1, .start_all = true },
	{ .name = "supervisor: buries one that was stopped", .begin = begin_bury_stopped, SLEEPS, .seats = 1,
	  .start_all = true },
	{ .name = "supervisor: one of two dies", .begin = begin_bury_running, SLEEPS, .seats = 2, .start_all = true },
	{ .name = "supervisor: stops a task", .begin = begin_stop, SLEEPS, .seats = 1, .start_all = true },
	{ .name = "supervisor: a task's time is over", .begin = begin_time_out, SLEEPS, .seats = 1, .start_all = true,
	  .job = JOB_SLEEP, TASK(.timeout_ms = 1) },
	{ .name = "supervisor: asks a task to end", .begin = begin_time_out, SLEEPS, .seats = 1, .start_all = true,
	  .job = JOB_SLEEP, TASK(.timeout_ms = 1), .grace_ms = 60000 },
	{ .name = "supervisor: another attempt after an error", .begin = begin_retry, TO_SLEEP, .seats = 1, .start_all = true,
	  .job = JOB_RAISE_ONCE, .size = 3, TASK(.retries = 1, .retry_on = PP_ON(PP_RAISED)) },
	{ .name = "supervisor: another attempt after a death", .begin = begin_retry_after_death, TO_SLEEP, .seats = 1,
	  .start_all = true, .job = JOB_RETURN, .size = 3, TASK(.retries = 1, .retry_on = PP_ON(PP_CRASHED)) },
	{ .name = "supervisor: starts the first worker", .begin = begin_start, SLEEPS, .seats = 2 },
	{ .name = "supervisor: ends", .begin = begin_shutdown, .end = end_broken, .fresh = true, .own = 60, .others = 20,
	  .seats = 1, .start_all = true },
};

const unsigned supervisor_window_count = sizeof supervisor_windows / sizeof *supervisor_windows;
