/* SPDX-License-Identifier: MIT */
/*
 * What is counted of the tasks that end. Each process that ends some has a tally of its own in the segment: one per worker
 * entry, kept over its incarnations, and one for the supervisor. A tally has one writer, so a count is a plain addition,
 * without a lock, and no line is shared; whoever wants the sum adds them up while they are being written.
 *
 * What returned is not counted at all: it is what is left of all that ran. A process killed in the middle of counting has
 * counted one too many or too few. Workers can write these numbers, so they decide nothing.
 */
#ifndef PP_LIB_TALLY_H
#define PP_LIB_TALLY_H

#include "layout.h"

/* The bucket that holds what is at least 2^i ns and less than twice that; the first one also holds 0. */
static inline unsigned pp__bucket(uint64_t ns)
{
	return 63u - (unsigned)__builtin_clzll(ns | 1);
}

static inline uint64_t pp__time_between(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }

/* One that never ran: it is no part of what run_ns adds up to. */
static inline void pp__tally_never_ran(struct pp__tally *tally, int kind)
{
	tally->outcomes[kind]++;
	tally->outcomes[0]++;
}

/* A task ended otherwise than returned. By its settler, when the edge is made. */
static inline void pp__tally_end(struct pp__tally *tally, int kind, const struct pp__cell *cell)
{
	tally->outcomes[kind]++;
	tally->run_ns[pp__bucket(pp__time_between(cell->start_ns, cell->end_ns))]++;
}

#endif
