/* SPDX-License-Identifier: MIT */
/* Batches of a map, from the bytes of their items to a submitted task. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "chunk.h"
#include "map.h"

#define ROOM_MIN       ((uint64_t)PP__PAGE)
#define RESULTS_MAX    ((uint64_t)16 << 20)      /* of a chunk, claimed beforehand; one that needs more is cut */
#define RESULT_GUESS   32u

struct pp__batch *pp__batch_new(pp_map *map, uint64_t first)
{
	struct pp__batch *batch = calloc(1, sizeof *batch);

	if (!batch)
		return NULL;
	batch->first = first;
	batch->pack = map->spare;
	batch->pack.used = sizeof(struct pp__chunk_head);
	map->spare = (struct pp__pack){ 0 };
	return batch;
}

int pp__batch_add(struct pp__batch *batch, const void *data, size_t size)
{
	struct pp__pack *pack = &batch->pack;
	uint64_t needed = pp__chunk_item_room(size);
	struct pp__chunk_item *item;

	if (!needed || needed > SIZE_MAX / 4 - pack->used)
		return -ENOMEM;
	if (pack->used + needed > pack->room) {
		size_t room = 2 * (pack->used + needed);
		char *more = realloc(pack->bytes, room);
		if (!more)
			return -ENOMEM;
		pack->bytes = more;
		pack->room = room;
	}
	item = (struct pp__chunk_item *)(void *)(pack->bytes + pack->used);
	item->size = size;
	item->reserved = 0;
	if (size)
		memcpy(item->bytes, data, size);
	pack->used += needed;
	batch->count++;
	return 0;
}

/* Entries, and as much for results as they took so far, and a quarter more. */
static uint64_t room_for(const pp_map *map, uint32_t count)
{
	uint64_t each = map->item_bytes ? map->item_bytes + map->item_bytes / 4 : RESULT_GUESS, results;

	each = (each + 15) & ~UINT64_C(15);
	results = each > RESULTS_MAX / count ? RESULTS_MAX : each * count;
	results += count * sizeof(struct pp__chunk_entry);
	return (results + ROOM_MIN - 1) & ~(ROOM_MIN - 1);
}

static pp_task_options options_for(const pp_map *map, bool block)
{
	pp_task_options o = map->task;
	int64_t left_ms;

	if (!block)
		o.submit_timeout_ms = PP_NONE;
	if (o.submit_timeout_ms == PP_NONE || map->deadline == PP__NEVER)
		return o;
	left_ms = (map->deadline - pp__now_ns() + 999999) / 1000000;
	if (left_ms <= 0)
		o.submit_timeout_ms = PP_NONE;
	else if (!o.submit_timeout_ms || o.submit_timeout_ms > left_ms)
		o.submit_timeout_ms = left_ms;
	return o;
}

static int submit(pp_map *map, struct pp__batch *batch, bool block, const void *data, size_t size, pp_future **future)
{
	pp_task_options o = options_for(map, block);
	struct pp__chunk_head *head = (struct pp__chunk_head *)(void *)batch->pack.bytes;
	const struct pp__chunk_item *only;

	if (batch->pack.used == sizeof *head)
		return pp_submit_with(map->executor, &o, map->fn, data, size, future);
	only = (const void *)(head + 1);
	if (batch->count == 1)
		return pp_submit_with(map->executor, &o, map->fn, only->bytes, only->size, future);
	*head = (struct pp__chunk_head){ .fn = map->fn, .room = room_for(map, batch->count), .count = batch->count };
	return pp_submit_with(map->executor, &o, pp__chunk_run, batch->pack.bytes, batch->pack.used, future);
}

static void put_ready(struct pp__wait *wait, struct pp__watcher *watcher)
{
	watcher->settled = true;
	wait->settled++;
	*wait->ready_end = watcher;
	wait->ready_end = &watcher->next;
}

static void watch(pp_map *map, struct pp__batch *batch)
{
	batch->watcher = (struct pp__watcher){ .future = batch->future, .wait = &map->wait, .context = batch };
	pthread_mutex_lock(&pp__lock);
	map->wait.count++;
	if (!batch->future || !pp__watch(&batch->watcher))
		put_ready(&map->wait, &batch->watcher);
	pthread_mutex_unlock(&pp__lock);
}

static void keep_spare(pp_map *map, struct pp__batch *batch)
{
	if (map->spare.bytes)
		free(batch->pack.bytes);
	else
		map->spare = batch->pack;
	batch->pack = (struct pp__pack){ 0 };
}

/* It was submitted, or will never be. */
static void settle(pp_map *map, struct pp__batch *batch, pp_future *future, int verdict)
{
	pthread_mutex_lock(&map->lock);
	batch->future = future;
	batch->verdict = verdict;
	map->unsubmitted--;
	pthread_mutex_unlock(&map->lock);
	keep_spare(map, batch);
	if (map->options.unordered)
		watch(map, batch);
}

/* The door is closed, or the pool broken: it will never run, and no further input is taken. */
void pp__batch_give_up(pp_map *map, struct pp__batch *batch, int error)
{
	pthread_mutex_lock(&map->lock);
	if (!map->ended)
		map->error = error;      /* after the end of the inputs each has an outcome, and nothing is missing */
	map->ended = true;
	map->refused = true;
	pthread_mutex_unlock(&map->lock);
	settle(map, batch, NULL, error == -EPIPE ? PP_BROKEN : PP_CANCELLED);
}

/* An item alone: chunks are cut to what fits. */
static bool never_fits(const pp_map *map, const struct pp__batch *batch, size_t size)
{
	const char *head = batch->pack.bytes;

	if (batch->pack.used > sizeof(struct pp__chunk_head))    /* else it was not taken over from the source yet */
		size = ((const struct pp__chunk_item *)(const void *)(head + sizeof(struct pp__chunk_head)))->size;
	return batch->count == 1 && pp__room_never_fits(map->executor, &map->task, size);
}

int pp__batch_submit(pp_map *map, struct pp__batch *batch, bool block, const void *data, size_t size)
{
	pp_future *future;
	int rc = submit(map, batch, block, data, size, &future);

	if (rc == -ESHUTDOWN || rc == -EPIPE) {
		pp__batch_give_up(map, batch, rc);
		return 0;
	}
	if (rc == -ENOSPC && never_fits(map, batch, size)) {
		settle(map, batch, NULL, PP_RAISED);     /* an error of this item, which those behind it have no part in */
		return 0;
	}
	if (rc == 0)
		settle(map, batch, future, 0);
	return rc;
}

void pp__batch_free(pp_map *map, struct pp__batch *batch)
{
	if (map->options.unordered && batch->future) {
		pthread_mutex_lock(&pp__lock);
		if (!batch->watcher.settled)
			pp__unwatch(&batch->watcher);
		pthread_mutex_unlock(&pp__lock);
	}
	pp_future_free(batch->future);
	keep_spare(map, batch);
	free(batch);
}
