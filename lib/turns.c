/* SPDX-License-Identifier: MIT */
#include "turns.h"
#include "spin.h"
#include "sysdep.h"

#define TURN_NS     INT64_C(1000000)
#define FIRST_NS    INT64_C(50000)       /* of standing back; then four times as long each time */
#define LOOKS       100
#define SLOW_NS     INT64_C(4000)        /* from one time that it is taken to the next: there is room for another */

void pp__turns_init(struct pp__turns *turns)
{
	pthread_cond_init(&turns->next, NULL);
}

void pp__turns_destroy(struct pp__turns *turns)
{
	pthread_cond_destroy(&turns->next);
}

/* Until it is nobody's turn any more, or those who did not stand back have gone away without a word. */
static void stand_back(struct pp__turns *t, pthread_mutex_t *lock, int64_t now)
{
	int64_t before, most, pause = FIRST_NS;
	uint64_t seen;

	atomic_fetch_add(&t->waiting, 1);
	do {
		before = now;
		seen = t->taken;
		pp__cond_wait(&t->next, lock, before + pause);
		now = pp__now_ns();
		most = TURN_NS * atomic_load(&t->waiting);
		pause = 4 * pause < most ? 4 * pause : most;
	} while (now < t->until_ns && (int64_t)(t->taken - seen) >= (now - before) / SLOW_NS);
	atomic_fetch_sub(&t->waiting, 1);
	t->newest = pthread_self();
	t->until_ns = now + TURN_NS;
	t->found_taken = 0;
}

/* It is held for 50 ns at a time: who meets another there sleeps only if that one does not leave. */
static void look_a_while(pthread_mutex_t *lock)
{
	for (int i = 0; i < LOOKS; i++) {
		if (pthread_mutex_trylock(lock) == 0)
			return;
		pp__spin_pause();
	}
	pthread_mutex_lock(lock);
}

void pp__turns_lock(struct pp__turns *t, pthread_mutex_t *lock)
{
	int64_t now = pp__now_ns();

	look_a_while(lock);
	if (t->taken - t->since >= PP__TURNS_WINDOW || now - t->since_ns > PP__TURNS_WINDOW * SLOW_NS) {
		t->since = t->taken;
		t->since_ns = now;
		t->found_taken = 0;
	}
	if (++t->found_taken >= PP__TURNS_CROWD && !(t->until_ns && pthread_equal(t->newest, pthread_self())))
		stand_back(t, lock, now);
}

void pp__turns_let_in(struct pp__turns *t)
{
	t->until_ns = 0;
	pthread_cond_signal(&t->next);
}

void pp__turns_leave_early(struct pp__turns *t, pthread_mutex_t *lock)
{
	pthread_mutex_lock(lock);
	if (t->until_ns && pthread_equal(t->newest, pthread_self()))
		pp__turns_let_in(t);
	pthread_mutex_unlock(lock);
}
