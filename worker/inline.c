/* SPDX-License-Identifier: MIT */
/*
 * PP_INLINE: tasks run in the caller's own process, for a debugger. There is a worker's private half, but no worker; from a
 * slot that is READY to its announced end the steps are those of worker.c. What takes the process with it takes the
 * application: nothing is settled for it, and no handler is installed.
 */
#include "door.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "slot.h"
#include "sysdep.h"
#include "tally.h"
#include "wake.h"
#include "worker.h"

struct pp__self *pp__inline_make(const struct pp__shared *shared)
{
	struct pp__self *self = calloc(1, sizeof *self);
	uint32_t flags = shared->header->flags;

	if (!self)
		return NULL;
	*self = (struct pp__self){ .shared = shared, .line = shared->workers, .tally = pp__tally_of(shared, 0), .pid = getpid(),
	                           .owner = pp__owner(0, 0), .inlined = true, .capture = { .fd = -1 }, .pass = { .fd = -1 },
	                           .accounts = flags & PP_ACCOUNTING, .sums = flags & PP_CHECKSUM };
	return self;
}

void pp__inline_free(struct pp__self *self)
{
	free(self);
}

int pp__inline_hook(struct pp__self *self, pp_fn *fn, const void *data, size_t size)
{
	int rc;

	pp__task_begin(self, PP__NO_SLOT, 0);
	self->line->text[0] = 0;
	rc = fn(&self->task, data, size);
	if (!pp__is_original_process())
		_exit(0);
	return rc == 0 && self->task.raised ? self->task.raise_code : rc;
}

static void start(struct pp__self *self, struct pp__cell *cell)
{
	uint64_t submitted = cell->start_ns, now = (uint64_t)pp__now_ns();

	self->tally->queue_ns[pp__bucket(pp__time_between(submitted, now))]++;
	cell->start_ns = now > submitted ? now : submitted;
	cell->who = pp__who_make(self->pid, 0);
}

static int call(struct pp__self *self, const struct pp__desc *desc, int fds_error)
{
	const void *data = desc->offset ? self->shared->base + desc->offset : (const void *)desc->bytes;
	int rc;

	if (fds_error)
		return pp_raise(&self->task, fds_error, "its descriptors could not be passed on: %s", pp_strerror(fds_error));
	if (self->accounts)
		pp__usage_begin(self);
	rc = desc->fn(&self->task, data, desc->size);
	if (!pp__is_original_process())
		_exit(0);                /* a child of the task came back from it */
	if (self->accounts)
		pp__usage_end(self, self->task.slot);
	return rc;
}

/* Its own end, or that which another thread has asked for meanwhile. */
static uint64_t publish(struct pp__self *self, struct pp__cell *cell, uint64_t word, int rc)
{
	uint64_t done = pp__slot_publish(cell, word);

	if (!done) {
		done = pp__slot_stopped(cell, word & PP__OWNER_BITS);
		pp__tally_end(self->tally, PP_KILLED, cell);
		return done;
	}
	self->tally->run_ns[pp__bucket(pp__time_between(cell->start_ns, cell->end_ns))]++;
	if (rc != 0)
		self->tally->outcomes[PP_RAISED]++;
	return done;
}

void pp__inline_run(struct pp__self *self, uint32_t slot, const struct pp__pass_end *fds, int fd_count)
{
	struct pp__cell *cell = self->shared->cells + slot;
	uint64_t word = pp__slot_claim(cell, pp__slot_look(cell), self->owner);
	int rc;

	self->fd_count = fd_count > 0 ? (uint32_t)fd_count : 0;
	for (uint32_t i = 0; i < self->fd_count; i++)
		self->fds[i] = fds[i];
	if (word)
		pp__task_begin(self, slot, word);
	word = word ? pp__slot_run(cell, word) : 0;
	if (!word) {
		pp__pass_close_all(self);        /* cancelled */
		return;
	}
	start(self, cell);
	rc = call(self, self->shared->descs + slot, fd_count < 0 ? fd_count : 0);
	pp__pass_close_all(self);
	cell->end_ns = (uint64_t)pp__now_ns();
	rc = pp__task_end(&self->task, rc);
	word = publish(self, cell, word, rc);
	if (word & PP__WANTS)
		pp__announce_end(self->shared, slot, word);
}
