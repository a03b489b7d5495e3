/* SPDX-License-Identifier: MIT */
/*
 * The ring of candidates. Orders: the parent stores a slot's READY before its entry (release), a worker loads the entry
 * (acquire) before it looks at the slot. Tags start at 1, so that fresh memory is an empty ring.
 */
#include "ring.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "slot.h"

#define FIRST_CAPACITY UINT64_C(4096)
#define LOOK_AHEAD     256u

static _Atomic uint64_t *head_of(const struct pp__ring_writer *writer, const struct pp__shared *shared)
{
	return &shared->control->heads[writer->level];
}

static int prepare_array(const struct pp__segment *segment, enum pp__level level, unsigned which, uint64_t capacity)
{
	const struct pp__header *h = segment->shared.header;
	uint64_t offset = h->rings + (2 * level + which) * h->ring_stride, bytes = capacity * sizeof(uint64_t);
	int rc;

	if (bytes > h->ring_stride)
		return -ENOMEM;
	rc = pp__memory_commit(segment, offset, bytes);
	if (rc < 0)
		return rc;
	memset(segment->shared.base + offset, 0, bytes);
	atomic_store(&segment->shared.header->ring_mask[level][which], capacity - 1);
	return 0;
}

int pp__ring_init(struct pp__ring_writer *writer, const struct pp__segment *segment, enum pp__level level)
{
	*writer = (struct pp__ring_writer){ .capacity = FIRST_CAPACITY, .limit = FIRST_CAPACITY, .level = level,
	                                    .entries = segment->shared.rings[level][0] };
	return prepare_array(segment, level, 0, writer->capacity);
}

bool pp__ring_is_sane(const struct pp__ring_writer *writer, const struct pp__shared *shared)
{
	uint64_t head = atomic_load(head_of(writer, shared)), waiting = writer->tail - pp__ring_head_position(head);

	return pp__ring_head_which(head) == writer->which && waiting <= writer->capacity && waiting <= writer->tail - writer->first;
}

uint64_t pp__ring_waiting(const struct pp__ring_writer *writer, const struct pp__shared *shared)
{
	uint64_t waiting = writer->tail - pp__ring_head_position(atomic_load(head_of(writer, shared)));

	return waiting <= writer->capacity ? waiting : writer->capacity;
}

static bool is_ready(const struct pp__shared *shared, uint32_t slot)
{
	return slot < atomic_load(&shared->header->slots)
	       && pp__word_state(atomic_load(&shared->cells[slot].word)) == PP__READY;
}

/*
 * The slots that are READY, each once, latest entry first. A slot may have come round while stale entries of its earlier
 * lives stand here; only the latest is its place in the order. Returns how many, or -ENOMEM.
 */
static int64_t collect_live(const struct pp__ring_writer *w, const struct pp__shared *shared, uint64_t first,
                            uint32_t **slots)
{
	uint32_t max = shared->header->max_slots;
	unsigned char *seen = calloc(max / 8 + 1, 1);
	int64_t live = 0;

	*slots = malloc((w->tail - first + 1) * sizeof **slots);
	if (!seen || !*slots) {
		free(seen);
		free(*slots);
		return -ENOMEM;
	}
	for (uint64_t p = w->tail; p-- != first; ) {
		uint32_t slot = (uint32_t)atomic_load(pp__ring_entry_at(shared, w->level, w->which, p));
		if (slot >= max || seen[slot / 8] & 1u << slot % 8 || !is_ready(shared, slot))
			continue;
		seen[slot / 8] |= (unsigned char)(1u << slot % 8);
		(*slots)[live++] = slot;
	}
	free(seen);
	return live;
}

/*
 * Moves what is READY to the other array, larger when more than half of this one is. Workers that hold an old head find
 * candidates there that are good or stale, and fail to move it. Where the head was forged, all entries are looked at.
 */
static int rebuild(struct pp__ring_writer *w, const struct pp__segment *segment)
{
	const struct pp__shared *shared = &segment->shared;
	uint64_t oldest = w->tail > w->capacity ? w->tail - w->capacity : 0, first, capacity = w->capacity;
	uint32_t *slots;
	int64_t live;
	int rc;

	first = pp__ring_is_sane(w, shared) ? pp__ring_head_position(atomic_load(head_of(w, shared))) : oldest;
	live = collect_live(w, shared, first, &slots);
	if (live < 0)
		return (int)live;
	while ((uint64_t)live * 2 >= capacity)
		capacity *= 2;
	rc = prepare_array(segment, w->level, !w->which, capacity);
	for (int64_t i = 0; rc == 0 && i < live; i++) {
		uint64_t position = w->tail + (uint64_t)i;
		atomic_store_explicit(pp__ring_entry_at(shared, w->level, !w->which, position),
		                      pp__ring_entry(position, slots[live - 1 - i]), memory_order_release);
	}
	free(slots);
	if (rc < 0)
		return rc;
	w->which = !w->which;
	w->entries = shared->rings[w->level][w->which];
	w->capacity = capacity;
	w->first = w->tail;
	atomic_store(head_of(w, shared), w->tail << 1 | w->which);
	w->limit = w->tail + capacity;
	w->tail += (uint64_t)live;
	return 0;
}

void pp__ring_repair(struct pp__ring_writer *w, const struct pp__segment *segment)
{
	if (!pp__ring_is_sane(w, &segment->shared))
		rebuild(w, segment);
}

int pp__ring_widen(struct pp__ring_writer *w, const struct pp__segment *segment)
{
	const struct pp__shared *shared = &segment->shared;
	int rc;

	w->limit = pp__ring_head_position(atomic_load(head_of(w, shared))) + w->capacity;
	if (w->limit - w->tail <= w->capacity && w->limit != w->tail && pp__ring_is_sane(w, shared))
		return 0;
	rc = rebuild(w, segment);
	if (rc < 0)
		w->limit = w->tail;
	return rc;
}

bool pp__ring_level_has_ready(const struct pp__shared *shared, enum pp__level level)
{
	uint64_t head = atomic_load(&shared->control->heads[level]), entry;

	for (unsigned i = 0; i < LOOK_AHEAD; i++, head += 2) {
		entry = atomic_load_explicit(pp__ring_entry_at(shared, level, pp__ring_head_which(head), pp__ring_head_position(head)),
		                             memory_order_acquire);
		if (!pp__ring_entry_is_at(entry, pp__ring_head_position(head)))
			return false;
		if (is_ready(shared, (uint32_t)entry))
			return true;
	}
	return true;             /* a long run of stale entries: let a worker pass it */
}

bool pp__ring_has_ready(const struct pp__shared *shared)
{
	uint32_t levels = pp__levels_open(atomic_load(&shared->header->levels));

	for (unsigned level = 0; level < PP__LEVELS; level++)
		if (levels & 1u << level && pp__ring_level_has_ready(shared, (enum pp__level)level))
			return true;
	return false;
}
