/* SPDX-License-Identifier: MIT */
/*
 * Handing a seat to the spare. Taking the spare is one exchange, so two that die at once cannot have the same one. Killed
 * between the steps, the seat is held by nobody, and the supervisor gives it to whom it finds without one.
 */
#include "wake.h"
#include "worker.h"

void pp__promote_spare(struct pp__self *self)
{
	struct pp__control *c = self->shared->control;
	uint32_t spare = atomic_exchange(&c->spare, 0);
	int32_t seat;

	if (!spare || spare > self->shared->header->entries)
		return;
	seat = atomic_exchange(&self->line->seat, -1);
	if (seat < 0) {
		atomic_store(&c->spare, spare);
		return;
	}
	atomic_store(&self->shared->workers[spare - 1].seat, seat);
	pp__wake_worker(self->shared, spare - 1);
}
