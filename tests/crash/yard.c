/* SPDX-License-Identifier: MIT */
/* An executor to kill processes of; see yard.h. Its tasks: jobs.c; what is checked of it afterwards: books.c. */
#include "yard.h"
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "books.h"
#include "stepper.h"
#include "wake.h"

#define TID_MASK     0x3fffffff  /* of the lock word of a robust mutex */

void yard_prepare(int cpu)
{
	struct rlimit none = { 0, 0 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setrlimit(RLIMIT_CORE, &none);
	jobs_prepare();
}

int64_t yard_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t yard_guard_ms(void)
{
	return getenv("CRASH_GUARD_MS") ? strtol(getenv("CRASH_GUARD_MS"), NULL, 10) : YARD_GUARD_MS;
}

bool yard_until(bool (*condition)(void *), void *context)
{
	const struct timespec nap = { .tv_nsec = 50000 };
	int64_t deadline = 0;

	for (unsigned i = 0; !condition(context); i++) {
		if (i < 20) {
			sched_yield();           /* to the tracee, which has the same CPU */
			continue;
		}
		if (!deadline)
			deadline = yard_now_ms() + yard_guard_ms();
		if (yard_now_ms() > deadline)
			return condition(context);
		nanosleep(&nap, NULL);
	}
	return true;
}

void yard_open(struct yard *yard, unsigned seats)
{
	yard->options.max_workers = (int)seats;
	if (!yard->options.grace_ms)
		yard->options.grace_ms = PP_NONE;
	yard->seats = seats;
	yard->deaths = yard->marks = 0;
	yard->spare = false;
	yard->count = 0;
	if (pp_executor_create(&yard->ex, &yard->options) < 0)
		yard_fault(yard, WRONG, "there is no executor");
}

pid_t yard_supervisor(const struct yard *yard)
{
	return yard->ex->supervisor.pid;
}

void yard_fault(struct yard *yard, enum fault fault, const char *format, ...)
{
	static const char *const names[] = { "lost", "duplicated", "hung", "wrong" };
	va_list list;

	yard->tally->faults[fault]++;
	printf("%s: %s: %s: ", yard->window, yard->where, names[fault]);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	putchar('\n');
	if (yard->ex)
		books_dump(yard);
	fflush(stdout);
	longjmp(yard->failed, 1);
}

/* As a sleeping thread does, and as a walk or a callback does. A token on the semaphore is from the slot's earlier lives. */
static void want(struct part *part)
{
	struct pp__cell *cell = pp__cell_of(part->future);

	pp__sem_trywait(&cell->wake);
	part->deaf = !pp__slot_want(cell, part->future->generation, PP__WANT_WAKE);
	pthread_mutex_lock(&pp__lock);
	part->deaf |= !pp__arm(part->future);
	pthread_mutex_unlock(&pp__lock);
}

struct part *yard_submit(struct yard *yard, enum job_kind kind, uint32_t size)
{
	return yard_submit_with(yard, NULL, kind, size);
}

struct part *yard_submit_with(struct yard *yard, const pp_task_options *options, enum job_kind kind, uint32_t size)
{
	struct part *part = &yard->parts[yard->count++];

	*part = (struct part){ .job = { .kind = kind, .id = yard->next_job++ % YARD_JOBS, .size = size } };
	part->retries = options ? options->retries : 0;
	jobs_begin(&part->job);
	if (pp_submit_with(yard->ex, options, yard_job, &part->job, sizeof part->job, &part->future) < 0)
		yard_fault(yard, WRONG, "submit has failed");
	want(part);
	return part;
}

uint64_t yard_word(const struct part *part)
{
	return pp__slot_look(pp__cell_of(part->future));
}

void yard_note(struct yard *yard, uint32_t entry)
{
	for (unsigned i = 0; i < yard->count; i++) {
		struct part *part = &yard->parts[i];
		part->word = yard_word(part);
		part->runs = yard_runs(part);
		part->ours = entry != PP__NO_SLOT && pp__word_worker(part->word) == entry
		             && pp__word_state(part->word) >= PP__CLAIMED;
	}
}

/* The kernel marks the mutex of a dead owner: whoever has not come so far as to lock it leaves no mark. */
void yard_death(struct yard *yard, pid_t pid, uint32_t entry)
{
	struct pp__worker *line = yard->ex->segment.shared.workers + entry;
	uint32_t phase = atomic_load(&line->phase);

	yard_note(yard, entry);
	yard->marks += ((pid_t)line->life.__data.__lock & TID_MASK) == pid && stepper_has_mapped(pid, line);
	yard->deaths += phase != PP__LEAVING;
	yard->spare |= phase == PP__LIVE || (phase == PP__LEAVING && yard->options.max_tasks_per_worker);
	stepper_kill(pid);
}

void yard_expect_death(struct yard *yard, bool counts)
{
	yard->marks += counts;           /* in good order it has unmapped the mutex before */
	yard->deaths += counts;
	yard->spare = true;
}

uint32_t yard_newborn(struct yard *yard)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;

	for (uint32_t i = 0; i < shared->header->entries; i++)
		if (atomic_load(&shared->workers[i].phase) == PP__STARTING)
			return i;
	yard_fault(yard, WRONG, "no worker is being started");
}

bool yard_has_ended(void *part)
{
	return pp__state_is_end(pp__word_state(yard_word(part)));
}

bool yard_is_announced(struct part *part)
{
	pp_executor *ex = part->future->executor;
	const struct pp__control *c = ex->segment.shared.control;

	if (!part->future->announced && (atomic_load(&c->done) || atomic_load(&c->notices))) {
		pthread_mutex_lock(&pp__lock);
		pp__drain(ex);
		pthread_mutex_unlock(&pp__lock);
	}
	return part->deaf || part->future->announced;
}

/* Both ways of telling: on a stack of what has ended, and a token on the semaphore. */
static bool is_told(void *part_)
{
	struct part *part = part_;

	return yard_is_announced(part) && (part->deaf || pp__sem_has_token(&pp__cell_of(part->future)->wake));
}

void yard_forget(struct yard *yard)
{
	for (unsigned i = 0; i < yard->count; i++)
		pp_future_free(yard->parts[i].future);
	yard->count = 0;
}

void yard_judge(struct yard *yard)
{
	for (unsigned i = 0; i < yard->count; i++)
		if (!yard_until(yard_has_ended, &yard->parts[i]))
			yard_fault(yard, HUNG, "part %u does not end", i);
	for (unsigned i = 0; i < yard->count; i++)
		if (!yard_until(is_told, &yard->parts[i]))
			yard_fault(yard, HUNG, "the end of part %u is not announced", i);
	for (unsigned i = 0; i < yard->count; i++)
		jobs_judge(yard, &yard->parts[i]);
	yard_forget(yard);
}

static bool is_calm(void *yard)
{
	return books_are_calm(yard);
}

void yard_settle(struct yard *yard)
{
	if (!yard_until(is_calm, yard))
		yard_fault(yard, HUNG, "the pool does not come to rest");
	books_check(yard);
}

pid_t yard_sleeper(struct yard *yard, uint32_t *entry)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;

	*entry = (uint32_t)__builtin_ctzll(atomic_load(&shared->control->sleepers[0]));
	return atomic_load(&shared->workers[*entry].pid);
}

unsigned yard_pieces(const struct yard *yard, struct piece *pieces)
{
	const struct pp__shared *shared = &yard->ex->segment.shared;
	unsigned n = 0;

	pieces[n++] = (struct piece){ shared->control, sizeof *shared->control };
	pieces[n++] = (struct piece){ shared->workers, shared->header->entries * sizeof *shared->workers };
	pieces[n++] = (struct piece){ (const void *)shared->units, 64 * sizeof *shared->units };
	pieces[n++] = (struct piece){ (const void *)(shared->units + shared->header->small_count),
	                              64 * sizeof *shared->units };
	for (unsigned i = 0; i < yard->count; i++) {
		const struct part *part = &yard->parts[i];
		uint32_t slot = part->future->slot;
		pieces[n++] = (struct piece){ shared->cells + slot, sizeof *shared->cells };
		pieces[n++] = (struct piece){ shared->extensions + (uint64_t)slot * PP__EXTENSION, PP__EXTENSION };
		if (part->job.size > PP__EXTENSION)
			pieces[n++] = (struct piece){ shared->base + (part->job.size > PP__SMALL_MAX
			              ? shared->header->big_units : shared->header->small_units), part->job.size };
	}
	return n;
}

void yard_close(struct yard *yard)
{
	pp_executor *ex = yard->ex;

	yard_forget(yard);
	if (pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, yard_guard_ms()) < 0)
		yard_fault(yard, HUNG, "shutdown does not end");
	books_check_gone(yard);
	yard->ex = NULL;
	pp_executor_free(ex);
}

unsigned tally_faults(const struct tally *tally)
{
	unsigned n = 0;

	for (int i = 0; i < FAULTS; i++)
		n += tally->faults[i];
	return n;
}

const char *yard_state_name(int state)
{
	static const char *const names[PP__STATES] = { "free", "ready", "delayed", "failed", "claimed", "running", "asked",
	                                               "asked", "stopping", "stopping", "stopping", "stopping", "done",
	                                               "died", "killed", "timed out", "memory", "cancelled", "broken" };

	return names[state];
}

void yard_abandon(struct yard *yard)
{
	if (!yard->ex)
		return;
	for (uint32_t i = 0; i < yard->ex->segment.shared.header->entries; i++) {
		pid_t pid = atomic_load(&yard->ex->segment.shared.workers[i].pid);
		if (pid > 1)
			kill(pid, SIGKILL);
	}
	kill(yard_supervisor(yard), SIGKILL);
	yard->ex = NULL;
	yard->count = 0;
}
