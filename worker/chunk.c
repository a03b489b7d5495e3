/* SPDX-License-Identifier: MIT */
/*
 * The task that runs a chunk of a map's items, each of which sees a task of its own. Killed between two items: the
 * parent has the entries of those before, and runs those behind elsewhere. Killed within one: it is the one that was
 * started and has no entry. Where another thread of this process has been settled as the cause of its death, the word
 * in the cell is closed, and the next item does not start.
 */
#include "chunk.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "sysdep.h"
#include "worker.h"

struct pp__chunk_work {
	const struct pp__chunk_head *head;
	unsigned char *room;
	uint64_t size, used;             /* of the room; entries and results of the items that have ended */
	bool     overflowed;             /* the result of the item at hand is in the overflow */
};

void pp__chunk_drop(struct pp_task *task)
{
	const struct pp__shared *shared = task->self->shared;
	_Atomic uint64_t *note = &shared->cells[task->slot].overflow;

	if (!task->chunk->overflowed)
		return;
	pp__task_open_units(task);
	pp__guard_end_result(&task->self->guard);
	pp__units_release(shared, task->slot, task->generation, atomic_load(note));
	atomic_store(note, 0);
	task->chunk->overflowed = false;
}

int pp__chunk_make_room(struct pp_task *task, uint64_t size, unsigned char **place)
{
	const struct pp__shared *shared = task->self->shared;
	struct pp__chunk_work *work = task->chunk;
	int64_t offset;

	if (size <= work->size - work->used && task->self->guard.on)
		return pp__task_stage(task, size, place);
	if (size <= work->size - work->used) {
		*place = work->room + work->used;
		return 0;
	}
	pp__task_open_units(task);
	offset = pp__units_claim_noted(shared, &task->self->cursor, &shared->cells[task->slot].overflow, task->slot,
	                               task->generation, size);
	if (offset < 0)
		return (int)offset;
	work->overflowed = true;
	*place = (unsigned char *)shared->base + offset;
	pp__guard_open_at(&task->self->guard, *place, size);
	return 0;
}

/* The check comes last: without it the item has not ended. */
static void publish(struct pp_task *item, uint32_t i, int code)
{
	struct pp__chunk_work *work = item->chunk;
	struct pp__chunk_entry *entry = (struct pp__chunk_entry *)(void *)work->room + i;
	const struct pp__header *h = item->self->shared->header;
	uint64_t used = (work->used + item->size + 15) & ~UINT64_C(15);

	entry->place = work->overflowed ? PP__CHUNK_OVERFLOW : (uint32_t)work->used;
	entry->sum = item->self->sums ? pp__task_sum(item) : 0;
	entry->size = item->size;
	entry->end_ns = (uint64_t)item->self->now_ns;
	entry->code = code;
	if (!work->overflowed)
		work->used = used < work->size ? used : work->size;
	atomic_store_explicit(&entry->check, pp__chunk_check(h, item->slot, item->generation, i, entry),
	                      memory_order_release);
}

/* The room is one for all items, and none has any of it while it runs. */
static void take_back(struct pp_task *item)
{
	struct pp__chunk_work *work = item->chunk;

	pp__task_take(item);
	pp__guard_open_at(&item->self->guard, work->room, work->size);
	if (item->staged && item->size)
		memcpy(work->room + work->used, item->self->guard.stage, item->size);
}

static void run_item(struct pp_task *item, uint32_t i, const struct pp__chunk_item *argument)
{
	struct pp__self *self = item->self;
	int rc;

	pp__task_lend(item);
	rc = item->chunk->head->fn(item, argument->bytes, argument->size);
	if (!(self->inlined ? pp__is_original_process() : pp__is_owner_process(self->mark, self->pid)))
		_exit(0);                        /* a child of the item came back from it */
	take_back(item);
	if (!self->inlined)
		pp__flush_output();
	self->now_ns = pp__clock_read(&self->clock);
	publish(item, i, pp__task_code(item, rc));
}

/* What goes wrong here is told before any item is started: the parent then runs them one by one. */
static int claim_room(pp_task *task, struct pp__chunk_work *work)
{
	const struct pp__shared *shared = task->self->shared;
	int64_t offset;

	pp__task_open_units(task);
	offset = pp__units_claim(shared, &task->self->cursor, task->slot, task->generation, work->head->room);
	if (offset < 0)
		return pp_raise(task, (int)offset, "no room for the results of a chunk");
	work->room = (unsigned char *)shared->base + offset;
	work->size = work->head->room;
	work->used = work->head->count * sizeof(struct pp__chunk_entry);
	task->size = work->size;
	task->summed = true;             /* each item has a sum of its own, this has none */
	return 0;
}

int pp__chunk_run(pp_task *task, const void *data, size_t size)
{
	static _Thread_local struct pp__chunk_work work; /* not on the stack, which an item may overrun */
	static _Thread_local struct pp_task item;
	const struct pp__chunk_item *argument = (const void *)((const struct pp__chunk_head *)data + 1);
	int rc;

	(void)size;
	work = (struct pp__chunk_work){ .head = data };
	rc = claim_room(task, &work);
	for (uint32_t i = 0; rc == 0 && i < work.head->count && !work.overflowed; i++) {
		if (!pp__chunk_start(task->self->shared, task->slot, task->generation, i))
			break;
		item = *task;
		item.size = 0;
		item.chunk = &work;
		run_item(&item, i, argument);
		argument = pp__chunk_item_next(argument);
	}
	return rc;
}
