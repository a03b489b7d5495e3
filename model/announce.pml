/* SPDX-License-Identifier: MIT */
/*
 * From the end of a future to whoever waits for it: the wants in the state word, the completion stack and the bell
 * (lib/wake.c), the supervisor's notices (worker/bury.c), and the parent's side of both (lib/watch.c, lib/future.c).
 *
 * One thread of the parent submits TASKS tasks into SLOTS slots, which are used again as soon as their end was announced,
 * and hears of them by the bell. Another (SLEEPER) submits one task into a slot of its own and sleeps on its semaphore.
 * Workers end what is ready, and may be killed before any step. No slices here: nothing repairs a lost wake. Claims:
 *
 *   nobody sleeps whose future has ended: an end state in which a thread of the parent still waits is an error;
 *   each end is announced once; no stack loses what is below a slot that is pushed twice.
 */
#ifndef TASKS
#define TASKS 2
#endif
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef SLEEPER
#define SLEEPER 0
#endif
#define W 2
#define me _pid
#define ALL (SLOTS + SLEEPER)
#define NONE 255

mtype = { FREE, READY, RUNNING, ENDED };

/* one word */
typedef word_t { mtype state; byte owner, generation; bool wake, push };
word_t word[ALL];
byte link[ALL], notice_link[ALL], noticed[ALL];  /* slot + 1; generation + 1 */
byte done, notices;                              /* the two stacks */
bool armed, bell, wake[ALL];                     /* semaphores: a token more says nothing */
byte cur[W];
bool killed[W], gone[W];
byte kills = KILLS;

bool open[ALL];                          /* private: armed and not announced */
byte announced;

inline put(slot) {
	at = done;
	do
	:: link[slot] = at;
		atomic { if :: done == at -> done = slot + 1; break :: else -> at = done fi }
	od;
	at = 0
}

#define SOME_READY (word[0].state == READY || word[ALL - 1].state == READY)

inline take() {
	atomic {
		SOME_READY -> slot = (word[0].state == READY -> 0 : ALL - 1);
		cur[me] = slot; word[slot].state = RUNNING; word[slot].owner = me
	}
}

active [W] proctype worker()
{
	byte slot, at;
	bool wants_wake, wants_push, rings;

end_again: {
end_idle:	do
		:: take();
			atomic {
				word[slot].state = ENDED;
				wants_wake = word[slot].wake; wants_push = word[slot].push
			};
#ifndef MUTANT_WAKE_DROPPED
			if
			:: wants_wake -> wake[slot] = true
			:: else
			fi;
#endif
			if
			:: wants_push ->
#ifdef MUTANT_RING_BEFORE_PUSH
				atomic { rings = armed; armed = false };
				if :: rings -> bell = true :: else fi;
				put(slot)
#else
				put(slot);
				atomic { rings = armed; armed = false };
				if :: rings -> bell = true :: else fi
#endif
			:: else
			fi;
			atomic { slot = 0; wants_wake = false; wants_push = false; rings = false }
		od
	} unless { atomic { killed[me] -> gone[me] = true } };
end_dead:
	atomic { !gone[me] -> slot = 0; at = 0; wants_wake = false; wants_push = false; rings = false };
	goto end_again
}

/* settle and notice; the new incarnation is a worker that owns nothing. */
inline notice() {
	atomic { known = (noticed[slot] != 0); noticed[slot] = generation + 1 };
	if
	:: !known ->
		at = notices;
		do
		:: notice_link[slot] = at;
			atomic { if :: notices == at -> notices = slot + 1; break :: else -> at = notices fi }
		od;
		at = 0
	:: else
	fi;
	armed = false;
	bell = true
}

active proctype supervisor()
{
	byte dead, slot, at, generation;
	bool known, wants_wake, wants_push;

end_watch:
	do
	:: atomic { gone[0] || gone[1] -> dead = (gone[0] -> 0 : 1); slot = cur[dead] };
		if
		:: slot != NONE ->
			atomic {
				if
				:: word[slot].state == RUNNING && word[slot].owner == dead -> word[slot].state = ENDED
				:: else
				fi
			};
#ifndef MUTANT_NOT_ANNOUNCED_AFTER_DEATH
			atomic {
				if
				:: word[slot].state == ENDED && word[slot].owner == dead ->
					wants_wake = word[slot].wake; wants_push = word[slot].push;
					generation = word[slot].generation
				:: else
				fi
			};
			if :: wants_wake -> wake[slot] = true :: else fi;
			if :: wants_push -> notice() :: else fi
#endif
		:: else
		fi;
#ifndef MUTANT_NO_BELL_AFTER_DEATH
		atomic { if :: !armed -> bell = true :: else fi };
#endif
		atomic { killed[dead] = false; gone[dead] = false; cur[dead] = NONE; dead = 0; slot = 0; generation = 0;
		         known = false; wants_wake = false; wants_push = false }
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

/* announce: what is not awaited does not count. The slot is free for the next task at once. */
inline announce(s) {
	if
	:: open[s] && word[s].state == ENDED ->
		atomic { open[s] = false; announced++; word[s].state = FREE; word[s].generation++ }
	:: else
	fi
}

inline drain() {
	none = true;
#ifdef MUTANT_DONE_TAKEN_FIRST
	atomic { top = done; done = 0 };
	atomic { second = notices; notices = 0 };
#else
	atomic { second = notices; notices = 0 };
	atomic { top = done; done = 0 };
#endif
	bound = 0;
	do
	:: top && bound < SLOTS -> none = false; s = top - 1; top = link[s]; announce(s); bound++
	:: else -> break
	od;
	bound = 0;
	do
	:: second && bound < SLOTS ->
		none = false; s = second - 1; second = notice_link[s];
		atomic { generation = noticed[s]; noticed[s] = 0 };
		if :: generation == word[s].generation + 1 -> announce(s) :: else fi;
		bound++
	:: else -> break
	od;
	atomic { top = 0; second = 0; bound = 0; s = 0; generation = 0 }
}

/* make_ready and pp__watch: a future that has ended when it is watched is taken as it is. */
inline submit() {
	s = 0;
	do
	:: word[s].state == FREE -> break
	:: else -> s++
	od;
	atomic { word[s].state = READY; word[s].owner = NONE; word[s].wake = false; word[s].push = false; next++ };
	atomic {
		if
		:: word[s].state != ENDED -> word[s].push = true; open[s] = true
		:: else -> announced++; word[s].state = FREE; word[s].generation++
		fi
	};
	s = 0
}

#define HAS_FREE (word[0].state == FREE || word[SLOTS - 1].state == FREE)

active proctype listener()
{
	byte next, s, top, second, bound, generation;
	bool none;

	atomic { do :: s < ALL -> word[s].state = FREE; s++ :: else -> break od; s = 0; cur[0] = NONE; cur[1] = NONE };
	do
	:: next < TASKS && HAS_FREE -> submit()
	:: announced == TASKS -> break
	:: announced < next ->
#ifndef MUTANT_NOT_ARMED
		armed = true;
#endif
		drain();
		if
		:: none -> atomic { bell -> bell = false }; drain()
		:: else
		fi
	od;
	assert(announced == TASKS)
}

#if SLEEPER
active proctype sleeper()
{
	bool asked;

	atomic { word[SLOTS].state == FREE -> word[SLOTS].state = READY; word[SLOTS].owner = NONE };
	do
	:: word[SLOTS].state == ENDED -> break
	:: else ->
#ifdef MUTANT_WANT_APART_FROM_THE_STATE
		asked = (word[SLOTS].state != ENDED);
		word[SLOTS].wake = true;
#else
		atomic { asked = (word[SLOTS].state != ENDED); word[SLOTS].wake = (asked || word[SLOTS].wake) };
#endif
		if
		:: !asked
		:: asked -> atomic { wake[SLOTS] -> wake[SLOTS] = false }
		fi
	od
}
#endif
