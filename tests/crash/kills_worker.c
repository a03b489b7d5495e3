/* SPDX-License-Identifier: MIT */
/* The windows of a worker: from before its claim until after its next look at the ring, for each way a task can end; its
 * birth, and its end in good order. */
#include <limits.h>
#include <string.h>
#include "kills.h"

/* The pool is calm; the worker that is woken next sleeps, and is stopped before there is anything to do. */
static pid_t begin_asleep(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t pid = yard_sleeper(yard, entry);

	if (!stepper_attach(pid))
		yard_fault(yard, WRONG, "the worker cannot be traced");
	/* So that it nudges in every trial, however long ago the last one was. */
	atomic_store(&yard->ex->segment.shared.control->supervisor_wakes_ns, PP__NEVER);
	yard_submit_with(yard, window_task(window), window->job, window->size);
	for (unsigned i = 1; i < window->jobs; i++)
		yard_submit(yard, JOB_RETURN, 3);
	return pid;
}

static bool is_asked(void *part)
{
	return pp__word_state(yard_word(part)) == PP__ASKED_TIME;
}

/* It stands before its task, whose time is over, and the supervisor has told it so. */
static pid_t begin_asked(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t pid = begin_asleep(yard, window, entry);

	if (stepper_run_to(pid, (uintptr_t)yard_job, 1, 0) != STEPPER_OK)
		yard_fault(yard, WRONG, "the worker does not come to its task");
	if (!yard_until(is_asked, &yard->parts[0]))
		yard_fault(yard, HUNG, "the task is not asked to end");
	return pid;
}

/* All that was there comes to its end, and so does the next task. */
static void end_and_next(struct yard *yard, const struct window *window, uint32_t entry)
{
	(void)window;
	(void)entry;
	for (unsigned i = 0; i < yard->count; i++) {
		const struct part *part = &yard->parts[i];
		bool runs_again = part->job.kind == JOB_SEGV_ONCE ? !part->runs : pp__word_state(part->word) < PP__RUNNING;
		if (runs_again && part->job.kind >= JOB_SEGV)
			yard_expect_death(yard, true);   /* it will take another one with it */
	}
	yard_judge(yard);
	yard_submit(yard, JOB_RETURN, 3);
	yard_note(yard, PP__NO_SLOT);
	yard_judge(yard);
}

/* Every task ends the life of a worker: of another one, when this one was killed before it ran. */
static void end_and_leave(struct yard *yard, const struct window *window, uint32_t entry)
{
	(void)window;
	(void)entry;
	if (pp__word_state(yard->parts[0].word) < PP__RUNNING)
		yard_expect_death(yard, false);
	yard_judge(yard);
}

/* An idle worker dies, the spare takes its seat, and another spare is born: it is the one. Meanwhile there is work. */
static pid_t begin_birth(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t victim = yard_sleeper(yard, entry), child;

	if (!stepper_attach_parent(yard_supervisor(yard)) || !stepper_attach(victim))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	for (unsigned i = 0; i < window->jobs; i++)
		yard_submit(yard, window->job, window->size);
	yard_death(yard, victim, *entry);
	child = stepper_run_to_child(yard_supervisor(yard));
	if (!child)
		yard_fault(yard, HUNG, "there is no new worker");
	*entry = yard_newborn(yard);
	return child;
}

/* The first worker, with a task that waits for it. */
static pid_t begin_first(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t child;

	if (!stepper_attach_parent(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	for (unsigned i = 0; i < window->jobs; i++)
		yard_submit(yard, window->job, window->size);
	child = stepper_run_to_child(yard_supervisor(yard));
	if (!child)
		yard_fault(yard, HUNG, "there is no first worker");
	*entry = yard_newborn(yard);
	return child;
}

/* The supervisor hears of nothing until the death, so the second attempt is another worker's. */
static pid_t begin_apart(struct yard *yard, const struct window *window, uint32_t *entry)
{
	if (!stepper_attach(yard_supervisor(yard)))
		yard_fault(yard, WRONG, "the supervisor cannot be traced");
	return begin_asleep(yard, window, entry);
}

static void end_apart(struct yard *yard, const struct window *window, uint32_t entry)
{
	stepper_release(yard_supervisor(yard));
	end_and_next(yard, window, entry);
}

/* The first worker has done its task, and is about to sleep for as long as it may. */
static pid_t begin_idle(struct yard *yard, const struct window *window, uint32_t *entry)
{
	pid_t pid = begin_first(yard, window, entry);

	if (stepper_run_to(pid, (uintptr_t)pp__sem_wait, 1, 0) != STEPPER_OK)
		yard_fault(yard, WRONG, "the first worker does not come to its sleep");
	return pid;
}

static int initialize(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	return (int)size;
}

#define ASLEEP .begin = begin_asleep, .end = end_and_next, .stop = (uintptr_t)pp__sem_wait
#define TASK(...) .task = { .size = sizeof(pp_task_options), __VA_ARGS__ }
#define RETRY_ON (PP_ON(PP_RAISED) | PP_ON(PP_CRASHED))
#define ALL    UINT_MAX

const struct window worker_windows[] = {
	{ .name = "small result", ASLEEP, .seats = 1, .jobs = 1, .size = 3, .own = ALL, .others = 60 },
	{ .name = "two in a row", ASLEEP, .seats = 1, .jobs = 2, .size = 3, .own = 200, .others = 20 },
	{ .name = "result of 200 bytes", ASLEEP, .seats = 1, .jobs = 1, .size = 200, .own = 120, .others = 40 },
	{ .name = "result of 20 kB", ASLEEP, .seats = 1, .jobs = 1, .size = 20000, .own = 200, .others = 60 },
	{ .name = "result of 66 kB", ASLEEP, .seats = 1, .jobs = 1, .size = 66000, .own = 200, .others = 60 },
	{ .name = "raised error", ASLEEP, .seats = 1, .jobs = 1, .job = JOB_RAISE, .size = 500, .own = 150, .others = 40 },
	{ .name = "crash, handler runs", ASLEEP, .seats = 1, .jobs = 1, .job = JOB_SEGV, .own = 200, .others = 40 },
	{ .name = "abort, handler runs", ASLEEP, .seats = 1, .jobs = 1, .job = JOB_ABORT, .own = 80, .others = 40 },
	{ .name = "exit, hook runs", ASLEEP, .seats = 1, .jobs = 1, .job = JOB_EXIT, .own = 80, .others = 40 },
	{ .name = "one of two is woken", ASLEEP, .seats = 2, .jobs = 3, .size = 3, .own = 250, .others = 30 },
	{ .name = "leaves after its task", .begin = begin_asleep, .end = end_and_leave, .seats = 1, .jobs = 1, .size = 3,
	  .max_tasks = 1, .own = 150, .others = 40 },
	{ .name = "with a timeout", ASLEEP, .seats = 1, .jobs = 1, .size = 3, TASK(.timeout_ms = 60000), .own = 120,
	  .others = 30 },
	{ .name = "asked to end, its time is over", .begin = begin_asked, .end = end_and_next,
	  .stop = (uintptr_t)pp__sem_wait, .seats = 1, .jobs = 1, .size = 3, .job = JOB_HEED, TASK(.timeout_ms = 1), .grace_ms = 60000, .own = 150,
	  .others = 30 },
	{ .name = "raises, and is run again", .begin = begin_apart, .end = end_apart, .stop = (uintptr_t)pp__sem_wait,
	  .seats = 1, .jobs = 1, .size = 3, .job = JOB_RAISE_ONCE,
	  TASK(.retries = 1, .retry_on = RETRY_ON), .own = 200, .others = 40 },
	{ .name = "crashes, and is run again", ASLEEP, .seats = 1, .jobs = 1, .size = 3, .job = JOB_SEGV_ONCE,
	  TASK(.retries = 1, .retry_on = RETRY_ON), .own = 150, .others = 40 },
	{ .name = "leaves, being idle for too long", .begin = begin_idle, .end = end_and_next, .seats = 1, .jobs = 1,
	  .size = 3, .fresh = true, .idle_ms = 1, .own = 150, .others = 60 },
	{ .name = "birth with an initializer", .begin = begin_first, .end = end_and_next, .stop = (uintptr_t)pp__sem_wait,
	  .seats = 1, .jobs = 1, .size = 3, .fresh = true, .initializer = initialize, .own = 100, .others = 20 },
	{ .name = "birth of the spare", .begin = begin_birth, .end = end_and_next, .stop = (uintptr_t)pp__sem_wait,
	  .seats = 1, .jobs = 1, .size = 3, .own = 80, .others = 60 },
	{ .name = "birth of the first", .begin = begin_first, .end = end_and_next, .stop = (uintptr_t)pp__sem_wait,
	  .seats = 1, .jobs = 1, .size = 3, .fresh = true, .own = 120, .others = 60 },
};

const unsigned worker_window_count = sizeof worker_windows / sizeof *worker_windows;
