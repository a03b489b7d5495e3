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
	unsigned which;
	enum pp__level level;
};

int  pp__ring_init(struct pp__ring_writer *writer, const struct pp__segment *segment, enum pp__level level);
/* 0; -ENOMEM, -ENOSPC when a larger array is needed and cannot be had. */
int  pp__ring_push(struct pp__ring_writer *writer, const struct pp__segment *segment, uint32_t slot);
/* At most so many entries wait. */
uint64_t pp__ring_waiting(const struct pp__ring_writer *writer, const struct pp__shared *shared);
/* Makes the ring anew when it does not. */
void pp__ring_repair(struct pp__ring_writer *writer, const struct pp__segment *segment);
/* Whether the head stands where workers can have put it. */
bool pp__ring_is_sane(const struct pp__ring_writer *writer, const struct pp__shared *shared);

/* For workers: the slot at *head, which is read first; PP__NO_SLOT when the ring is empty. */
uint32_t pp__ring_peek(const struct pp__shared *shared, enum pp__level level, uint64_t *head);
/* Fetches what the claim of the slot at head, if there is one, will touch. */
void     pp__ring_prefetch(const struct pp__shared *shared, enum pp__level level, uint64_t head);
void     pp__ring_pass(const struct pp__shared *shared, enum pp__level level, uint64_t head);
/* Whether a slot at or behind the head is READY, without moving it; a bounded look. */
bool     pp__ring_level_has_ready(const struct pp__shared *shared, enum pp__level level);
bool     pp__ring_has_ready(const struct pp__shared *shared);    /* in any, unless the executor is paused */

#endif
