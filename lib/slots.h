/* SPDX-License-Identifier: MIT */
/*
 * A free slot for a task: what each submit does, in place.
 */
#ifndef PP_LIB_SLOTS_H
#define PP_LIB_SLOTS_H

#include "pool.h"

/* When own has no free slot: fills it from those that came back, from others, or with new ones. 0; -ENOMEM. */
int pp__slots_refill(pp_executor *executor, struct pp__free_slots *own);

/* What a submit soon will write, so that by then it is here. Slots are taken in order, up or down, for the most part: then
 * that of some submits from now, and else the next. Both are numbers plus one. */
static inline void pp__slot_fetch_ahead(const pp_executor *ex, uint32_t taken, uint32_t next)
{
	uint32_t step = next - taken, slot = (step + 8u <= 16u ? taken + PP__SLOTS_AHEAD * step : next) - 1;

	if (slot >= atomic_load_explicit(&ex->slots, memory_order_relaxed))
		return;
	__builtin_prefetch(pp__future_of(ex, slot), 1);
	__builtin_prefetch(ex->segment.shared.cells + slot, 1);
	__builtin_prefetch(ex->segment.shared.descs + slot, 1);
}

/* submit_lock held. NULL: none can be had, and why. */
static inline pp_future *pp__slot_take(pp_executor *ex, int *error)
{
	struct pp__free_slots *own = pp__free_slots_own(ex->free_slots);
	pp_future *future;
	uint32_t taken;

	if (atomic_load_explicit(&ex->holds_room, memory_order_relaxed))
		pp__slots_harvest(ex);
	*error = own->list ? 0 : pp__slots_refill(ex, own);
	if (*error < 0)
		return NULL;
	taken = own->list;
	future = pp__future_of(ex, taken - 1);
	own->list = future->next_free;
	atomic_store_explicit(&future->in_use, true, memory_order_relaxed);
	ex->taken++;
	pp__slot_fetch_ahead(ex, taken, own->list);
	return future;
}

#endif
