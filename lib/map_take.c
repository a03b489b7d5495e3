/* SPDX-License-Identifier: MIT */
/*
 * Takes a map's inputs from its source, so many ahead of the item that was asked for. How many go into one task is the
 * caller's choice, or follows from how long an item takes: so many that handing over a task costs little beside
 * running it.
 */
#include <errno.h>
#include "chunk.h"
#include "map.h"

#define CHUNK_NS       UINT64_C(1000000)         /* a chunk takes about so long, */
#define CHUNK_MAX      1024u                     /* and has at most so many items */
#define CHUNK_BYTES    ((size_t)1 << 20)         /* and about so many bytes */
#define CHUNK_GROWTH   8u                        /* from one to the next: a single measurement may be far off */
#define PER_WORKER     3u                        /* batches: one runs, two wait */
#define PER_WORKER_MIN 16u                       /* items, where the caller wants small chunks: each wait is slow */

/* So many that their results fit into small units, too. */
static uint64_t chosen_chunk(pp_map *map)
{
	uint64_t n = map->item_ns ? CHUNK_NS / map->item_ns : 1;
	uint64_t fit = PP__SMALL_MAX / (sizeof(struct pp__chunk_entry) + 32 + map->item_bytes * 2);

	n = n > map->last_chunk * CHUNK_GROWTH ? map->last_chunk * CHUNK_GROWTH : n;
	n = n > fit ? fit : n > CHUNK_MAX ? CHUNK_MAX : n;
	if (map->options.buffer && n > map->options.buffer / (2 * map->executor->max_workers))
		n = map->options.buffer / (2 * map->executor->max_workers);
	n = n ? n : 1;
	map->last_chunk = n;
	return n;
}

static uint32_t chunk_size(pp_map *map)
{
	uint64_t n = map->options.chunk ? map->options.chunk : chosen_chunk(map);

	if (map->options.buffer && n > map->options.buffer)
		n = map->options.buffer;
	return n > PP__CHUNK_ITEMS_MAX ? PP__CHUNK_ITEMS_MAX : (uint32_t)n;
}

static bool has_room(const pp_map *map, uint32_t chunk, uint64_t asked)
{
	uint64_t each = PER_WORKER * (uint64_t)chunk, buffer = map->options.buffer;
	uint64_t ahead = map->pulled > asked ? map->pulled - asked : 0;

	if (map->options.chunk && each < PER_WORKER_MIN)
		each = PER_WORKER_MIN;
	if (!buffer)
		buffer = map->executor->max_workers * each;
	return ahead <= buffer && chunk <= buffer - ahead;
}

static void end_source(pp_map *map, int error)
{
	pthread_mutex_lock(&map->lock);
	map->ended = true;
	map->error = error;
	pthread_mutex_unlock(&map->lock);
}

/* 1: an item; 0: there is none any more. */
static int take_input(pp_map *map, const void **data, size_t *size)
{
	int rc;

	*data = NULL;
	*size = 0;
	rc = map->source(data, size, map->context);
	if (rc > 1 || (rc == 1 && !*data && *size))
		rc = -EINVAL;
	if (rc != 1)
		end_source(map, rc);
	return rc == 1;
}

static void append(pp_map *map, struct pp__batch *batch)
{
	pthread_mutex_lock(&map->lock);
	batch->at = map->end;
	*map->end = batch;
	map->end = &batch->next;
	map->pulled += batch->count;
	map->unsubmitted++;
	pthread_mutex_unlock(&map->lock);
}

/* An item alone goes from where the source has it straight into the task. */
static int pull_one(pp_map *map, struct pp__batch *batch)
{
	const void *data;
	size_t size;
	int rc;

	if (!take_input(map, &data, &size)) {
		pp__batch_free(map, batch);
		return 0;
	}
	batch->count = 1;
	append(map, batch);
	rc = pp__batch_submit(map, batch, false, data, size);
	if (rc == 0)
		return 0;
	batch->count = 0;
	if (pp__batch_add(batch, data, size) == 0)
		return rc;
	/* Its bytes are the source's, and there is no memory for them: it can only be told that it will not run. */
	pp__batch_give_up(map, batch, -ENOMEM);
	return -ENOMEM;
}

/* At so many bytes a chunk is complete. Where max_bytes is small, several have to fit. */
static size_t chunk_bytes(const pp_map *map)
{
	uint64_t most = map->executor->max_bytes;

	if (map->options.chunk)
		return most && most < SIZE_MAX ? (size_t)most : SIZE_MAX;
	most /= PER_WORKER * map->executor->max_workers;
	return map->executor->max_bytes && most < CHUNK_BYTES ? (size_t)most : CHUNK_BYTES;
}

static bool never_fits(const pp_map *map, const struct pp__batch *batch)
{
	return batch->count > 1 && pp__room_never_fits(map->executor, &map->task, batch->pack.used);
}

/* The last item of a chunk, which begins there, has made it too large: it goes alone. Not before the others: what is given
 * first must not wait for room that what comes later holds. */
static int part_with_last(pp_map *map, struct pp__batch *batch, size_t begin)
{
	const struct pp__chunk_item *item = (const void *)(batch->pack.bytes + begin);
	struct pp__batch *alone = pp__batch_new(map, batch->first + batch->count - 1);
	int rc = alone ? pp__batch_add(alone, item->bytes, item->size) : -ENOMEM;

	batch->count--;
	batch->pack.used = begin;
	append(map, batch);
	if (rc < 0) {
		if (alone)
			pp__batch_free(map, alone);
		end_source(map, rc);
		return pp__batch_submit(map, batch, false, NULL, 0);
	}
	append(map, alone);
	rc = pp__batch_submit(map, batch, false, NULL, 0);
	return rc < 0 ? rc : pp__batch_submit(map, alone, false, NULL, 0);
}

static int pull_chunk(pp_map *map, struct pp__batch *batch, uint32_t n)
{
	size_t size, most = chunk_bytes(map), last = 0;
	const void *data;
	int rc = 0;

	while (rc == 0 && batch->count < n && batch->pack.used < most && take_input(map, &data, &size)) {
		last = batch->pack.used;
		rc = pp__batch_add(batch, data, size);
	}
	if (rc < 0)
		end_source(map, rc);
	if (!batch->count) {
		pp__batch_free(map, batch);
		return rc;
	}
	if (never_fits(map, batch))
		return part_with_last(map, batch, last);
	append(map, batch);
	return pp__batch_submit(map, batch, false, NULL, 0);
}

static int submit_waiting(pp_map *map)
{
	int rc = 0;

	for (struct pp__batch *b = map->head; b && rc == 0 && map->unsubmitted; b = b->next)
		if (!b->future && !b->verdict)
			rc = pp__batch_submit(map, b, false, NULL, 0);
	return rc;
}

int pp__map_refill(pp_map *map, uint64_t asked)
{
	int rc = submit_waiting(map);

	while (rc == 0 && !map->ended && (map->deadline == PP__NEVER || pp__now_ns() < map->deadline)) {
		uint32_t n = chunk_size(map);
		struct pp__batch *batch;
		if (!has_room(map, n, asked))
			break;
		batch = pp__batch_new(map, map->pulled);
		if (!batch)
			return -ENOMEM;
		rc = n == 1 ? pull_one(map, batch) : pull_chunk(map, batch, n);
	}
	return rc;
}
