/* SPDX-License-Identifier: MIT */
/*
 * Handing a seat to the spare. Taking the spare is one exchange, so two that die at once cannot have the same one. The heir
 * has the seat before the dying worker leaves it, so that the supervisor, which may look around meanwhile, does not take
 * it for free and start one worker too many. Killed between the steps, the spare has the seat, or is found without one.
 */
#include "wake.h"
#include "worker.h"

void pp__promote_spare(struct pp__self *self)
{
	struct pp__control *c = self->shared->control;
	uint32_t spare = atomic_exchange(&c->spare, 0);
	int32_t seat = atomic_load(&self->line->seat), none = -1;

	if (!spare || spare > self->shared->header->entries)
		return;
	if (seat < 0 || seat >= (int32_t)self->shared->header->max_workers) {    /* none, or one that is given up */
		atomic_store(&c->spare, spare);
		return;
	}
	if (!atomic_compare_exchange_strong(&self->shared->workers[spare - 1].seat, &none, seat))
		return;                  /* the supervisor has found it, and another seat for it */
	atomic_store(&self->line->seat, -1);
	pp__wake_worker(self->shared, spare - 1);
}
