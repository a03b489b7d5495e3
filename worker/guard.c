/* SPDX-License-Identifier: MIT */
/* Opening and shutting: guard.h. */
#include "guard.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "layout.h"
#include "segment.h"
#include "worker.h"

static struct pp__guard *guarding;       /* what gives memory has no other way to it */

static struct pp__range pages_of(void *place, size_t size)
{
	uintptr_t from = (uintptr_t)place & ~(uintptr_t)(PP__PAGE - 1);
	uintptr_t to = ((uintptr_t)place + size + PP__PAGE - 1) & ~(uintptr_t)(PP__PAGE - 1);

	return (struct pp__range){ (char *)from, (char *)to };
}

/* Without it neither the task nor the library can go on: there are no mappings left, or a filter of the task's forbids it. */
static void protect(struct pp__range range, int protection)
{
	if (range.from != range.to && mprotect(range.from, (size_t)(range.to - range.from), protection) < 0)
		_exit(1);
}

static void open_range(struct pp__range range) { protect(range, PROT_READ | PROT_WRITE); }
static void shut_range(struct pp__range range) { protect(range, PROT_READ); }

void pp__guard_widen(struct pp__guard *guard, enum pp__opening opening)
{
	if (guard->opening < PP__OPEN_CORE)
		open_range((struct pp__range){ guard->core, guard->cells });
	if (guard->opening < opening && opening == PP__OPEN_UNITS)
		open_range((struct pp__range){ guard->words, guard->units });
	if (guard->opening < opening)
		guard->opening = opening;
}

/* Where there are too many the last becomes one that covers it, and all between. */
void pp__guard_widen_to(struct pp__guard *guard, void *place, size_t size)
{
	struct pp__range pages = pages_of(place, size), *last = &guard->pages[PP__GUARD_PAGES - 1];

	for (uint32_t i = 0; i < guard->count; i++)
		if (guard->pages[i].from <= pages.from && pages.to <= guard->pages[i].to)
			return;
	if (guard->count < PP__GUARD_PAGES) {
		guard->pages[guard->count++] = pages;
	} else {
		last->from = pages.from = last->from < pages.from ? last->from : pages.from;
		last->to = pages.to = last->to > pages.to ? last->to : pages.to;
	}
	open_range(pages);
}

/* The result stays as it is, unless it is a part of what is shut. */
static void shut_pages(struct pp__guard *guard)
{
	const struct pp__range *result = &guard->result, *pages;
	bool kept = false, cut = false;

	for (uint32_t i = 0; i < guard->count; i++) {
		pages = &guard->pages[i];
		if (pages->from == result->from && pages->to == result->to) {
			kept = true;
			continue;
		}
		cut |= pages->from < result->to && result->from < pages->to;
		shut_range(*pages);
	}
	guard->count = 0;
	if (result->from == result->to)
		return;
	if (!kept || cut)
		open_range(*result);
	guard->pages[guard->count++] = *result;
}

void pp__guard_shut(struct pp__guard *guard)
{
	if (guard->opening >= PP__OPEN_CORE)
		shut_range((struct pp__range){ guard->core, guard->cells });
	if (guard->opening >= PP__OPEN_UNITS)
		shut_range((struct pp__range){ guard->words, guard->units });
	guard->opening = PP__SHUT;
	shut_pages(guard);
	if (atomic_load(&guard->dropped))        /* meanwhile, by another thread */
		pp__guard_drop_all(guard);
}

void pp__guard_leave(struct pp__guard *guard, void *argument, size_t size)
{
	pp__guard_shut(guard);
	if (argument)
		guard->argument = pages_of(argument, size);
	open_range(guard->argument);
	guard->lent = true;
}

void pp__guard_enter(struct pp__guard *guard)
{
	guard->lent = false;
	pp__guard_widen(guard, PP__OPEN_CORE);
	shut_range(guard->argument);
	guard->argument = guard->result = (struct pp__range){ NULL, NULL };
}

/* Killed by the first write that this would have been for, the process is no worse off. */
void pp__guard_drop(struct pp__guard *guard)
{
	if (!guard->on)
		return;
	atomic_store(&guard->dropped, true);
	mprotect(guard->core, (size_t)(guard->cells - guard->core), PROT_READ | PROT_WRITE);
	guard->opening = PP__OPEN_CORE;
}

void pp__guard_drop_all(struct pp__guard *guard)
{
	if (guard->on)
		mprotect(guard->core, (size_t)(guard->end - guard->core), PROT_READ | PROT_WRITE);
}

void pp__guard_refuse(struct pp__guard *guard)
{
	if (guard->on)
		mprotect(guard->core, (size_t)(guard->end - guard->core), PROT_READ);
}

unsigned char *pp__guard_stage(struct pp__guard *guard, size_t size)
{
	if (size > SIZE_MAX / 2)
		return NULL;
	if (size <= guard->stage_size)
		return guard->stage;
	free(guard->stage);
	guard->stage_size = (size + PP__PAGE - 1) & ~(size_t)(PP__PAGE - 1);
	guard->stage = aligned_alloc(PP__PAGE, guard->stage_size);
	if (!guard->stage)
		guard->stage_size = 0;
	return guard->stage;
}

/* Words of units are open whenever they are given memory, and everything is when the process dies. */
static void open_for_memory(void *place, size_t size)
{
	char *at = place;

	if (!atomic_load(&guarding->dropped) && (at < guarding->words || at >= guarding->units))
		pp__guard_widen_to(guarding, place, size);
}

/* The core gets a flag that its neighbours do not have, and which is of no use to it: else its mapping would merge with
 * theirs each time that it is shut and be cut out again each time that it is opened, for twice the price. */
int pp__guard_arm(struct pp__self *self)
{
	const struct pp__header *h = self->shared->header;
	struct pp__guard *guard = &self->guard;
	char *base = self->shared->base;

	if (!(h->flags & PP_HARDENED))
		return 0;
	*guard = (struct pp__guard){ .core = base + h->control, .cells = base + h->cells, .units = base + h->small_units,
	                             .words = base + (h->unit_words & ~(uint64_t)(PP__PAGE - 1)), .end = base + h->size,
	                             .opening = PP__OPEN_CORE };
	madvise(guard->core, (size_t)(guard->cells - guard->core), MADV_NOHUGEPAGE);
	if (mprotect(guard->cells, (size_t)(guard->end - guard->cells), PROT_READ) < 0
	    || mprotect(pp__life_of(self->shared, self->entry), PP__PAGE, PROT_READ | PROT_WRITE) < 0
	    || !pp__guard_stage(guard, PP__EXTENSION))
		return -ENOMEM;
	guarding = guard;
	pp__memory_opener = open_for_memory;
	guard->on = true;
	return 0;
}
