/* SPDX-License-Identifier: MIT */
/* The tasks of a yard: what they do, how often each was started, and what has to come of it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "yard.h"

#define PATTERN_SIZE (512u * 1024u)

static unsigned char *pattern;   /* what jobs return: from a place that their number says */
static _Atomic uint32_t *runs;   /* how often each was started */

void jobs_prepare(void)
{
	pattern = malloc(PATTERN_SIZE);
	runs = mmap(NULL, YARD_JOBS * sizeof *runs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!pattern || runs == MAP_FAILED)
		abort();
	for (uint32_t i = 0; i < PATTERN_SIZE; i++)
		pattern[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

void jobs_begin(const struct job *job)
{
	atomic_store(&runs[job->id], 0);
}

unsigned yard_runs(const struct part *part)
{
	return atomic_load(&runs[part->job.id]);
}

static const unsigned char *bytes_of(const struct job *job)
{
	return pattern + job->id % 997;
}

static volatile uintptr_t bad_address = 16;

/* What it does the first time, and the only time for most. false: it returns. */
static bool ends_otherwise(pp_task *task, const struct job *job, uint32_t nth, int *rc)
{
	bool again = nth > 1;

	if ((job->kind == JOB_RAISE_ONCE || job->kind == JOB_SEGV_ONCE) && again)
		return false;
	if (job->kind == JOB_RAISE || job->kind == JOB_RAISE_ONCE) {
		*rc = pp_raise_data(task, 7, bytes_of(job), job->size, "job %u", job->id);
		return true;
	}
	if (job->kind == JOB_SEGV || job->kind == JOB_SEGV_ONCE)
		*(volatile int *)bad_address = 1;
	if (job->kind == JOB_ABORT)
		abort();
	if (job->kind == JOB_EXIT)
		exit(3);
	while (job->kind == JOB_SLEEP)
		pause();
	while (job->kind == JOB_HEED && !pp_task_cancelled(task))
		;
	return false;
}

int yard_job(pp_task *task, const void *data, size_t size)
{
	struct job job;
	int rc;

	if (size != sizeof job)
		return -1;
	memcpy(&job, data, sizeof job);
	if (ends_otherwise(task, &job, atomic_fetch_add(&runs[job.id], 1) + 1, &rc))
		return rc;
	return pp_return(task, bytes_of(&job), job.size);
}

/* The end that a job has when nobody disturbs it. */
static int kind_of(const struct job *job)
{
	static const int kinds[] = { PP_RETURNED, PP_RAISED, PP_RETURNED, PP_RETURNED, PP_CRASHED, PP_RETURNED, PP_CRASHED,
	                             PP_EXITED, PP_KILLED };

	return kinds[job->kind];
}

bool yard_is_right(const struct job *job, const pp_outcome *o)
{
	switch (job->kind) {
	case JOB_RAISE:
		return o->code == 7 && o->size == job->size && memcmp(o->data, bytes_of(job), job->size) == 0
		       && strncmp(o->message, "job ", 4) == 0 && strtoul(o->message + 4, NULL, 10) == job->id;
	case JOB_SEGV:
		return o->signal == SIGSEGV;
	case JOB_ABORT:
		return o->signal == SIGABRT;
	case JOB_EXIT:
		return o->code == 3;
	default:
		return o->size == job->size && memcmp(o->data, bytes_of(job), job->size) == 0;
	}
}

/* Two attempts: the first fails by itself, or with the killed one. A killed one that had not come to the job leaves its
 * failure to the second, which is the last. */
static bool is_right_retried(const struct part *part, const pp_outcome *o, unsigned n)
{
	bool undone = part->ours && pp__state_runs(pp__word_state(part->word));

	if (o->kind == PP_RETURNED)
		return n == 2 && yard_is_right(&part->job, o);
	if (!undone)
		return false;
	if (part->runs)                  /* killed in the second */
		return o->kind == PP_CRASHED && o->signal == SIGKILL;
	return n == 1 && (part->job.kind == JOB_RAISE_ONCE ? o->kind == PP_RAISED && o->code == 7
	                                                   : o->kind == PP_CRASHED && o->signal == SIGSEGV);
}

static void judge_retried(struct yard *yard, const struct part *part, const pp_outcome *o, unsigned n)
{
	if (!is_right_retried(part, o, n))
		yard_fault(yard, WRONG, "state %d when killed, after %u runs: after %u, %s (%s)",
		           (int)pp__word_state(part->word), part->runs, n, pp_kind_name(o->kind), o->message);
}

/* Killed while it ran: failed with the cause, and run no second time. Else: as if nothing had been. */
static void judge_plain(struct yard *yard, const struct part *part, const pp_outcome *o, unsigned n)
{
	enum pp__state state = pp__word_state(part->word);
	bool undone = part->ours && pp__state_runs(state);

	if (undone && o->kind == PP_CRASHED && o->signal == SIGKILL)
		return;
	if (undone)
		yard_fault(yard, WRONG, "killed while running: %s (%s)", pp_kind_name(o->kind), o->message);
	if (o->kind != kind_of(&part->job))
		yard_fault(yard, LOST, "state %d when killed: %s (%s)", (int)state, pp_kind_name(o->kind), o->message);
	if (!yard_is_right(&part->job, o))
		yard_fault(yard, WRONG, "state %d when killed: %s, %zu bytes, %s", (int)state, pp_kind_name(o->kind), o->size,
		           o->message);
	if (n != 1)
		yard_fault(yard, WRONG, "returned, and was never run");
}

void jobs_judge(struct yard *yard, const struct part *part)
{
	const pp_outcome *o = pp__future_outcome(part->future);
	unsigned n = yard_runs(part);

	if (!o)
		yard_fault(yard, WRONG, "no memory");
	yard->tally->fates[pp__word_state(part->word)][o->kind]++;
	if (n > 1 + part->retries)
		yard_fault(yard, DUPLICATED, "job %u was run %u times", part->job.id, n);
	(part->retries ? judge_retried : judge_plain)(yard, part, o, n);
}
