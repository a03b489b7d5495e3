/* SPDX-License-Identifier: MIT */
/*
 * The record of a death, in the extension of the slot that went with it: what the crash handler had noted in the worker's
 * line, and what the kernel says of the process. It is written between the settling and the raise of the incarnation, so
 * whoever finds the incarnation raised finds the record complete; and by then nobody else can write to that slot.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "capture.h"
#include "chunk.h"
#include "segment.h"
#include "slot.h"
#include "supervisor.h"
#include "units.h"

static int32_t wait_status(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return (info->si_status & 0x7f) | (info->si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

static uint64_t nanoseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* The wait of the library hides the last argument, in which the kernel tells what the process has used. */
static void ask_kernel(struct pp__death *death, pid_t pid)
{
	struct rusage usage;
	siginfo_t info = { .si_pid = 0 };

	death->cpu_ns = death->peak_rss = death->faults = death->switches = UINT64_MAX;
	death->wait_status = -1;
	if (syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, &usage) < 0 || !info.si_pid)
		return;
	death->wait_status = wait_status(&info);
	death->cpu_ns = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
	death->peak_rss = (uint64_t)usage.ru_maxrss * 1024;
	death->faults = (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
	death->switches = (uint64_t)usage.ru_nvcsw + (uint64_t)usage.ru_nivcsw;
}

/* The room of a result that will never come is given up for the run in which the stack was saved. What the cell notes is
 * freed with the slot. The run of a chunk stays: it has the results of items that ended before. */
static void take_stack(const struct pp__shared *shared, uint32_t slot, uint64_t word, const struct pp__worker *line,
                       struct pp__death *death)
{
	struct pp__cell *cell = shared->cells + slot;
	uint32_t size = *(const volatile uint32_t *)&line->stack.size;

	if (shared->descs[slot].fn == pp__chunk_run)
		return;
	pp__units_release(shared, slot, pp__word_generation(word), atomic_load(&cell->claim));
	atomic_store(&cell->claim, atomic_load(&line->stack.claim));
	if (size <= PP__STACK_MAX) {
		death->stack_base = line->stack.base;
		death->stack_size = size;
	}
}

/* Behind the stack, if there is one. What the line says of its run may be anything: no byte is written to another's. */
static void take_output(struct pp__supervisor *s, uint32_t entry, uint32_t slot, uint64_t word, struct pp__death *death)
{
	const struct pp__shared *shared = s->shared;
	_Atomic uint64_t *claim = &shared->cells[slot].claim;
	uint32_t size = pp__capture_read(s, entry, NULL, PP__OUTPUT_MAX), generation = pp__word_generation(word);
	uint64_t run;

	if (!size || shared->descs[slot].fn == pp__chunk_run)
		return;
	if (!atomic_load(claim) && pp__units_claim(shared, &s->cursor, slot, generation, size) < 0)
		return;
	run = atomic_load(claim);
	if (!pp__units_are_owned(shared, slot, generation, run, (uint64_t)death->stack_size + size))
		return;
	death->output_size = pp__capture_read(s, entry, (unsigned char *)shared->base
	                                      + pp__units_offset(shared->header, run) + death->stack_size, size);
}

void pp__record_death(struct pp__supervisor *s, uint32_t entry)
{
	const struct pp__worker *line = s->shared->workers + entry;
	uint64_t owner = pp__owner(entry, s->incarnations[entry]), word;
	uint32_t slot = atomic_load(&line->cur);
	struct pp__death death = { 0 };
	unsigned char *place;
	int rc;

	if (slot >= atomic_load(&s->shared->header->slots))
		return;
	word = pp__slot_look(s->shared->cells + slot);
	if (!pp__state_is_death(pp__word_state(word)) || !pp__word_is_owned_by(word, owner))
		return;
	death.tag = pp__word_attempt(word);
	memcpy(&death.crash, &line->crash, sizeof death.crash);
	ask_kernel(&death, s->children[entry].pid);
	take_stack(s->shared, slot, word, line, &death);
	take_output(s, entry, slot, word, &death);
	place = s->shared->extensions + (uint64_t)slot * PP__EXTENSION;
	rc = pp__memory_commit_at(place, sizeof death);
	if (rc == 0 || rc == -EINVAL)            /* -EINVAL: this kernel cannot; the first touch will tell */
		memcpy(place, &death, sizeof death);
}
