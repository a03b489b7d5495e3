/* SPDX-License-Identifier: MIT */
/*
 * Room for results beyond what a cell holds. Up to PP__EXTENSION bytes a slot has a fixed place; above that its owner
 * claims a run of units, each of which has a word that names slot and generation. There is no free list and nothing to
 * repair: the owner notes the run in its cell before it claims it, and the parent, which ends every slot, frees of
 * the noted run just those units that carry the slot's name.
 */
#ifndef PP_LIB_UNITS_H
#define PP_LIB_UNITS_H

#include <stdbool.h>
#include "layout.h"

/* Where the owner looks first, among small and big units: private to one process. */
struct pp__unit_cursor { uint32_t last[2], sweep[2]; };

/* Claims room for size bytes and notes it in the cell. Returns its offset, or -ENOMEM (no run is free), -ENOSPC. */
int64_t  pp__units_claim(const struct pp__shared *shared, struct pp__unit_cursor *cursor, uint32_t slot,
                         uint32_t generation, uint64_t size);
/* The same with the note elsewhere than in the cell's claim. */
int64_t  pp__units_claim_noted(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                               uint32_t slot, uint32_t generation, uint64_t size);
/* Gives back what the noted claim names; by the owner before it claims anew, or by the parent after the end. */
void     pp__units_release(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim);
/* Gives back those units of the owner's noted claim that size bytes do not need. */
void     pp__units_shrink(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t size);
/* Whether the claim is in bounds, holds size bytes, and every unit of it belongs to this slot and generation. */
bool     pp__units_are_owned(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim,
                             uint64_t size);
uint64_t pp__units_room(uint64_t claim);         /* how many bytes it holds */
/* What the parent knows of the use that is made of them. */
struct pp__unit_books {
	_Atomic uint64_t freed;          /* bytes since they were last looked through */
	_Atomic uint64_t recent;         /* the most that were in use, of late */
	_Atomic uint64_t low;            /* and the least */
};
/* The parent has given back what this claim names. Gives memory to the kernel when much is free: more than warm_max, or
 * more than what was in use of late accounts for. */
void     pp__units_freed(const struct pp__shared *shared, struct pp__unit_books *books, uint64_t claim,
                         uint64_t warm_max);
uint64_t pp__units_offset(const struct pp__header *header, uint64_t claim);

/* The note can also say that the result is a part of the task's own mutable argument, from offset on: no units. */
#define PP__CLAIM_ARGUMENT (UINT64_C(1) << 62)
static inline bool pp__claim_is_argument(uint64_t claim) { return claim >> 62 == 1; }
static inline uint64_t pp__claim_offset(uint64_t claim) { return claim & (PP__CLAIM_ARGUMENT - 1); }

#endif
