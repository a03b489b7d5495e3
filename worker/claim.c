/* SPDX-License-Identifier: MIT */
/*
 * Where a worker looks for its next task: in what the supervisor has put back, then in the rings; and what one claim is. One
 * word of the header says whether there is anything else than normal tasks to look for.
 */
#include "ring.h"
#include "slot.h"
#include "worker.h"

#define LOWEST_FIRST_EACH 16u
#define NOT_NOW           ((uint64_t)PP__READY)  /* instead of a word that is CLAIMED: the executor is paused */

/* Killed before the claim: still READY, others take it. Killed after it: the supervisor finds it through cur, and puts
 * it back. cur is stored first, so that there is no instant at which the owner is known to nobody. The pause is looked for
 * once the slot's word was seen: who sees a word that was made after a pause sees the pause, and a word of before is
 * claimed as that one only. */
static inline uint64_t claim(struct pp__self *self, uint32_t slot)
{
	struct pp__cell *cell = self->shared->cells + slot;
	uint64_t seen = pp__slot_look(cell);

	if (!pp__levels_open(atomic_load(&self->shared->header->levels)))
		return NOT_NOW;
	pp__guard_open_at(&self->guard, cell, sizeof *cell);
	atomic_store_explicit(&self->line->cur, slot, memory_order_release);
	return pp__slot_claim(cell, seen, self->owner);
}

/* The note is cleared after the claim; if that claim fails, it was stale. Another may have been put there meanwhile, of the
 * same slot: that one stays. */
static uint64_t claim_held(struct pp__self *self, _Atomic uint64_t *holder, uint32_t *slot)
{
	uint64_t held = atomic_load(holder), word;

	if (pp__held_slot(held) >= atomic_load(&self->shared->header->slots))
		return 0;
	*slot = pp__held_slot(held);
	word = claim(self, *slot);
	if (word != NOT_NOW)
		atomic_compare_exchange_strong(holder, &held, 0);
	return word;
}

static uint64_t __attribute__((noinline)) search_requeued(struct pp__self *self, uint32_t seen, uint32_t *slot)
{
	uint64_t word;

	for (uint32_t i = 0; i < self->shared->header->entries; i++) {
		word = claim_held(self, &self->shared->workers[i].requeue, slot);
		if (!word)
			word = claim_held(self, &self->shared->workers[i].again, slot);
		if (word)
			return word;
	}
	self->requeued_seen = seen;
	return 0;
}

/* What the supervisor has put back, or offers again, comes first. */
static inline uint64_t claim_requeued(struct pp__self *self, uint32_t *slot)
{
	uint32_t seen = atomic_load(&self->shared->control->requeued);

	return seen == self->requeued_seen ? 0 : search_requeued(self, seen, slot);
}

/* Killed between the claim and the pass: the next one passes the entry, which is stale then. */
static inline __attribute__((always_inline)) uint64_t claim_ring(struct pp__self *self, enum pp__level level, uint32_t *slot)
{
	struct pp__ring_at at;
	uint64_t word;

	while ((*slot = pp__ring_peek(self->shared, level, &at)) != PP__NO_SLOT) {
		word = claim(self, *slot);
		if (word == NOT_NOW)
			return word;
		pp__ring_pass(self->shared, level, at.head);
		pp__ring_prefetch_next(self->shared, &at);
		if (word)
			return word;
	}
	return 0;
}

/* The highest first; but one claim in so many the lowest first, so that no priority waits for ever. */
static uint64_t claim_by_priority(struct pp__self *self, uint32_t levels, uint32_t *slot)
{
	bool reversed = self->turn % LOWEST_FIRST_EACH == LOWEST_FIRST_EACH - 1;
	uint64_t word = 0;

	for (unsigned i = 0; i < PP__LEVELS && !word; i++) {
		unsigned level = reversed ? PP__LEVELS - 1 - i : i;
		if (levels & 1u << level)
			word = claim_ring(self, (enum pp__level)level, slot);
	}
	self->turn += word != 0 && word != NOT_NOW;
	return word;
}

/* Something is not as usual: there are several priorities, a round has begun, or the executor is paused. */
static uint64_t __attribute__((noinline)) look_closely(struct pp__self *self, uint32_t levels, uint32_t *slot)
{
	uint64_t word;

	pp__round_look(self);
	if (!pp__levels_open(levels))
		return 0;
	word = claim_requeued(self, slot);
	return word ? word : claim_by_priority(self, levels, slot);
}

uint64_t pp__look(struct pp__self *self, uint32_t *slot)
{
	uint32_t levels = atomic_load(&self->shared->header->levels);
	uint64_t word;

	if (levels != self->plain_levels)
		word = look_closely(self, levels, slot);
	else if (!(word = claim_requeued(self, slot)))
		word = claim_ring(self, PP__NORMAL, slot);
	return word == NOT_NOW ? 0 : word;
}
