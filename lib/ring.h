/* SPDX-License-Identifier: MIT */
/*
 * What is ready, in order: a ring per priority. A ring holds candidates, not ownership: an entry names a slot that was READY when it was
 * written, and whoever claims the slot's word has the task. So an entry may be stale or there twice, and a worker may
 * die at any step: nothing is lost with it.
 *
 *   entry: { tag of the position : 32, slot : 32 }, written by the parent alone (under its submit lock)
 *   head:  position : 63, which of the two arrays : 1; moved by workers, one position at a time, whether they won the
 *          slot or not, so that a run of stale entries is passed once
 *
 * When the array is full, live entries are copied to the other one and the head is set there: positions go on, so
 * that a worker which still holds an old head cannot move the new one.
 *
 * header->levels says which rings were ever used, so that a pool with tasks of one priority looks at one ring, and none of
 * them while the executor is paused. The number of the last round is in the same word: one look tells workers of all.
 */
#ifndef PP_LIB_RING_H
#define PP_LIB_RING_H

#include <stdbool.h>
#include "layout.h"
#include "segment.h"

/* The parent's private half. */
struct pp__ring_writer {
	uint64_t tail;           /* position of the next entry */
	uint64_t limit;          /* no entry at or above it without a look at the head */
	uint64_t capacity;       /* of the array in use; a power of two */
	uint64_t first;          /* position at which that was begun */
	_Atomic uint64_t *entries;       /* of that array */
	unsigned which;
	enum pp__level level;
};

int  pp__ring_init(struct pp__ring_writer *writer, const struct pp__segment *segment, enum pp__level level);
/* At the limit: looks how far workers have come, and makes a larger array if that is needed. 0; -ENOMEM, -ENOSPC. */
int  pp__ring_widen(struct pp__ring_writer *writer, const struct pp__segment *segment);

static inline uint64_t pp__ring_entry(uint64_t position, uint32_t slot)
{
	return (uint64_t)((uint32_t)position + 1u) << 32 | slot;
}

static inline bool pp__ring_entry_is_at(uint64_t entry, uint64_t position)
{
	return (uint32_t)(entry >> 32) == (uint32_t)position + 1u;
}

static inline uint64_t pp__ring_head_position(uint64_t head) { return head >> 1; }
static inline unsigned pp__ring_head_which(uint64_t head) { return (unsigned)head & 1u; }

static inline _Atomic uint64_t *pp__ring_entry_at(const struct pp__shared *shared, enum pp__level level, unsigned which,
                                                  uint64_t position)
{
	return shared->rings[level][which]
	       + (position & atomic_load_explicit(&shared->header->ring_mask[level][which], memory_order_acquire));
}

/* 0; -ENOMEM, -ENOSPC when a larger array is needed and cannot be had. */
static inline int pp__ring_push(struct pp__ring_writer *writer, const struct pp__segment *segment, uint32_t slot)
{
	int rc = writer->tail == writer->limit ? pp__ring_widen(writer, segment) : 0;

	if (rc < 0)
		return rc;
	atomic_store_explicit(writer->entries + (writer->tail & (writer->capacity - 1)), pp__ring_entry(writer->tail, slot),
	                      memory_order_release);
	writer->tail++;
	return 0;
}
/* At most so many entries wait. */
uint64_t pp__ring_waiting(const struct pp__ring_writer *writer, const struct pp__shared *shared);
/* Makes the ring anew when it does not. */
void pp__ring_repair(struct pp__ring_writer *writer, const struct pp__segment *segment);
/* Whether the head stands where workers can have put it. */
bool pp__ring_is_sane(const struct pp__ring_writer *writer, const struct pp__shared *shared);

/* Where a worker stands. */
struct pp__ring_at {
	uint64_t head;
	const _Atomic uint64_t *entries;
	uint64_t mask;
};

/* The slot that stands so many entries behind; PP__NO_SLOT: none. */
static inline uint32_t pp__ring_behind(const struct pp__shared *shared, const struct pp__ring_at *at, uint64_t behind)
{
	uint64_t position = pp__ring_head_position(at->head) + behind;
	uint64_t entry = atomic_load_explicit(at->entries + (position & at->mask), memory_order_acquire);

	if (!pp__ring_entry_is_at(entry, position) || (uint32_t)entry >= shared->header->max_slots)
		return PP__NO_SLOT;
	return (uint32_t)entry;
}

/* For workers: the slot at the head; PP__NO_SLOT: the ring is empty. */
static inline uint32_t pp__ring_peek(const struct pp__shared *shared, enum pp__level level, struct pp__ring_at *at)
{
	unsigned which;

	at->head = atomic_load(&shared->control->heads[level]);
	which = pp__ring_head_which(at->head);
	at->entries = shared->rings[level][which];
	at->mask = atomic_load_explicit(&shared->header->ring_mask[level][which], memory_order_acquire);
	return pp__ring_behind(shared, at, 0);
}

/* Fetches what the claim of the next slot, if there is one, will touch. */
static inline void pp__ring_prefetch_next(const struct pp__shared *shared, const struct pp__ring_at *at)
{
	uint32_t slot = pp__ring_behind(shared, at, 1);

	if (slot == PP__NO_SLOT)
		return;
	__builtin_prefetch(shared->cells + slot, 1);
	__builtin_prefetch(shared->descs + slot);
}

static inline void pp__ring_pass(const struct pp__shared *shared, enum pp__level level, uint64_t head)
{
	atomic_compare_exchange_strong(&shared->control->heads[level], &head, head + 2);
}

/* Whether a slot at or behind the head is READY, without moving it; a bounded look. */
bool     pp__ring_level_has_ready(const struct pp__shared *shared, enum pp__level level);
bool     pp__ring_has_ready(const struct pp__shared *shared);    /* in any, unless the executor is paused */

#endif
