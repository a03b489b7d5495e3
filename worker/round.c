/* SPDX-License-Identifier: MIT */
/*
 * A round of pp_executor_run_on_workers, from the worker's side. It has a number, which is a part of the word that workers
 * read at each look. The one of a worker's birth counts as answered: it belongs to those who were there before. Killed in
 * it, a worker is buried like an idle one, and the parent no longer waits for its answer.
 */
#include <unistd.h>
#include "sysdep.h"
#include "wake.h"
#include "worker.h"

static void answer(struct pp__self *self, uint32_t levels)
{
	self->plain_levels = pp__levels_round(levels) << PP__ROUND_SHIFT | 1u << PP__NORMAL;
	atomic_store(&self->line->round, pp__levels_round(levels));
}

/* The initializer, the finalizer and a round have a task's shape, but no slot: what they return goes nowhere. */
int pp__run_hook(struct pp__self *self, pp_fn *fn, uint64_t offset, uint64_t size)
{
	int rc;

	pp__task_begin(self, PP__NO_SLOT, 0);
	pp__task_lend(&self->task);
	rc = fn(&self->task, self->shared->base + (offset ? offset : self->shared->header->descs), size);
	if (!pp__is_owner_process(self->mark, self->pid))
		_exit(0);
	pp__task_take(&self->task);
	pp__flush_output();
	if (rc == 0 && self->task.raised)
		rc = self->task.raise_code;
	return rc;
}

/* After the pid is in the line: the parent sets the number first and then notes who is there. */
void pp__round_born(struct pp__self *self)
{
	answer(self, atomic_load(&self->shared->header->levels));
}

void pp__round_look(struct pp__self *self)
{
	const struct pp__header *h = self->shared->header;
	uint32_t levels = atomic_load(&h->levels);

	if (pp__levels_round(levels) == pp__levels_round(self->plain_levels))
		return;
	/* Nothing is at hand any more: else it would be taken for one in a task that nobody waits for (patrol.c). */
	atomic_store_explicit(&self->line->cur, PP__NO_SLOT, memory_order_release);
	if (pp__run_hook(self, h->round_fn, h->round_offset, h->round_size) == 0)
		atomic_store(&self->line->round_well, pp__levels_round(levels));
	answer(self, levels);
	pp__done_ring(self->shared);
}
