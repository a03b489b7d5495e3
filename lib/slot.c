/* SPDX-License-Identifier: MIT */
/*
 * The edges of a slot. Every one is a compare-and-swap on the whole word, sequentially consistent because the parties
 * look at each other's words right after it (wake.h). Nothing else is needed for a process to take part in the protocol,
 * and nothing is left half done when it is killed: before the swap the old state stands, after it the new one.
 */
#include "slot.h"

uint64_t pp__mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

uint64_t pp__word_make(const struct pp__header *header, uint32_t slot, uint32_t generation, enum pp__state state)
{
	uint64_t check = pp__mix(header->nonce ^ slot) & 0xfffu;

	return check << 52 | (uint64_t)(generation & PP__GENERATION_MASK) << 32 | (uint64_t)state;
}

/* From a state in the set from (bit per state), which owner holds unless it is 0, to another; the rest of the word stays. */
static uint64_t move(struct pp__cell *cell, unsigned from, uint64_t mask, uint64_t match, enum pp__state to)
{
	uint64_t word = atomic_load(&cell->word), next;

	do {
		if (!(from & 1u << pp__word_state(word)) || (word & mask) != match)
			return 0;
		next = (word & ~UINT64_C(31)) | (uint64_t)to;
	} while (!atomic_compare_exchange_weak(&cell->word, &word, next));
	return next;
}

/* Whether now is what was known as before, but for wants, and for having been asked to end. */
static bool is_still_own(uint64_t before, uint64_t now)
{
	if ((before ^ now) & ~(PP__WANTS | UINT64_C(31)))
		return false;
	return pp__word_state(now) == pp__word_state(before)
	       || (pp__state_runs(pp__word_state(before)) && pp__state_runs(pp__word_state(now)));
}

/* The same for the owner, who knows the word but for those: one swap when nobody wants anything. */
static uint64_t move_own(struct pp__cell *cell, uint64_t word, enum pp__state to)
{
	uint64_t expected = word, next;

	do {
		next = (expected & ~UINT64_C(31)) | (uint64_t)to;
		if (atomic_compare_exchange_strong(&cell->word, &expected, next))
			return next;
	} while (is_still_own(word, expected));
	return 0;
}

uint64_t pp__slot_claim(struct pp__cell *cell, uint64_t seen, uint64_t owner)
{
	uint64_t word = seen, next;

	do {
		if (pp__word_state(word) != PP__READY || pp__word_attempt(word) != pp__word_attempt(seen))
			return 0;
		next = (word & ~(UINT64_C(31) | PP__OWNER_BITS)) | owner | PP__CLAIMED;
	} while (!atomic_compare_exchange_weak(&cell->word, &word, next));
	return next;
}

uint64_t pp__slot_run(struct pp__cell *cell, uint64_t claimed_word)
{
	return move_own(cell, claimed_word, PP__RUNNING);
}

uint64_t pp__slot_publish(struct pp__cell *cell, uint64_t running_word)
{
	return move_own(cell, running_word, PP__DONE);
}

uint64_t pp__slot_die(struct pp__cell *cell, uint64_t running_word)
{
	return move_own(cell, running_word, PP__DIED);
}

uint64_t pp__slot_fail(struct pp__cell *cell, uint64_t running_word)
{
	return move_own(cell, running_word, PP__FAILED);
}

#define BIT(state)       (1u << (state))
#define PENDING          (BIT(PP__READY) | BIT(PP__DELAYED) | BIT(PP__CLAIMED))
#define IN_USER_CODE     (BIT(PP__RUNNING) | BIT(PP__ASKED_KILL) | BIT(PP__ASKED_TIME))
#define STOPPING         (BIT(PP__STOP_KILL) | BIT(PP__STOP_TIME) | BIT(PP__STOP_MEMORY))
#define OF_GENERATION(g) ((uint64_t)PP__GENERATION_MASK << 32), ((uint64_t)((g) & PP__GENERATION_MASK) << 32)
#define OF_OWNER(o)      PP__OWNER_BITS, (o)
#define OF_WORD(w)       ~(PP__WANTS | UINT64_C(31)), ((w) & ~(PP__WANTS | UINT64_C(31)))

uint64_t pp__slot_cancel(struct pp__cell *cell, uint32_t generation)
{
	return move(cell, PENDING | BIT(PP__STOP_REQUEUE), OF_GENERATION(generation), PP__CANCELLED);
}

uint64_t pp__slot_expire(struct pp__cell *cell, uint32_t generation)
{
	return move(cell, PENDING, OF_GENERATION(generation), PP__TIMED_OUT);
}

uint64_t pp__slot_ask_kill(struct pp__cell *cell, uint32_t generation)
{
	return move(cell, BIT(PP__RUNNING), OF_GENERATION(generation), PP__ASKED_KILL);
}

uint64_t pp__slot_stop_kill(struct pp__cell *cell, uint32_t generation)
{
	return move(cell, IN_USER_CODE, OF_GENERATION(generation), PP__STOP_KILL);
}

uint64_t pp__slot_break(struct pp__cell *cell, uint32_t generation)
{
	return move(cell, PENDING | BIT(PP__FAILED) | IN_USER_CODE | STOPPING | BIT(PP__STOP_REQUEUE),
	            OF_GENERATION(generation), PP__BROKEN);
}

uint64_t pp__slot_ask(struct pp__cell *cell, uint64_t seen, enum pp__state asked)
{
	return move(cell, BIT(PP__RUNNING), OF_WORD(seen), asked);
}

uint64_t pp__slot_stop(struct pp__cell *cell, uint64_t seen, enum pp__state stop)
{
	return move(cell, IN_USER_CODE, OF_WORD(seen), stop);
}

uint64_t pp__slot_stop_claimed(struct pp__cell *cell, uint64_t seen)
{
	return move(cell, BIT(PP__CLAIMED), OF_WORD(seen), PP__STOP_REQUEUE);
}

uint64_t pp__slot_delay(struct pp__cell *cell, uint64_t seen)
{
	return move(cell, BIT(PP__FAILED) | IN_USER_CODE | BIT(PP__STOP_TIME) | BIT(PP__STOP_MEMORY), OF_WORD(seen),
	            PP__DELAYED);
}

uint64_t pp__slot_again(struct pp__cell *cell, uint64_t seen)
{
	return move(cell, BIT(PP__DELAYED), OF_WORD(seen), PP__READY);
}

uint64_t pp__slot_requeue(struct pp__cell *cell, uint64_t owner)
{
	return move(cell, BIT(PP__CLAIMED) | BIT(PP__STOP_REQUEUE), OF_OWNER(owner), PP__READY);
}

/* At most one of the three finds its edge. */
uint64_t pp__slot_stopped(struct pp__cell *cell, uint64_t owner)
{
	uint64_t word = move(cell, BIT(PP__STOP_KILL), OF_OWNER(owner), PP__KILLED);

	if (!word)
		word = move(cell, BIT(PP__STOP_TIME), OF_OWNER(owner), PP__TIMED_OUT);
	return word ? word : move(cell, BIT(PP__STOP_MEMORY), OF_OWNER(owner), PP__MEMORY);
}

uint64_t pp__slot_want(struct pp__cell *cell, uint32_t generation, uint64_t wants)
{
	uint64_t word = atomic_load(&cell->word);

	do {
		if (pp__word_generation(word) != (generation & PP__GENERATION_MASK)
		    || pp__word_state(word) < PP__READY || pp__word_state(word) >= PP__DONE)
			return 0;
		if ((word & wants) == wants)
			return word;
	} while (!atomic_compare_exchange_weak(&cell->word, &word, word | wants));
	return word | wants;
}
