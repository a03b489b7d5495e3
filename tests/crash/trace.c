/* SPDX-License-Identifier: MIT */
/* The instructions of a window; see trace.h. */
#include "trace.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Turns of one loop that are counted off by a breakpoint: what comes later in it is no point. */
#define OFTEN_FULL   3000u
#define OFTEN_SAMPLE 500u

extern const char __executable_start[], etext[];

static bool is_own(uintptr_t at)
{
	return at >= (uintptr_t)__executable_start && at < (uintptr_t)etext;
}

/* What is compared after each step outside of our own code. */
struct shadow { struct piece pieces[YARD_PIECES]; unsigned n; unsigned char *copy; };

static void shadow_make(struct shadow *shadow, const struct yard *yard)
{
	size_t size = 0;

	shadow->n = yard_pieces(yard, shadow->pieces);
	for (unsigned i = 0; i < shadow->n; i++)
		size += shadow->pieces[i].size;
	shadow->copy = malloc(size);
	if (!shadow->copy)
		abort();
}

/* Whether something has changed since the last call. */
static bool shadow_has_changed(struct shadow *shadow)
{
	unsigned char *copy = shadow->copy;
	bool changed = false;

	for (unsigned i = 0; i < shadow->n; i++) {
		if (memcmp(copy, shadow->pieces[i].at, shadow->pieces[i].size) != 0) {
			memcpy(copy, shadow->pieces[i].at, shadow->pieces[i].size);
			changed = true;
		}
		copy += shadow->pieces[i].size;
	}
	return changed;
}

static void add(struct trace *trace, uintptr_t at, unsigned char flags)
{
	if (trace->n == trace->room) {
		trace->room = trace->room ? 2 * trace->room : 4096;
		trace->steps = realloc(trace->steps, trace->room * sizeof *trace->steps);
		if (!trace->steps)
			abort();
	}
	trace->steps[trace->n++] = (struct step){ .at = at, .flags = flags };
}

/* How often each instruction has come up to each step, the start not counted. Linear in the number of steps. */
static void count_hits(struct trace *trace)
{
	struct { uintptr_t at; unsigned n; } *table;
	size_t size = 1024, i;

	while (size < 2 * (size_t)trace->n)
		size *= 2;
	table = calloc(size, sizeof *table);
	if (!table)
		abort();
	for (unsigned step = 1; step < trace->n; step++) {
		uintptr_t at = trace->steps[step].at;
		for (i = (at * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (size - 1); table[i].at && table[i].at != at; )
			i = (i + 1) & (size - 1);
		table[i].at = at;
		trace->steps[step].hit = ++table[i].n;
	}
	free(table);
}

/* An instruction that comes again at once is one that copies or fills: it has written, and what is no more the question. */
enum stepper trace_record(struct trace *trace, struct yard *yard, pid_t pid, uintptr_t end)
{
	uintptr_t at = stepper_instruction(pid), before = 0;
	enum stepper rc = STEPPER_OK;
	struct shadow shadow;
	bool own;

	shadow_make(&shadow, yard);
	shadow_has_changed(&shadow);
	do {
		own = is_own(at);
		add(trace, at, own ? STEP_OWN : stepper_at_syscall(pid) ? STEP_SYSCALL : 0);
		before = at;
		rc = stepper_step(pid);
		if (rc != STEPPER_OK)
			break;
		at = stepper_instruction(pid);
		if (!own && (at == before || shadow_has_changed(&shadow)))
			trace->steps[trace->n - 1].flags |= STEP_STORED;
	} while (at != end);
	free(shadow.copy);
	count_hits(trace);
	return rc;
}

/* Before this instruction, or behind the one before it. */
static bool is_point(const struct step *step, unsigned too_often)
{
	unsigned char around = step->flags | (step[-1].flags & ~STEP_OWN);

	return (step->flags & STEP_OWN || around & (STEP_SYSCALL | STEP_STORED)) && step->hit <= too_often;
}

/* The wanted ones of total things that come one after the other: each as likely as the next. */
static bool draw(unsigned *wanted, unsigned *total, unsigned *seed)
{
	bool taken = *wanted >= *total || (unsigned)rand_r(seed) % *total < *wanted;

	--*total;
	*wanted -= taken && *wanted;
	return taken;
}

struct point *trace_points(const struct trace *trace, unsigned own, unsigned others, unsigned *seed, unsigned *count)
{
	struct point *points = malloc((trace->n + 1) * sizeof *points);
	unsigned n = 0, all_own = 0, all_others = 0, too_often = others == UINT_MAX ? OFTEN_FULL : OFTEN_SAMPLE;

	for (unsigned i = 1; points && i < trace->n; i++)
		if (is_point(&trace->steps[i], too_often))
			*(trace->steps[i].flags & STEP_OWN ? &all_own : &all_others) += 1;
	for (unsigned i = 1; points && i < trace->n; i++) {
		const struct step *step = &trace->steps[i];
		bool mine = step->flags & STEP_OWN;
		if (is_point(step, too_often) && draw(mine ? &own : &others, mine ? &all_own : &all_others, seed))
			points[n++] = (struct point){ .index = i, .at = step->at, .hit = step->hit, .own = mine };
	}
	*count = n;
	return points;
}

void trace_free(struct trace *trace)
{
	free(trace->steps);
	*trace = (struct trace){ .n = 0 };
}

void trace_name(char *text, size_t size, uintptr_t at)
{
	Dl_info info = { 0 };

	dladdr((void *)at, &info);
	if (is_own(at))
		snprintf(text, size, "own code +0x%lx", (unsigned long)(at - (uintptr_t)__executable_start));
	else
		snprintf(text, size, "%s +0x%lx", info.dli_sname ? info.dli_sname : "elsewhere",
		         (unsigned long)(at - (uintptr_t)(info.dli_saddr ? info.dli_saddr : (void *)0)));
}
