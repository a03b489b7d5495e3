/* SPDX-License-Identifier: MIT */
/*
 * What became of the items of a batch. Of a chunk, those with an entry have ended, whatever became of the chunk; the
 * one that was started and has none shares the chunk's fate; the others have not been started, and go into a batch of
 * their own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "chunk.h"
#include "map.h"
#include "units.h"

/* map->lock held. */
uint64_t pp__batch_done(struct pp__batch *batch)
{
	pp_future *future = batch->future;
	uint32_t started;
	bool ended;

	if (batch->opened || batch->verdict)
		return batch->count;
	if (!future)
		return 0;
	ended = pp__future_has_ended(future);    /* before the look at the word: what it says then is no less */
	if (!future->chunk || (ended && pp_future_cancelled(future)))
		return ended ? batch->count : 0;
	started = pp__chunk_started(&future->executor->segment.shared, future->slot, future->generation, batch->count);
	return started && !ended ? started - 1 : started;
}

static void look_at_room(struct pp__batch *batch)
{
	pp_future *future = batch->future;
	const struct pp__shared *shared = &future->executor->segment.shared;
	uint64_t claim = atomic_load(&pp__cell_of(future)->claim), more = atomic_load(&pp__cell_of(future)->overflow);

	if (pp__units_are_owned(shared, future->slot, future->generation, claim, batch->count
	                        * sizeof(struct pp__chunk_entry))) {
		batch->room = (const unsigned char *)shared->base + pp__units_offset(shared->header, claim);
		batch->room_size = pp__units_room(claim);
	}
	if (pp__units_are_owned(shared, future->slot, future->generation, more, 0)) {
		batch->overflow = (const unsigned char *)shared->base + pp__units_offset(shared->header, more);
		batch->overflow_size = pp__units_room(more);
	}
}

/* A death before the first item was started is the first one's, as it is with a task of its own. Of a chunk that was
 * cancelled none was started, and none shall be. */
static uint32_t charge(const pp_outcome *outcome, uint32_t started, uint32_t count)
{
	switch (outcome->kind) {
	case PP_CANCELLED:
		return count;
	case PP_RETURNED:
	case PP_RAISED:
	case PP_BROKEN:
		return started;
	default:
		return started ? started : 1;
	}
}

static const struct pp__chunk_item *argument_of(pp_future *future)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	const struct pp__desc *desc = shared->descs + future->slot;
	const char *bytes = desc->offset ? shared->base + desc->offset : (const char *)desc->bytes;

	return (const void *)(bytes + sizeof(struct pp__chunk_head));
}

/* A batch of items from to end of another, which still has their bytes. NULL: no memory. */
static struct pp__batch *copy_items(pp_map *map, struct pp__batch *batch, uint32_t from, uint32_t end)
{
	const struct pp__chunk_item *item = argument_of(batch->future);
	struct pp__batch *made = pp__batch_new(map, batch->first + from);
	int rc = made ? 0 : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < end; i++, item = pp__chunk_item_next(item))
		if (i >= from)
			rc = pp__batch_add(made, item->bytes, item->size);
	if (rc == 0)
		return made;
	if (made)
		pp__batch_free(map, made);
	return NULL;
}

static void insert_behind(pp_map *map, struct pp__batch *batch, struct pp__batch *rest)
{
	rest->next = batch->next;
	rest->at = &batch->next;
	if (rest->next)
		rest->next->at = &rest->next;
	else
		map->end = &rest->next;
	batch->next = rest;
	map->unsubmitted++;
}

/*
 * What was not started goes into a batch behind this one. Where there was no room for the results of a chunk, its first
 * item goes alone: such a one finds its room by itself, or it is its own error.
 */
static int cut(pp_map *map, struct pp__batch *batch, uint32_t charged, bool had_room)
{
	uint32_t alone = had_room ? charged : charged + 1;
	struct pp__batch *first = NULL, *rest = NULL;

	if (alone > charged)
		first = copy_items(map, batch, charged, alone);
	if (alone < batch->count)
		rest = copy_items(map, batch, alone, batch->count);
	if ((alone > charged && !first) || (alone < batch->count && !rest)) {
		if (first)
			pp__batch_free(map, first);
		if (rest)
			pp__batch_free(map, rest);
		return -ENOMEM;
	}
	pthread_mutex_lock(&map->lock);
	if (rest)
		insert_behind(map, batch, rest);
	if (first)
		insert_behind(map, batch, first);
	batch->count = charged;
	pthread_mutex_unlock(&map->lock);
	if (first)
		pp__batch_submit(map, first, false, NULL, 0);
	if (rest)
		pp__batch_submit(map, rest, false, NULL, 0);
	return 0;
}

static uint64_t blend(uint64_t old, uint64_t seen)
{
	return old ? (3 * old + seen) / 4 : seen;
}

int pp__batch_open(pp_map *map, struct pp__batch *batch)
{
	pp_future *future = batch->future;
	const pp_outcome *outcome = future ? pp__future_outcome(future) : NULL;
	uint32_t started = batch->count, charged = batch->count;
	int rc = 0;

	if (future && !outcome)
		return -ENOMEM;
	if (future && future->chunk) {
		started = pp__chunk_close(&future->executor->segment.shared, future->slot, future->generation,
		                          batch->count);
		charged = charge(outcome, started, batch->count);
		look_at_room(batch);
		batch->opened_ns = (uint64_t)pp__now_ns();
		batch->start_ns = (uint64_t)future->submit_ns + outcome->queued_ns;
	}
	if (charged < batch->count)
		rc = cut(map, batch, charged, started || outcome->kind != PP_RAISED);
	if (rc < 0)
		return rc;
	if (outcome && outcome->kind == PP_RETURNED && started)
		map->item_ns = blend(map->item_ns, outcome->running_ns / started + 1);
	pthread_mutex_lock(&map->lock);
	batch->opened = true;
	pthread_mutex_unlock(&map->lock);
	return 0;
}

/* It was never submitted: it is too large, the door was closed, or the pool broken. */
static void say_verdict(pp_map *map, int verdict)
{
	const struct pp__box *why = atomic_load(&map->executor->broken);
	pp_outcome *o = &map->box.outcome;

	o->kind = verdict;
	o->task_name = map->name;
	o->message = "cancelled before it started";
	if (verdict == PP_RAISED) {
		o->code = -ENOSPC;
		o->message = "the item is larger than max_bytes";
	}
	if (verdict == PP_BROKEN) {
		o->code = why ? why->outcome.code : -EPIPE;
		o->message = why ? why->outcome.message : "";
	}
}

/* Reads the entry once, in the order opposite to that in which it was written. false: the item has none. */
static bool read_entry(const struct pp__batch *batch, uint32_t i, struct pp__chunk_entry *entry)
{
	const struct pp__chunk_entry *shared = (const void *)batch->room;
	const volatile struct pp__chunk_entry *v;
	const struct pp__header *h = batch->future->executor->segment.shared.header;
	uint32_t check;

	if (!shared)
		return false;
	v = shared + i;
	check = atomic_load_explicit(&shared[i].check, memory_order_acquire);
	entry->place = v->place;
	entry->sum = v->sum;
	entry->size = v->size;
	entry->end_ns = v->end_ns;
	entry->code = v->code;
	return check == pp__chunk_check(h, batch->future->slot, batch->future->generation, i, entry);
}

/* NULL: not where it can be. */
static const unsigned char *locate(const struct pp__batch *batch, const struct pp__chunk_entry *entry)
{
	if (entry->place == PP__CHUNK_OVERFLOW)
		return entry->size <= batch->overflow_size ? batch->overflow : NULL;
	return entry->place <= batch->room_size && entry->size <= batch->room_size - entry->place
	       ? batch->room + entry->place : NULL;
}

static void say_times(struct pp__batch *batch, pp_outcome *o, uint64_t end_ns)
{
	uint64_t now = batch->opened_ns, submit = (uint64_t)batch->future->submit_ns;
	uint64_t start = batch->start_ns < now ? batch->start_ns : now, end = end_ns < now ? end_ns : now;

	o->queued_ns = start > submit ? start - submit : 0;
	o->running_ns = end > start ? end - start : 0;
	batch->start_ns = end > start ? end : start;
}

/* An item of a chunk, from its entry, or from what became of the chunk. 0; -ENOMEM. */
static int say_item(pp_map *map, struct pp__batch *batch, const pp_outcome *chunk)
{
	struct pp__box *box = &map->box;
	uint64_t chunk_end = (uint64_t)batch->future->submit_ns + chunk->queued_ns + chunk->running_ns;
	struct pp__chunk_entry entry = { .place = 0 };
	const unsigned char *bytes;

	if (read_entry(batch, batch->given, &entry)) {
		bytes = locate(batch, &entry);
		if (pp__box_read_verified(map->executor, box, entry.code, bytes, entry.size, entry.sum) < 0)
			return -ENOMEM;
		if (bytes)       /* else its size is none, and what is reckoned from it would be beyond all bounds */
			map->item_bytes = blend(map->item_bytes, entry.size + 1);
	} else if (chunk->kind == PP_RETURNED || chunk->kind == PP_RAISED) {
		entry.end_ns = chunk_end;
		pp__box_read(box, 0, NULL, 0);
	} else {
		box->outcome = *chunk;
		entry.end_ns = chunk_end;
	}
	box->outcome.task_name = chunk->task_name;
	box->outcome.pid = chunk->pid;
	box->outcome.worker = chunk->worker;
	box->outcome.attempt = chunk->attempt;
	if (chunk->kind != PP_CANCELLED)
		say_times(batch, &box->outcome, entry.end_ns);
	return 0;
}

const pp_outcome *pp__batch_give(pp_map *map, struct pp__batch *batch)
{
	const pp_outcome *whole = batch->future ? pp__future_outcome(batch->future) : NULL;

	free(map->box.owned);
	pp__box_init(&map->box);
	if (!whole)
		say_verdict(map, batch->verdict);
	else if (batch->future->chunk && say_item(map, batch, whole) < 0)
		return NULL;
	batch->given++;
	if (whole && !batch->future->chunk)
		return whole;
	return &map->box.outcome;
}
