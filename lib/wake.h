/* SPDX-License-Identifier: MIT */
/*
 * Who sleeps, and who wakes whom. Semaphores are hints: a token given to a worker that dies is gone, so everybody looks
 * before sleeping, and the supervisor wakes again on any death.
 *
 * Throttle: whoever makes work ready wakes one sleeper, and only if none that was woken before is still searching. The
 * woken one stops searching at its first claim and wakes one more if there is more. Waking whoever sleeps, whenever
 * something is ready, is 200 times slower with 64 workers.
 *
 *   waker:    makes work ready; fence; reads searching and sleepers
 *   sleeper:  leaves searching, sets its bit; fence; looks for work; sleeps
 */
#ifndef PP_LIB_WAKE_H
#define PP_LIB_WAKE_H

#include <stdbool.h>
#include "layout.h"

/* After making work ready: wakes one worker if that is needed. Returns false when nobody sleeps or is searching. */
bool pp__wake_one(const struct pp__shared *shared);
/* The same for whoever does so for every task: while all are awake, a fence and a look. */
static inline void pp__wake_one_asleep(const struct pp__shared *shared)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (shared->header->entries > 64 || atomic_load_explicit(&shared->control->sleepers[0], memory_order_relaxed))
		pp__wake_one(shared);
}

/* Posts the worker's semaphore whatever it does. */
void pp__wake_worker(const struct pp__shared *shared, uint32_t entry);
void pp__wake_all(const struct pp__shared *shared);
/* Whether it has a task at hand. One that has published its end counts as free at once. */
bool pp__worker_is_busy(const struct pp__shared *shared, uint32_t entry);

void pp__sleepers_enter(const struct pp__shared *shared, uint32_t entry);
void pp__sleepers_leave(const struct pp__shared *shared, uint32_t entry);
/* true: it was in the map until now. false: somebody has taken it out, and wakes it. */
bool pp__sleepers_take(const struct pp__shared *shared, uint32_t entry);
bool pp__sleepers_any(const struct pp__shared *shared);
/* Before waiting for a task: workers that let some gather look at once. */
static inline void pp__end_gathering(const struct pp__shared *shared)
{
	if (atomic_load_explicit(&shared->control->gathering, memory_order_relaxed))
		atomic_store_explicit(&shared->control->gathering, 0, memory_order_relaxed);
}
/* Takes the place of the one that searches, if it is free. */
bool pp__searching_begin(const struct pp__shared *shared, uint32_t entry);
/* The worker has claimed, found nothing, or died: another may be woken. true: it was the one. */
bool pp__searching_end(const struct pp__shared *shared, uint32_t entry);

/* Pushes a slot that has ended on the completion stack. Each DONE word with PP__WANT_PUSH is pushed once. */
void pp__done_push(const struct pp__shared *shared, uint32_t slot);
/* Rings for whoever asked to hear of pushes. */
void pp__done_ring(const struct pp__shared *shared);
/* All of the above for a word that has just become an end, by its ender. */
void pp__announce_end(const struct pp__shared *shared, uint32_t slot, uint64_t word);

/* Asks the supervisor to look around. Its signal is one that other processes ignore by default, should the number of
 * a dead supervisor have passed to one of them. */
void pp__nudge_supervisor(const struct pp__shared *shared);

#endif
