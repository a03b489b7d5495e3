/* SPDX-License-Identifier: MIT */
/*
 * A map whose chunks have run; then their words, claims and entries are forged, and its results are taken. Whatever
 * they say, each item is given exactly once.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "chunk.h"
#include "fuzz.h"
#include "map.h"
#include "sum.h"
#include "units.h"

#define ITEMS_MAX 24u

enum { HAS_STARTED = 1, HAS_OVERFLOW = 2, HAS_CLAIM = 4, HAS_RESULT = 8, HAS_TIMES = 16, RIGHT_TAG = 32,
       RIGHT_RUNS = 64, RIGHT_CHECK = 128 };

struct source { uint32_t taken, count, size; };

static int next_item(const void **data, size_t *size, void *source_)
{
	struct source *source = source_;
	static uint32_t item[2];

	if (source->taken == source->count)
		return 0;
	item[0] = source->taken++;
	item[1] = source->size;
	*data = item;
	*size = sizeof item;
	return 1;
}

/* Every fifth needs more room than others, which is the overflow. */
static int run_item(pp_task *task, const void *data, size_t size)
{
	static unsigned char bytes[8192];
	uint32_t item[2];

	(void)size;
	memcpy(item, data, sizeof item);
	memset(bytes, (int)item[0], sizeof bytes);
	if (item[0] % 7 == 6)
		return pp_raise(task, 3, "item %u", item[0]);
	return pp_return(task, bytes, item[0] % 5 == 4 ? sizeof bytes : item[1]);
}

/* The first bits of the tag are the word's of this generation; a fresh word of the slot tells them. */
static uint64_t tag_of(const struct pp__shared *shared, const pp_future *future)
{
	uint64_t kept = atomic_load(&shared->cells[future->slot].started), tag;
	uint64_t overflow = atomic_load(&shared->cells[future->slot].overflow);

	pp__chunk_reset(shared, future->slot, future->generation);
	tag = atomic_load(&shared->cells[future->slot].started);
	atomic_store(&shared->cells[future->slot].started, kept);
	atomic_store(&shared->cells[future->slot].overflow, overflow);
	return tag;
}

static void forge_entry(struct ground *g, const pp_future *future, uint32_t count, struct feed *feed)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	uint64_t claim = atomic_load(&pp__cell_of(future)->claim);
	unsigned how = feed_u8(feed);
	struct pp__chunk_entry entry, *place;
	uint32_t i = feed_u8(feed) % count;
	unsigned char *room;

	feed_bytes(feed, &entry, sizeof entry);
	if (!pp__units_are_owned(shared, future->slot, future->generation, claim, (i + 1) * sizeof entry))
		return;
	room = (unsigned char *)shared->base + pp__units_offset(shared->header, claim);
	place = (struct pp__chunk_entry *)(void *)room + i;
	if (how & 1)
		entry.place = how & 2 ? PP__CHUNK_OVERFLOW : entry.place % 4096;
	if (how & 4)
		entry.size %= 4096;
	if (how & 8 && entry.place < 4096 && entry.size <= pp__units_room(claim) - entry.place
	    && g->ex->flags & PP_CHECKSUM)
		entry.sum = pp__sum(room + entry.place, entry.size);
	if (how & 16)
		entry.code = 0;
	if (how & 32)
		entry.check = pp__chunk_check(shared->header, future->slot, future->generation, i, &entry);
	memcpy(place, &entry, sizeof entry);
}

static void forge_chunk(struct ground *g, const pp_future *future, uint32_t count, struct feed *feed)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	struct pp__cell *cell = pp__cell_of(future);
	unsigned has = feed_u8(feed);

	if (has & HAS_STARTED)
		atomic_store(&cell->started, feed_u64(feed));
	if (has & RIGHT_TAG)
		atomic_store(&cell->started, tag_of(shared, future) | (atomic_load(&cell->started) & UINT32_MAX));
	if (has & HAS_CLAIM)
		atomic_store(&cell->claim, feed_u64(feed));
	if (has & HAS_OVERFLOW)
		atomic_store(&cell->overflow, feed_u64(feed));
	if (has & RIGHT_RUNS && has & (HAS_CLAIM | HAS_OVERFLOW)) {
		atomic_store(&cell->claim, ground_name_units(g, future, atomic_load(&cell->claim)));
		atomic_store(&cell->overflow, ground_name_units(g, future, atomic_load(&cell->overflow)));
	}
	if (has & HAS_RESULT) {
		cell->size = feed_u64(feed);
		cell->code = (int32_t)feed_u32(feed);
		/* Any end; what does not end is waited for. */
		atomic_store(&cell->word, pp__word_of(future, PP__DONE + feed_u8(feed) % (PP__STATES - PP__DONE)));
	}
	if (has & HAS_TIMES) {
		cell->start_ns = feed_u64(feed);
		cell->end_ns = feed_u64(feed);
		cell->who = feed_u32(feed);
	}
	if (has & RIGHT_CHECK)
		cell->check = pp__result_check(shared->header, future->slot, future->generation, cell->size, cell->code,
		                               atomic_load(&cell->claim));
	for (unsigned n = feed_u8(feed) % 4; n; n--)
		forge_entry(g, future, count, feed);
}

static void forge_chunks(struct ground *g, const pp_map *map, struct feed *feed)
{
	unsigned n = 0;

	for (const struct pp__batch *b = map->head; b && n < 3; b = b->next)
		if (b->future && b->future->chunk && ++n)
			forge_chunk(g, b->future, b->count, feed);
	for (uint32_t i = 0; i < GROUND_SLOTS; i++)
		if (pp__future_at(g->ex, i)->in_use)
			g->used = i + 1;
}

/* Of a chunk that was opened, the bytes are read where they were found to be then. */
static void check_place(const struct ground *g, const pp_map *map, const pp_outcome *o)
{
	const pp_future *future = map->current ? map->current->future : NULL;

	MUST(!future || ground_is_own(g, future, &map->box, o->data, o->size)
	     || ground_is_own(g, future, pp__box_of(future), o->data, o->size));
}

static void take_all(struct ground *g, pp_map *map, uint32_t count, struct feed *feed)
{
	const pp_outcome *o;
	bool given[ITEMS_MAX] = { false }, again = false;
	uint64_t index, done, total;
	uint32_t n = 0;
	int rc;

	while ((rc = pp_map_next(map, &index, &o)) == 1) {
		MUST(index < count && !given[index]);
		given[index] = true;
		n++;
		ground_check_outcome(g, o);
		if (!again)
			check_place(g, map, o);
		MUST(pp_map_progress(map, &done, &total) >= 0 && done <= total && total <= count);
		if (feed_u8(feed) == 1) {
			forge_chunks(g, map, feed);
			again = true;
		}
	}
	MUST(rc == 0 && n == count);
}

void fuzz_map(struct feed *feed)
{
	unsigned how = feed_u8(feed);
	struct ground *g = ground_for(how);
	struct source source = { 0, 1 + feed_u8(feed) % ITEMS_MAX, feed_u8(feed) * 4 };
	pp_map_options o = PP_MAP_OPTIONS_INIT;
	pp_map *map;

	o.unordered = how >> 1 & 1;
	o.chunk = how >> 2 & 7;
	o.buffer = how & 32 ? 8 : 0;
	MUST(pp_map_create(g->ex, &o, run_item, next_item, &source, &map) == 0);
	forge_chunks(g, map, feed);
	if (how & 128) {
		pp_map_progress(map, &(uint64_t){ 0 }, &(uint64_t){ 0 });
		if (how & 64)
			pp_map_next(map, NULL, NULL);
	} else {
		take_all(g, map, source.count, feed);
	}
	pp_map_free(map);
	for (uint32_t i = 0; i < GROUND_SLOTS; i++)
		if (pp__future_at(g->ex, i)->in_use)
			g->used = i + 1;
}
