/* SPDX-License-Identifier: MIT */
/*
 * The states of a slot, in one 64-bit word, and one function per edge.
 *
 *   FREE ─parent─▶ READY ─worker─▶ CLAIMED ─worker─▶ RUNNING ─worker─▶ DONE ─parent─▶ READY (generation+1)
 *   READY | DELAYED | CLAIMED | STOP_REQUEUE ─parent─▶ CANCELLED, but the last ─supervisor─▶ TIMED_OUT (deadline)
 *                                              (the claimer's CLAIMED→RUNNING then fails, and it drops the task)
 *   CLAIMED, owner dead ─supervisor─▶ READY    (it never entered user code)
 *   RUNNING ─parent, supervisor─▶ ASKED_KILL, ASKED_TIME
 *                                              the task is asked to end, and may: all that RUNNING can become, these can
 *   RUNNING | ASKED, owner dead ─its handler, or supervisor─▶ DIED
 *   CLAIMED | RUNNING | ASKED ─parent, supervisor─▶ STOP_REQUEUE | STOP_KILL, STOP_TIME, STOP_MEMORY
 *                                              before any signal is sent; the worker's own edge then fails
 *   STOP_x, owner confirmed dead ─supervisor─▶ KILLED, TIMED_OUT, MEMORY;  STOP_REQUEUE ─supervisor─▶ READY
 *   RUNNING | ASKED, raised, another attempt is left ─worker─▶ FAILED ─supervisor─▶ DELAYED
 *   RUNNING | ASKED | STOP_x, owner dead, another attempt is left ─supervisor─▶ DELAYED ─supervisor─▶ READY
 *   anything open, pool broken ─parent─▶ BROKEN
 *
 * Two bits say who wants to hear of the end. They are part of the word, so that the one compare-and-swap which ends a
 * future also decides, for both sides, whether its end will be announced.
 */
#ifndef PP_LIB_SLOT_H
#define PP_LIB_SLOT_H

#include <stdbool.h>
#include "layout.h"

enum pp__state {
	PP__FREE, PP__READY,
	PP__DELAYED, PP__FAILED, /* between attempts: owned by nobody, whatever the owner's bits say */
	PP__CLAIMED, PP__RUNNING,
	PP__ASKED_KILL, PP__ASKED_TIME,
	PP__STOP_KILL, PP__STOP_TIME, PP__STOP_MEMORY, PP__STOP_REQUEUE,
	PP__DONE,                /* published: the cell has a result */
	PP__DIED,                /* the cell has a death */
	PP__KILLED, PP__TIMED_OUT, PP__MEMORY, PP__CANCELLED, PP__BROKEN,
	PP__STATES
};

static_assert(PP__STATES <= 32, "a state has five bits");

#define PP__WANT_WAKE   (UINT64_C(1) << 5)       /* a thread sleeps on the cell's semaphore: post it */
#define PP__WANT_PUSH   (UINT64_C(1) << 6)       /* push the slot on the completion stack and ring */
#define PP__WANTS       (PP__WANT_WAKE | PP__WANT_PUSH)

/* bits 0-4 state, 5-6 wants, 7-16 owner, 17-31 its incarnation, 32-51 generation, 52-63 check */
#define PP__OWNER_BITS  (((UINT64_C(1) << 25) - 1) << 7)
#define PP__INCARNATION_MASK 0x7fffu
#define PP__GENERATION_MASK  0xfffffu

static inline enum pp__state pp__word_state(uint64_t word) { return (enum pp__state)(word & 31u); }
static inline uint32_t pp__word_worker(uint64_t word) { return (uint32_t)(word >> 7) & 1023u; }
static inline uint32_t pp__word_incarnation(uint64_t word) { return (uint32_t)(word >> 17) & PP__INCARNATION_MASK; }
static inline uint32_t pp__word_generation(uint64_t word) { return (uint32_t)(word >> 32) & PP__GENERATION_MASK; }

static inline uint64_t pp__owner(uint32_t worker, uint32_t incarnation)
{
	return (uint64_t)worker << 7 | (uint64_t)(incarnation & PP__INCARNATION_MASK) << 17;
}

static inline bool pp__word_is_owned_by(uint64_t word, uint64_t owner)
{
	return (word & PP__OWNER_BITS) == owner;
}

/* What one attempt at a task is known by: slot (by the check), generation, owner. */
static inline uint64_t pp__word_attempt(uint64_t word) { return word & ~(PP__WANTS | UINT64_C(31)); }

static inline bool pp__state_is_end(enum pp__state state) { return state >= PP__DONE && state < PP__STATES; }
/* In user code, and may still publish. */
static inline bool pp__state_runs(enum pp__state state) { return state >= PP__RUNNING && state <= PP__ASKED_TIME; }
/* In user code, and may not. */
static inline bool pp__state_stops(enum pp__state state) { return state >= PP__STOP_KILL && state <= PP__STOP_MEMORY; }
/* An attempt that has failed runs until it is decided whether there is another. */
static inline bool pp__state_is_running(enum pp__state state)
{
	return pp__state_runs(state) || pp__state_stops(state) || state == PP__FAILED;
}

/* Its worker went with it; also a task that was stopped, once that worker is gone. But for what timed out before it started. */
static inline bool pp__state_is_death(enum pp__state state) { return state >= PP__DIED && state <= PP__MEMORY; }

/* Spreads every bit over all of them. */
uint64_t pp__mix(uint64_t x);

/* The word of a fresh slot. The check field makes random bytes, and a valid word of another slot, invalid here. */
uint64_t pp__word_make(const struct pp__header *header, uint32_t slot, uint32_t generation, enum pp__state state);
/* Whether word can stand where plain, of any state and not owned, is the slot's word of this generation. */
static inline bool pp__word_is_like(uint64_t word, uint64_t plain)
{
	return !((word ^ plain) & ~(PP__WANTS | PP__OWNER_BITS | UINT64_C(31))) && pp__word_state(word) < PP__STATES
	       && pp__word_worker(word) < PP__MAX_ENTRIES;
}

/* Acquire: what the ender wrote before is visible when the word says that the future has ended. */
static inline uint64_t pp__slot_look(struct pp__cell *cell)
{
	return atomic_load_explicit(&cell->word, memory_order_acquire);
}

/* FREE, or the end of the generation before→READY. Release: the descriptor is visible to whoever claims. */
static inline void pp__slot_ready(struct pp__cell *cell, uint64_t ready_word)
{
	atomic_store_explicit(&cell->word, ready_word, memory_order_release);
}

/*
 * Each returns the word that it made, or 0 when the edge does not exist any more: another took the slot elsewhere.
 * The wants are kept; a want that comes in between is no reason to fail. Claimed is the attempt that was seen, no later one.
 */
uint64_t pp__slot_claim(struct pp__cell *cell, uint64_t seen, uint64_t owner);         /* READY→CLAIMED */
uint64_t pp__slot_run(struct pp__cell *cell, uint64_t claimed_word);                   /* CLAIMED→RUNNING */
uint64_t pp__slot_publish(struct pp__cell *cell, uint64_t running_word);               /* RUNNING, ASKED→DONE */
uint64_t pp__slot_die(struct pp__cell *cell, uint64_t running_word);                   /* RUNNING, ASKED→DIED */
uint64_t pp__slot_fail(struct pp__cell *cell, uint64_t running_word);                  /* RUNNING, ASKED→FAILED */
uint64_t pp__slot_cancel(struct pp__cell *cell, uint32_t generation);    /* READY, DELAYED, CLAIMED, STOP_REQUEUE→CANCELLED */
uint64_t pp__slot_expire(struct pp__cell *cell, uint32_t generation);                  /* READY, DELAYED, CLAIMED→TIMED_OUT */
uint64_t pp__slot_ask_kill(struct pp__cell *cell, uint32_t generation);                /* RUNNING→ASKED_KILL */
uint64_t pp__slot_stop_kill(struct pp__cell *cell, uint32_t generation);               /* RUNNING, ASKED→STOP_KILL */
uint64_t pp__slot_break(struct pp__cell *cell, uint32_t generation);                   /* anything open→BROKEN */
/* By the supervisor, of a task that it has seen with this word: neither the owner's next nor the slot's is meant. */
uint64_t pp__slot_ask(struct pp__cell *cell, uint64_t seen, enum pp__state asked);     /* RUNNING→ASKED_x */
uint64_t pp__slot_stop(struct pp__cell *cell, uint64_t seen, enum pp__state stop);     /* RUNNING, ASKED→STOP_x */
uint64_t pp__slot_stop_claimed(struct pp__cell *cell, uint64_t seen);                  /* CLAIMED→STOP_REQUEUE */
uint64_t pp__slot_delay(struct pp__cell *cell, uint64_t seen);  /* FAILED; owner dead: RUNNING, ASKED, STOP_TIME,
                                                                   STOP_MEMORY→DELAYED */
uint64_t pp__slot_again(struct pp__cell *cell, uint64_t seen);                         /* DELAYED→READY */
/* By the supervisor, when this owner is confirmed dead. */
uint64_t pp__slot_requeue(struct pp__cell *cell, uint64_t owner);                      /* CLAIMED, STOP_REQUEUE→READY */
uint64_t pp__slot_stopped(struct pp__cell *cell, uint64_t owner);      /* STOP_x→its end: KILLED, TIMED_OUT, MEMORY */
/* Sets wants on an open slot; 0: it has ended, or been freed, and these wants will not be served. */
uint64_t pp__slot_want(struct pp__cell *cell, uint32_t generation, uint64_t wants);

/*
 * Over all that says where and how long a result is, so that a torn or forged one is an error. With PP_CHECKSUM the
 * checksum of its bytes is added by exclusive or: sum.h.
 */
static inline uint32_t pp__result_check(const struct pp__header *header, uint32_t slot, uint32_t generation, uint64_t size,
                                        int32_t code, uint64_t claim)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t sum = (header->nonce ^ slot ^ (uint64_t)(generation & PP__GENERATION_MASK) << 32) * odd;

	sum = ((sum ^ sum >> 29) + size) * odd;
	sum = ((sum ^ sum >> 29) + (uint32_t)code) * odd;
	if (size > PP__EXTENSION)
		sum = ((sum ^ sum >> 29) + claim) * odd;
	return (uint32_t)(sum >> 32);
}

#endif
