/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking of workers, with the throttle: lib/wake.c, and what worker/worker.c and worker/bury.c do with it.
 *
 * Tasks have no identity here: ready counts those with a ring entry, requeue those that the supervisor has put back. A
 * task is short, or lasts until nothing else in the pool can move. That is when the claim is checked:
 *
 *   no state lasts in which a task is ready, a worker sleeps, and nobody is on the way to look or to wake.
 *
 * Any worker may be killed before any step; the supervisor then buries and replaces it, step by step. One atomic block
 * is one access to memory that others see, with what the process does privately before the next one.
 *
 * W workers (2 or 3), S threads that submit N tasks each, KILLS; SPIN 0 takes the spinning out.
 */
#ifndef W
#define W 2
#endif
#ifndef S
#define S 2
#endif
#ifndef N
#define N 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef SPIN
#define SPIN 1
#endif

#define me       _pid
#define NAME     (me + 1)
#define BIT(i)   (1 << (i))
#define WITHOUT(i) (sleepers & (255 - BIT(i)))

byte searching;                          /* entry + 1; 0: nobody */
byte sleepers;                           /* a bit per entry */
byte ready, requeue, requeued;           /* requeued: raised with every task that is put back */
byte held[W];                            /* of the worker's task: 0 none, CLAIMED, RUNNING */
bool sem[W];                             /* more tokens than one are drained with it */
bool asleep[W], in_long_task[W], killed[W], gone[W];
byte kills = KILLS;

#define CLAIMED  1
#define RUNNING  2
#define RESERVED 255

inline lowest(at) {
	at = 0;
	do
	:: at < W && !(sleepers & BIT(at)) -> at++
	:: else -> break
	od;
	at = (at == W -> 0 : at + 1)
}

/* pp__wake_one */
#ifndef MUTANT_NAME_AFTER
inline wake_one(at) {
	do
	:: atomic { searching != 0 -> break }
	:: atomic { searching == 0 -> skip };
		atomic { lowest(at); if :: at == 0 -> break :: else fi };
		atomic { if :: searching == 0 -> searching = at :: else -> break fi };
		atomic {
			if
			:: sleepers & BIT(at - 1) -> sleepers = WITHOUT(at - 1)
			:: else -> goto_retry = true
			fi
		};
		if
		:: atomic { goto_retry -> goto_retry = false; if :: searching == at -> searching = 0 :: else fi }
		:: atomic { !goto_retry -> sem[at - 1] = 1; break }
		fi
	od;
	at = 0
}
#else
inline wake_one(at) {
	if
	:: atomic { searching != 0 }
	:: atomic { searching == 0 -> if :: sleepers == 0 -> at = 0 :: else -> at = 1 fi };
		if
		:: at == 0
		:: else ->
			atomic { if :: searching == 0 -> searching = RESERVED :: else -> at = 0 fi };
			if
			:: at == 0
			:: else ->
				atomic { lowest(at); if :: at -> sleepers = WITHOUT(at - 1) :: else fi };
				searching = at;
				if :: at -> sem[at - 1] = 1 :: else fi
			fi
		fi
	fi;
	at = 0
}
#endif

/* claim_requeued, claim_ring */
inline look() {
	atomic {
		if
		:: requeued != seen && requeue > 0 -> requeue--; held[me] = CLAIMED; got = true
		:: else -> seen = requeued
		fi };
	if
	:: atomic { !got && ready > 0 -> ready--; held[me] = CLAIMED; got = true }
	:: atomic { got || ready == 0 -> skip }
	fi
}

#define SEARCHING_END    if :: searching == NAME -> searching = 0; was = true :: else fi

inline spin() {
#if SPIN
	if
	:: skip
	:: atomic { searching == NAME || searching == 0 -> searching = NAME };
		do
		:: !got -> look()
		:: break
		od
	fi
#else
	skip
#endif
}

inline await_task() {
	spin();
	do
	:: got -> break
	:: !got ->
		sem[me] = 0;
		atomic { SEARCHING_END; was = false };
		sleepers = sleepers | BIT(me);
#ifndef MUTANT_SLEEP_WITHOUT_LOOK
		look();
#endif
		if
		:: got -> break
		:: else
		fi;
		asleep[me] = true;
end_asleep:	atomic { sem[me] -> sem[me] = 0; asleep[me] = false };
		look();
		if
		:: !got -> spin()
		:: got
		fi
	od
}

inline stop_searching() {
	sleepers = WITHOUT(me);
	atomic { SEARCHING_END };
#ifdef MUTANT_ONLY_THE_SEARCHER_WAKES
	if
	:: was -> was = false;
#else
	if
	:: skip -> was = false;
#endif
		if
		:: ready > 0 -> wake_one(var)
		:: ready == 0
		fi
#ifdef MUTANT_ONLY_THE_SEARCHER_WAKES
	:: else
#endif
	fi
}

inline run_task() {
	got = false;
	if
	:: held[me] = 0
	:: atomic { held[me] = RUNNING; in_long_task[me] = true };
		atomic { !in_long_task[me] -> held[me] = 0 }
	fi
}

active [W] proctype worker()
{
	byte var, seen;
	bool got, was, goto_retry;

again:	{
		look();
		if
		:: got -> stop_searching()
		:: else
		fi;
		do
		:: !got -> await_task(); stop_searching()
		:: got -> run_task(); look()
		od
	} unless { atomic { killed[me] -> gone[me] = true; asleep[me] = false; in_long_task[me] = false } };
end_dead:
	atomic { !gone[me] -> var = 0; seen = 0; got = false; was = false; goto_retry = false };
	goto again
}

active [S] proctype submitter()
{
	byte var, n;
	bool goto_retry;

	do
	:: atomic { n < N -> n++; ready++ }; wake_one(var)
	:: n == N -> break
	od
}

#if W == 2
#define EITHER(a) (a[0] || a[1])
#else
#define EITHER(a) (a[0] || a[1] || a[2])
#endif

/* bury: settle, wake_again; then a new incarnation is started. */
active proctype supervisor()
{
	byte dead, var, i;
	bool goto_retry;

end_watch:
	do
	:: atomic { EITHER(gone) ->
			dead = 0;
			do :: !gone[dead] -> dead++ :: else -> break od;
			if
			:: held[dead] == CLAIMED -> requeue++
			:: else
			fi };
		atomic { if :: held[dead] == CLAIMED -> requeued++ :: else fi; held[dead] = 0 };
		sleepers = WITHOUT(dead);
#ifdef MUTANT_ONLY_ITS_OWN_NAME
		atomic { if :: searching == dead + 1 -> searching = 0 :: else fi };
#else
#ifndef MUTANT_THROTTLE_NOT_REPAIRED
		searching = 0;
#endif
#endif
#ifndef MUTANT_NO_WAKE_AFTER_DEATH
		do
		:: atomic { i < W -> if :: !gone[i] && !(sleepers & BIT(i)) -> sem[i] = 1 :: else fi; i++ }
		:: atomic { i == W -> i = 0; break }
		od;
		wake_one(var);
#endif
		atomic { killed[dead] = false; sem[dead] = 0; gone[dead] = false; dead = 0 }
	od
}

#define KILL(i)  atomic { kills > 0 && !killed[i] -> kills--; killed[i] = true }

active proctype killer()
{
end_killer:
	do
	:: KILL(0)
	:: KILL(1)
#if W == 3
	:: KILL(2)
#endif
	od
}

/* Nothing else can move: the claim. Then one of the long tasks ends. */
active proctype observer()
{
	byte i;

end_observer:
	do
	:: atomic { timeout ->
			assert(!(EITHER(asleep) && ready + requeue > 0));
			i = 0;
			do
			:: i < W && in_long_task[i] -> in_long_task[i] = false; break
			:: i < W && !in_long_task[i] -> i++
			:: i == W -> break
			od;
			if :: i == W -> i = 0; break :: else -> i = 0 fi }
	od
}
