/* SPDX-License-Identifier: MIT */
/*
 * Promotion of the spare: worker/promote.c, and of the supervisor bury (worker/bury.c), seat_the_lost, promote and
 * start_one (worker/spawn.c).
 *
 * Two seats, four entries, DEATHS. A worker crashes with its handler running, which hands its seat on, or is killed
 * before any step; the supervisor looks around after each death, and at any other time once more. Claims:
 *
 *   no two workers that can run tasks have one seat;
 *   when nothing moves any more, every seat has a worker that is awake, and no worker without a seat is forgotten.
 */
#ifndef DEATHS
#define DEATHS 2
#endif
#define SEATS 2
#define E 4
#ifndef ENTRIES
#define ENTRIES E                        /* 3: one is taken for ever, by a worker that did not die of its SIGKILL */
#endif
#define me _pid
#define NO_SEAT 255

byte spare;                              /* entry + 1 */
byte seat[E];
bool used[E], token[E];                  /* there is a process, reaped or not; its semaphore */
bool runs[E];                            /* it has seen its seat, and can run tasks */
bool crashed[E], killed[E], gone[E];
byte deaths = DEATHS, looks = 1;

#define SAME(a, b) (runs[a] && runs[b] && seat[a] == seat[b])

inline promote_spare() {
	atomic { at = spare; spare = 0 };
	if
	:: at == 0
	:: else ->
#ifdef MUTANT_SEAT_LEFT_BEFORE_GIVEN
		atomic { mine = seat[me]; seat[me] = NO_SEAT };
		seat[at - 1] = mine;
		token[at - 1] = true
#else
		atomic { mine = seat[me]; given = (seat[at - 1] == NO_SEAT); if :: given -> seat[at - 1] = mine :: else fi };
		if
		:: given -> seat[me] = NO_SEAT; token[at - 1] = true
		:: else                          /* the supervisor has seated it elsewhere */
		fi
#endif
	fi
}

active [E] proctype worker()
{
	byte at, mine;
	bool given;

end_born: {
		atomic { used[me] && !gone[me] };
		do
		:: atomic { seat[me] != NO_SEAT -> runs[me] = true; break }
		:: atomic { seat[me] == NO_SEAT };
end_spare:		atomic { token[me] -> token[me] = false }
		od;
end_work:	atomic { crashed[me] -> runs[me] = false };
		promote_spare()
	} unless { atomic { killed[me] -> runs[me] = false } };
	gone[me] = true;
end_dead:
	atomic { !gone[me] -> at = 0; mine = 0; given = false };
	goto end_born
}

#define CRASH(i) atomic { deaths > 0 && runs[i] && !crashed[i] && !killed[i] -> deaths--; crashed[i] = true }
#define KILL(i)  atomic { deaths > 0 && used[i] && !gone[i] && !killed[i] -> deaths--; killed[i] = true }

active proctype fate()
{
end_fate:
	do
	:: CRASH(0) :: CRASH(1) :: CRASH(2) :: CRASH(3)
	:: KILL(0) :: KILL(1) :: KILL(2) :: KILL(3)
	od
}

/* One look at one entry each, as in the code: what is counted may have changed when it is used. */
inline count_seated() {
	atomic { i = 0; n = 0; taken0 = false; taken1 = false };
	do
	:: atomic { i < E ->
			if
			:: used[i] && seat[i] != NO_SEAT ->
				n++; taken0 = (taken0 || seat[i] == 0); taken1 = (taken1 || seat[i] == 1)
			:: else
			fi;
			i++ }
	:: atomic { i == E -> i = 0; break }
	od
}

inline start(s) {
	atomic {
		do
		:: i < ENTRIES && used[i] -> i++
		:: else -> break
		od
	};
	if
	:: i < ENTRIES ->
		atomic { token[i] = false; crashed[i] = false; seat[i] = s; used[i] = true };
		if :: s == NO_SEAT -> spare = i + 1 :: else fi
	:: else -> at = NO_SEAT          /* no entry: the next death makes room */
	fi;
	i = 0
}

inline seat_the_lost() {
	at = spare;
	do
	:: i < E ->
		if
		:: atomic { used[i] && !gone[i] && !crashed[i] && i + 1 != at && seat[i] == NO_SEAT } -> spare = i + 1; break
		:: else
		fi;
		i++
	:: else -> break
	od;
	atomic { i = 0; at = 0 }
}

#define FREE_SEAT (taken0 -> 1 : 0)

inline spawn_wanted() {
#ifndef MUTANT_LOST_SPARE_FORGOTTEN
	seat_the_lost();
#endif
	do
	:: count_seated();
		if
		:: n >= SEATS || (taken0 && taken1) -> break
		:: else
		fi;
#ifndef MUTANT_SEATS_LOOKED_AT_ONCE
		free = FREE_SEAT;
		count_seated();
		if
		:: (taken0 && taken1) || free != FREE_SEAT -> break
		:: else
		fi;
		free = 0;
#endif
		atomic { at = spare; spare = 0 };
		if
		:: at && used[at - 1] && !gone[at - 1] ->
#ifdef MUTANT_SEAT_LEFT_BEFORE_GIVEN
			seat[at - 1] = FREE_SEAT; token[at - 1] = true
#else
			atomic {
				if
				:: seat[at - 1] == NO_SEAT -> seat[at - 1] = FREE_SEAT; token[at - 1] = true
				:: else
				fi
			}
#endif
		:: else ->
			at = 0;
			start(FREE_SEAT);
			if :: at == NO_SEAT -> break :: else fi
		fi
	od;
#ifndef MUTANT_SEAT_LEFT_BEFORE_GIVEN
	at = spare;
	atomic { if :: at && seat[at - 1] != NO_SEAT && spare == at -> spare = 0 :: else fi };
#endif
	if
	:: spare == 0 -> start(NO_SEAT)
	:: else
	fi;
	atomic { at = 0; n = 0; free = 0; taken0 = false; taken1 = false }
}

#define SOME_GONE (gone[0] || gone[1] || gone[2] || gone[3])

active proctype supervisor()
{
	byte dead, i, at, n, free;
	bool taken0, taken1;

	spawn_wanted();
end_watch:
	do
	:: atomic { SOME_GONE -> dead = (gone[0] -> 0 : (gone[1] -> 1 : (gone[2] -> 2 : 3))) };
		atomic { if :: spare == dead + 1 -> spare = 0 :: else fi };
		atomic { used[dead] = false; killed[dead] = false; crashed[dead] = false; gone[dead] = false; dead = 0 };
#ifndef MUTANT_NO_WAKE_AFTER_DEATH
		do
		:: i < E -> if :: used[i] -> token[i] = true :: else fi; i++
		:: else -> i = 0; break
		od;
#endif
		spawn_wanted()
	:: atomic { looks > 0 -> looks-- }; spawn_wanted()
	od
}

#define HAS(s) ((runs[0] && seat[0] == s) || (runs[1] && seat[1] == s) || (runs[2] && seat[2] == s) || (runs[3] && seat[3] == s))
#define LOST(i) (used[i] && seat[i] == NO_SEAT && spare != i + 1)

active proctype observer()
{
end_observer:
	do
	:: atomic { SAME(0, 1) || SAME(0, 2) || SAME(0, 3) || SAME(1, 2) || SAME(1, 3) || SAME(2, 3) -> assert(false) }
	:: atomic { timeout ->
			assert(HAS(0) && HAS(1));
			/* When a promoter dies half-way there may be one spare more than the word says: the next free seat
			 * is for it. */
			assert(spare != 0 || (!LOST(0) && !LOST(1) && !LOST(2) && !LOST(3)));
			break }
	od
}
