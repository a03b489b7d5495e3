/* SPDX-License-Identifier: MIT */
/*
 * Threads that want one lock all the time take turns. Where they mix, its lines and those of what it guards go to and
 * fro between their CPUs at each of their steps, and all of them together do less than one of them would. So while one in
 * four finds the lock taken, whoever finds it so stands back, asleep, until the rest no longer fill it. Each millisecond
 * one of them is let in again, and for as long is not the one that stands back. Threads that meet at times, or at a pace
 * that leaves the lock free for most of the time, only wait for it.
 *
 * Nobody is forgotten: who stands back looks by itself, ever less often, whether the lock is still in use at a pace that
 * leaves it no room.
 */
#ifndef PP_LIB_TURNS_H
#define PP_LIB_TURNS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define PP__TURNS_WINDOW 64u     /* times that the lock is taken, */
#define PP__TURNS_CROWD  16u     /* so many of which, found taken, show that it is never free for long */

/* Guarded by the lock that it is for. */
struct pp__turns {
	_Atomic uint32_t waiting;        /* threads that stand back */
	uint32_t         found_taken;    /* how often the lock was, */
	uint64_t         since;          /* from when it had been taken so many times, */
	uint64_t         taken;          /* up to now, when it is so many; */
	int64_t          since_ns;       /* and from when on the clock */
	int64_t          until_ns;       /* end of the turn of the thread let in last; 0: nobody's */
	pthread_t        newest;         /* that thread */
	pthread_cond_t   next;           /* one of those that stand back is to come in */
};

void pp__turns_init(struct pp__turns *turns);
void pp__turns_destroy(struct pp__turns *turns);

/* In place of pthread_mutex_lock, by who has found the lock taken; returns with it, perhaps after some milliseconds for each
 * thread that wants it all the time. */
void pp__turns_lock(struct pp__turns *turns, pthread_mutex_t *lock);
void pp__turns_let_in(struct pp__turns *turns);
void pp__turns_leave_early(struct pp__turns *turns, pthread_mutex_t *lock);

/* With the lock held, each time that it was taken for what it is there for. */
static inline void pp__turns_count(struct pp__turns *turns, int64_t now)
{
	turns->taken++;
	if (atomic_load_explicit(&turns->waiting, memory_order_relaxed) && turns->until_ns && now >= turns->until_ns)
		pp__turns_let_in(turns);
}

/* Without the lock, by who is about to wait for something else: its turn is over. */
static inline void pp__turns_leave(struct pp__turns *turns, pthread_mutex_t *lock)
{
	if (atomic_load_explicit(&turns->waiting, memory_order_relaxed))
		pp__turns_leave_early(turns, lock);
}

#endif
