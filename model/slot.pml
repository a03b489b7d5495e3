/* SPDX-License-Identifier: MIT */
/*
 * Claim, publish, death: lib/slot.c, lib/ring.h, worker/claim.c, worker/worker.c (run), worker/crash.c, worker/bury.c
 * (settle, requeue), lib/slots.c (limbo).
 *
 * The parent submits TASKS tasks into SLOTS slots, which are used again; it cancels some; it takes each end and checks
 * it. Any worker may be killed before any step, or crash in its task with its handler running. Claims:
 *
 *   each future ends exactly once, with the bytes of its own task; no task runs twice; a slot has one owner;
 *   no ready task is lost: an end state in which the parent still waits is an error.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#define W 2
#define me _pid
#define NOBODY 255
#define NONE   255
#define NOT_READY 254    /* an owner that nobody is */

mtype = { FREE, READY, CLAIMED, RUNNING, DONE, DIED, CANCELLED };
#define IS_END(state) (state == DONE || state == DIED || state == CANCELLED)

/* One word; each statement below that changes it is one compare-and-swap on all of it. */
typedef word_t { mtype state; byte owner, incarnation, generation };
word_t word[SLOTS];
byte desc[SLOTS], result[SLOTS];         /* the task's number, plus one */
byte entry[TASKS], head, tail;           /* the ring; entry: slot + 1 */
byte cur[W], incarnation[W], requeued[W];/* requeued: slot + 1, and 8 times a number */
byte runs[TASKS], ends[TASKS];
bool killed[W], gone[W];
byte kills = KILLS, cancels = CANCELS;

#define OWNED(s, w, i) (word[s].owner == w && word[s].incarnation == i)
#define MINE(s)        (OWNED(s, me, mine) && word[s].generation == generation)

/* The word that is seen is claimed, or none: another attempt at the slot has a note or an entry of its own. */
#define AS_SEEN (word[slot].state == READY && word[slot].owner == owner && word[slot].incarnation == before \
                 && word[slot].generation == generation)

inline claim() {
	atomic {
		if
		:: word[slot].state == READY ->
			owner = word[slot].owner; before = word[slot].incarnation; generation = word[slot].generation
		:: else -> owner = NOT_READY; before = 0; generation = 0
		fi
	};
#ifndef MUTANT_CUR_AFTER_CLAIM
	cur[me] = slot;
#endif
	atomic {
		if
		:: AS_SEEN ->
			word[slot].state = CLAIMED; got = true;
#ifndef MUTANT_OWNER_AFTER_STATE
			word[slot].owner = me; word[slot].incarnation = mine
#endif
		:: else
		fi;
		owner = 0; before = 0
	};
#ifdef MUTANT_OWNER_AFTER_STATE
	if
	:: got -> word[slot].owner = me; word[slot].incarnation = mine
	:: else
	fi;
#endif
#ifdef MUTANT_CUR_AFTER_CLAIM
	cur[me] = slot;
#endif
	skip
}

#define SOMETHING (requeued[0] || requeued[1] || (head < TASKS && entry[head]))

/* claim_requeued, claim_ring; that there is something to look at is left to wake.pml. */
inline look() {
	i = 0;
	do
	:: i < W && !got ->
		at = requeued[i];
		if
		:: at ->
			slot = at % 8 - 1;
			claim();
			atomic { if :: requeued[i] == at -> requeued[i] = 0 :: else fi }
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0;
	if
	:: !got ->
		at = head;
		if
		:: at < TASKS && entry[at] ->
			slot = entry[at] - 1;
#ifdef MUTANT_HEAD_BEFORE_CLAIM
			atomic { if :: head == at -> head = at + 1 :: else fi };
			claim()
#else
			claim();
			atomic { if :: head == at -> head = at + 1 :: else fi }
#endif
		:: else
		fi
	:: else
	fi;
	at = 0
}

inline run_task() {
	atomic {
		if
		:: word[slot].state == CLAIMED && MINE(slot) -> word[slot].state = RUNNING
		:: else -> got = false           /* cancelled: dropped */
		fi
	};
	if
	:: got ->
		at = desc[slot];
		atomic { runs[at - 1]++; assert(runs[at - 1] == 1) };
#ifndef MUTANT_PUBLISH_BEFORE_DATA
		if :: skip :: crash() fi;
		result[slot] = at;
#endif
		atomic {
			assert(word[slot].state == RUNNING && MINE(slot));
			word[slot].state = DONE; got = false
		};
#ifdef MUTANT_PUBLISH_BEFORE_DATA
		result[slot] = at;
#endif
		at = 0
	:: else
	fi
}

/* The handler ends the future; other threads of the process write until it is dead. */
inline crash() {
	word[slot].state = DIED;
	result[slot] = at;
	killed[me] = true
}

active [W] proctype worker()
{
	byte slot, at, i, mine, owner, before, generation;
	bool got;

end_again: {
end_idle:	do
		:: atomic { SOMETHING -> i = 0 };
			look();
			if
			:: got -> run_task()
			:: else
			fi;
			atomic { slot = 0; generation = 0 }
		od
	} unless { atomic { killed[me] -> gone[me] = true } };
end_dead:
	atomic { !gone[me] -> slot = 0; at = 0; i = 0; owner = 0; before = 0; generation = 0; got = false; mine = incarnation[me] };
	goto end_again
}

#define DEADS(s) (OWNED(slot, dead, incarnation[dead]) && word[slot].state == s)

/* bury: settle; the incarnation; a new worker. */
inline bury() {
	slot = cur[dead];
	if
	:: slot == NONE
	:: slot != NONE ->
		if
#ifdef MUTANT_RUNNING_PUT_BACK
		:: atomic { DEADS(CLAIMED) || DEADS(RUNNING) -> word[slot].state = READY };
#else
		:: atomic { DEADS(CLAIMED) -> word[slot].state = READY };
#endif
			i = 0;
#ifndef MUTANT_NOT_PUT_BACK
			do
#ifdef MUTANT_NOTES_ALIKE
			:: atomic { requeued[i] == 0 -> requeued[i] = slot + 1; break }
#else
			:: atomic { requeued[i] == 0 -> number = (number + 1) % 4; requeued[i] = slot + 1 + 8 * number; break }
#endif
			:: atomic { requeued[i] != 0 -> i++; assert(i < W) }
			od
#endif
#ifdef MUTANT_SETTLE_WITHOUT_SWAP
		:: atomic { DEADS(RUNNING) || DEADS(DONE) -> word[slot].state = DIED }
#else
		:: atomic { DEADS(RUNNING) -> word[slot].state = DIED }
#endif
		:: else
		fi
	fi;
#ifdef MUTANT_SETTLE_BEFORE_DEATH
	killed[dead] = true;
#endif
	atomic { gone[dead] -> i = 0; slot = 0; cur[dead] = NONE };
#ifndef MUTANT_INCARNATION_NOT_RAISED
	incarnation[dead]++;
#endif
	atomic { killed[dead] = false; gone[dead] = false; dead = 0 }
}

active proctype supervisor()
{
	byte dead, slot, i, number;

end_watch:
	do
	:: atomic { gone[0] -> dead = 0 }; bury()
	:: atomic { gone[1] -> dead = 1 }; bury()
#ifdef MUTANT_SETTLE_BEFORE_DEATH
	:: atomic { kills > 0 -> kills--; dead = 0 }; bury()
#endif
	od
}

active proctype killer()
{
end_killer:
	do
	:: atomic { kills > 0 && !killed[0] -> kills--; killed[0] = true }
	:: atomic { kills > 0 && !killed[1] -> kills--; killed[1] = true }
	od
}

/* What a dying worker may still write to is not used again before its death is confirmed: pp__slots_harvest. */
#ifdef MUTANT_NO_LIMBO
#define IN_LIMBO(s) false
#else
#define IN_LIMBO(s) (word[s].state == DIED && word[s].owner < W && word[s].incarnation == incarnation[word[s].owner])
#endif

inline submit(s) {
	atomic { desc[s] = next + 1; result[s] = 0; next++ };
	atomic { word[s].state = READY; word[s].owner = NOBODY };
	atomic { entry[tail] = s + 1; tail++ }
}

inline take(s) {
	atomic {
		seen = word[s].state; t = desc[s] - 1;
		assert(seen != DONE || (result[s] == t + 1 && runs[t] == 1));
		assert(seen != CANCELLED || runs[t] == 0);
		ends[t]++; taken++
	};
	atomic { !IN_LIMBO(s) ->
		assert(word[s].state == seen);   /* an end is for good */
		word[s].state = FREE;
		word[s].generation++;
		seen = 0; t = 0
	}
}

active proctype parent()
{
	byte next, taken, s, t;
	mtype seen;

	atomic { s = 0; do :: s < SLOTS -> word[s].state = FREE; word[s].owner = NOBODY; s++ :: else -> break od; s = 0;
	         cur[0] = NONE; cur[1] = NONE };
	do
	:: taken == TASKS -> break
	:: next < TASKS && word[0].state == FREE -> submit(0)
	:: IS_END(word[0].state) -> take(0)
	:: atomic { cancels > 0 && (word[0].state == READY || word[0].state == CLAIMED) -> cancels--; word[0].state = CANCELLED }
#if SLOTS > 1
	:: next < TASKS && word[1].state == FREE && word[0].state != FREE -> submit(1)
	:: IS_END(word[1].state) -> take(1)
	:: atomic { cancels > 0 && (word[1].state == READY || word[1].state == CLAIMED) -> cancels--; word[1].state = CANCELLED }
#endif
	od;
	assert(ends[0] == 1 && ends[TASKS - 1] == 1)
}
