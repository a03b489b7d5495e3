/* SPDX-License-Identifier: MIT */
/* What a worker does that has found nothing, before it sleeps. */
#include <sched.h>
#include "sysdep.h"
#include "wake.h"
#include "worker.h"

#define LOOKS_PER_CLOCK 16
#define LINGER_LOOKS    24
#define LINGER_PAUSES   3
#define GATHER_TASKS    200u
#define GATHER_PAUSES   16u
#define PAUSES_PER_YIELD 64u

/* While tasks come in a row, and until somebody waits for one. Others, the parent among them, may need this CPU. */
static void let_gather(struct pp__self *self, uint64_t run)
{
	_Atomic uint32_t *gathering = &self->shared->control->gathering;
	unsigned pauses = GATHER_PAUSES * (unsigned)(run < GATHER_TASKS ? run : GATHER_TASKS);

	atomic_store_explicit(gathering, 1, memory_order_relaxed);
	while (pauses-- && atomic_load_explicit(gathering, memory_order_relaxed)) {
		pp__spin_pause();
		if (pauses % PAUSES_PER_YIELD == 0)
			sched_yield();
	}
}

/*
 * Looks a little longer while it is neither asleep nor searching, which nobody has to be told of. A worker that is faster
 * than its parent would find each task as it is submitted, and both would wait for the lines that pass to and fro. So the
 * more tasks it has found in a row, the more it lets gather before it looks again: what comes one by one is met at once.
 */
static uint64_t linger(struct pp__self *self, uint32_t *slot)
{
	uint64_t run = self->tasks - self->lingered_at, word = 0;

	self->lingered_at = self->tasks;
	if (run > 1)
		let_gather(self, run);
	for (int i = 0; i < LINGER_LOOKS && !word; i++) {
		for (int j = 0; j < LINGER_PAUSES; j++)
			pp__spin_pause();
		word = pp__look(self, slot);
	}
	return word;
}

/* Looks a while longer before it sleeps: a task that follows at once then costs no system call. One worker does so at a
 * time, in the place of the searching one, so that nobody is woken meanwhile. */
uint64_t pp__spin_for_task(struct pp__self *self, uint32_t *slot)
{
	const struct pp__shared *shared = self->shared;
	int64_t budget = pp__spin_budget(&self->spin, atomic_load(&shared->header->submit_cpu)), until;
	uint64_t word = 0;

	if (!budget)
		return 0;
	word = linger(self, slot);
	if (word || !pp__searching_begin(shared, self->entry))
		return word;
	until = pp__now_ns() + budget;
	while (!word && !pp__is_closing(self)) {
		for (int i = 0; i < LOOKS_PER_CLOCK && !word; i++) {
			pp__spin_pause();
			word = pp__look(self, slot);
		}
		if (!word && pp__now_ns() >= until)
			break;
	}
	return word;
}
