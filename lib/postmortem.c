/* SPDX-License-Identifier: MIT */
/*
 * The post-mortem: waits until the owner of a task that took its worker with it is buried, reads the record of that death,
 * and unwinds what was saved of the stack. Nothing tells the parent of a burial, and it follows the end of the future by
 * moments, so this looks, and sleeps longer each time. The record may have been forged: sizes are held against bounds,
 * and the run of units that it speaks of against the books of units; the rest is only shown.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include "report.h"
#include "units.h"

#define FIRST_LOOK_NS INT64_C(50000)
#define LAST_LOOK_NS  INT64_C(5000000)

/* One at a time: it is the way of libdw, and of what is kept of each result. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void pp__postmortem_free(struct pp__postmortem *postmortem)
{
	if (!postmortem)
		return;
	pp__frames_free(postmortem->frames, postmortem->shown.frame_count);
	free(postmortem->output);
	free(postmortem);
}

/* Or has nothing to do with the slot, as where its word was forged: then there will be no record either. */
static bool owner_is_buried(const pp_future *future, uint64_t word)
{
	return pp__owner_has_left(future->executor, future->slot, word);
}

/* Nobody buries any more: the supervisor has ended. Asked before the last look, so that this finds what it did before. */
static bool is_over(pp_executor *ex)
{
	pp__tend_sometimes(ex);
	return atomic_load(&ex->broken) || atomic_load(&ex->segment.shared.control->finished);
}

static int await_burial(const pp_future *future, uint64_t word, int64_t deadline)
{
	int64_t pause = FIRST_LOOK_NS, now;
	bool over;

	while (!owner_is_buried(future, word)) {
		over = is_over(future->executor);
		if (owner_is_buried(future, word))
			return 0;
		if (over)
			return -ENODATA;
		now = pp__now_ns();
		if (now >= deadline)
			return -ETIMEDOUT;
		if (pause > deadline - now)
			pause = deadline - now;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = pause }, NULL);
		pause = pause * 2 < LAST_LOOK_NS ? pause * 2 : LAST_LOOK_NS;
	}
	return 0;
}

/* The run with the stack and the output; NULL when the record does not speak of one that is this slot's. */
static const unsigned char *find_run(const pp_future *future, const struct pp__death *death)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	uint64_t claim = atomic_load(&pp__cell_of(future)->claim), size = (uint64_t)death->stack_size + death->output_size;

	if (future->chunk || !size || death->stack_size > PP__STACK_MAX || death->output_size > PP__OUTPUT_MAX
	    || !pp__units_are_owned(shared, future->slot, future->generation, claim, size))
		return NULL;
	return (const unsigned char *)shared->base + pp__units_offset(shared->header, claim);
}

static void make_frames(struct pp__postmortem *p, const struct pp__report *report, const struct pp__death *death,
                        const unsigned char *run)
{
#if PP__REGISTERS
	struct pp__stack_copy stack = { .bytes = run, .base = death->stack_base, .size = run ? death->stack_size : 0 };

	if (report->has_crash) {
		p->shown.frame_count = pp__backtrace(report->crash.registers, &stack, p->frames, &p->shown.frames_note);
		return;
	}
#else
	(void)death;
	(void)run;
#endif
	p->shown.frames_note = report->has_crash ? "no registers are known of this kind of machine"
	                                         : "no crash handler of this library saw it die";
}

/* Behind the stack. */
static void copy_output(struct pp__postmortem *p, const struct pp__death *death, const unsigned char *run)
{
	p->shown.output = "";
	if (!run || !death->output_size)
		return;
	p->output = malloc(death->output_size + 1u);
	if (!p->output)
		return;
	memcpy(p->output, run + death->stack_size, death->output_size);
	p->output[death->output_size] = 0;
	p->shown.output = p->output;
	p->shown.output_size = death->output_size;
}

static struct pp__postmortem *make(const pp_future *future, const struct pp__report *report, const struct pp__death *death)
{
	struct pp__postmortem *p = calloc(1, sizeof *p);
	const unsigned char *run = find_run(future, death);

	if (!p)
		return NULL;
	p->shown = (pp_postmortem){ .wait_status = death->wait_status, .cpu_ns = death->cpu_ns,
	                            .core_dumped = death->wait_status != -1 && WCOREDUMP(death->wait_status),
	                            .peak_rss = death->peak_rss, .faults = death->faults, .switches = death->switches,
	                            .frames = p->frames };
	make_frames(p, report, death, run);
	copy_output(p, death, run);
	return p;
}

/* lock held. The outcome is made, and its owner buried. */
static int make_once(pp_future *future, uint64_t word, const pp_postmortem **postmortem)
{
	struct pp__box *box = pp__box_of(future);
	struct pp__death death;

	future->neat = false;            /* whatever it was read as, there is something to be freed now */
	if (!box->report)
		box->report = pp__report_make(future, word);
	if (!box->report)
		return -ENOMEM;
	if (!box->report->postmortem) {
		if (!pp__death_read(future, word, &death))
			return -ENODATA;
		box->report->postmortem = make(future, box->report, &death);
	}
	if (!box->report->postmortem)
		return -ENOMEM;
	*postmortem = &box->report->postmortem->shown;
	return 0;
}

int pp_future_postmortem(pp_future *future, int64_t timeout_ms, const pp_postmortem **postmortem)
{
	int64_t deadline = pp__deadline_ns(timeout_ms);
	const pp_outcome *outcome;
	uint64_t word;
	int rc, state;

	if (postmortem)
		*postmortem = NULL;
	if (pp__is_original_process() && !postmortem)
		return -EINVAL;
	rc = pp_future_result(future, timeout_ms, &outcome);
	if (rc < 0)
		return rc;
	word = pp__slot_look(pp__cell_of(future));
	if (!outcome->pid || !pp__word_is_like(word, pp__word_of(future, PP__FREE))
	    || !pp__state_is_death(pp__word_state(word)))
		return -ENODATA;
	state = pp__cancel_hold();
	rc = await_burial(future, word, deadline);
	if (rc == 0) {
		pthread_mutex_lock(&lock);
		rc = make_once(future, word, postmortem);
		pthread_mutex_unlock(&lock);
	}
	pp__cancel_restore(state);
	return rc;
}
