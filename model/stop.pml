/* SPDX-License-Identifier: MIT */
/*
 * STOPPING: lib/future.c (cancel, kill), worker/patrol.c (stop_if_asked, take_back_claim), worker/worker.c (run),
 * worker/bury.c (settle).
 *
 * Two tasks in two slots, two workers. The parent kills the future of the first task, whatever its state is by then. The
 * supervisor sends a signal to whoever has it, which kills some steps later, and takes a claim back that does not start
 * (at any time: a worker may be slow for as long as it likes). Claims:
 *
 *   a signal never ends a worker that has another task, or none, but one whose own death was decided;
 *   each future ends exactly once; the innocent task returns; the killed one ends as killed, cancelled or returned;
 *   no task runs twice; an end state with an open future is an error.
 */
#ifndef KILLS
#define KILLS 0
#endif
#define W 2
#define me _pid
#define NONE 255

mtype = { READY, CLAIMED, RUNNING, STOP_KILL, STOP_REQUEUE, DONE, DIED, KILLED, CANCELLED };
#define IS_END(s) (s == DONE || s == DIED || s == KILLED || s == CANCELLED)

typedef word_t { mtype state; byte owner, incarnation };
word_t word[2];
byte cur[W], incarnation[W], runs[2];
bool signalled[W], killed[W], gone[W];   /* sent; arrived; dead, and seen by waitid */
bool condemned[W];                       /* starts nothing any more: what it claims is put back */
byte kills = KILLS;
bool accident;                           /* a worker was killed by somebody else */

#define HOLDS(w, s) (word[s].owner == w && word[s].incarnation == incarnation[w])
/* Whether the worker has this task in a state that allows no signal. */
#define INNOCENT(w, s) (HOLDS(w, s) && ((word[s].state == CLAIMED && !condemned[w]) || word[s].state == RUNNING))

active [W] proctype worker()
{
	byte slot, mine;

end_again: {
end_idle:	do
		:: atomic { word[0].state == READY || word[1].state == READY };
			if
			:: slot = 0
			:: slot = 1
			fi;
			cur[me] = slot;
			atomic {
				if
				:: word[slot].state == READY ->
					word[slot].state = CLAIMED; word[slot].owner = me; word[slot].incarnation = mine
				:: else -> slot = NONE
				fi
			};
			if
			:: slot != NONE ->
				if :: condemned[me] -> goto leave :: else fi;
				atomic {
					if
					:: word[slot].state == CLAIMED && HOLDS(me, slot) ->
						word[slot].state = RUNNING; runs[slot]++; assert(runs[slot] == 1)
					:: word[slot].state == STOP_REQUEUE && HOLDS(me, slot) -> goto leave
					:: else -> slot = NONE
					fi
				};
				if
				:: slot != NONE ->
#ifdef MUTANT_PUBLISH_WITHOUT_SWAP
					word[slot].state = DONE
#else
					atomic {
						if
						:: word[slot].state == RUNNING && HOLDS(me, slot) -> word[slot].state = DONE
						:: else ->
#ifndef MUTANT_STOPPED_GOES_ON
							goto leave
#else
							skip
#endif
						fi
					}
#endif
				:: else
				fi
			:: else
			fi;
			slot = 0
		od
	} unless { atomic { killed[me] } };
leave:
	gone[me] = true;
end_dead:
	atomic { !gone[me] -> slot = 0; mine = incarnation[me] };
	goto end_again
}

/* The signal arrives at any time after it was sent, or never, when its victim has left before. */
#define ARRIVE(w) \
	atomic { signalled[w] && !killed[w] && !gone[w] -> assert(!INNOCENT(w, 0) && !INNOCENT(w, 1)); killed[w] = true }

active proctype kernel()
{
end_kernel:
	do
	:: ARRIVE(0)
	:: ARRIVE(1)
	:: atomic { kills > 0 && !killed[0] -> kills--; killed[0] = true; accident = true }
	:: atomic { kills > 0 && !killed[1] -> kills--; killed[1] = true; accident = true }
	od
}

inline visit(w) {
	slot = cur[w];
	if
	:: slot == NONE
	:: slot != NONE ->
#ifdef MUTANT_KILL_NOT_BOUND_TO_THE_OWNER
		seen = word[slot].state;
#else
		atomic { seen = (HOLDS(w, slot) -> word[slot].state : READY) };
#endif
		if
#ifdef MUTANT_SIGNAL_BEFORE_STOPPING
		:: asked && (seen == RUNNING || seen == CLAIMED) && slot == 0 ->
			signalled[w] = true;
			atomic { if :: word[slot].state == RUNNING && HOLDS(w, slot) -> word[slot].state = STOP_KILL :: else fi }
#endif
		:: seen == STOP_KILL || seen == STOP_REQUEUE -> signalled[w] = true
		:: seen == CLAIMED && back ->
			back = false;
#ifndef MUTANT_NOT_CONDEMNED
			condemned[w] = true;
#endif
			atomic {
				if
				:: word[slot].state == CLAIMED && HOLDS(w, slot) -> word[slot].state = STOP_REQUEUE
				:: else -> seen = READY
				fi
			};
			if :: seen == CLAIMED -> signalled[w] = true :: else -> condemned[w] = false fi
		:: else
		fi
	fi;
	atomic { seen = 0; slot = 0 }
}

inline settle(w) {
	slot = cur[w];
	if
	:: slot != NONE ->
		atomic { if :: word[slot].state == RUNNING && HOLDS(w, slot) -> word[slot].state = DIED; assert(accident) :: else fi };
		atomic {
			if
			:: (word[slot].state == CLAIMED || word[slot].state == STOP_REQUEUE) && HOLDS(w, slot) ->
				word[slot].state = READY
			:: else
			fi
		};
#ifndef MUTANT_STOPPED_NOT_SETTLED
		atomic { if :: word[slot].state == STOP_KILL && HOLDS(w, slot) -> word[slot].state = KILLED :: else fi }
#endif
	:: else
	fi;
	incarnation[w]++;
	atomic { killed[w] = false; signalled[w] = false; condemned[w] = false; cur[w] = NONE; slot = 0; gone[w] = false }
}

bool asked;

#ifdef MUTANT_KILL_NOT_BOUND_TO_THE_OWNER
#define BOUND(w)   true
#else
#define BOUND(w)   HOLDS(w, cur[w])
#endif
#define STOPPED(w) (cur[w] != NONE && BOUND(w) && (word[cur[w]].state == STOP_KILL || word[cur[w]].state == STOP_REQUEUE))
#define LATE(w)    (back && cur[w] != NONE && HOLDS(w, cur[w]) && word[cur[w]].state == CLAIMED)
#ifdef MUTANT_SIGNAL_BEFORE_STOPPING
#define ASKED(w)   (asked && cur[w] == 0 && HOLDS(w, 0) && word[0].state == RUNNING)
#else
#define ASKED(w)   false
#endif
#define WORK(w)    (!signalled[w] && (STOPPED(w) || LATE(w) || ASKED(w)))

active proctype supervisor()
{
	byte slot;
	bool back = true;                /* it takes back one claim */
	mtype seen;

end_watch:
	do
	:: atomic { gone[0] }; settle(0)
	:: atomic { gone[1] }; settle(1)
	:: atomic { WORK(0) }; visit(0)
	:: atomic { WORK(1) }; visit(1)
	od
}

/* pp_future_kill */
active proctype parent()
{
	mtype first, second;

	atomic { word[0].state = READY; word[0].owner = NONE; word[1].state = READY; word[1].owner = NONE;
	         cur[0] = NONE; cur[1] = NONE };
	asked = true;
#ifndef MUTANT_SIGNAL_BEFORE_STOPPING
	do
	:: atomic { IS_END(word[0].state) -> break }
	:: atomic { word[0].state == RUNNING -> word[0].state = STOP_KILL; break }
	:: atomic { word[0].state == READY || word[0].state == CLAIMED || word[0].state == STOP_REQUEUE ->
	            word[0].state = CANCELLED; break }
	od;
#endif
	atomic { IS_END(word[0].state) && IS_END(word[1].state) -> first = word[0].state; second = word[1].state };
	assert(accident || second == DONE);
	assert(accident || first != DIED);
	assert(first != CANCELLED || runs[0] == 0);
	/* Nothing that is still under way changes an end. */
	atomic { timeout -> assert(word[0].state == first && word[1].state == second) }
}
