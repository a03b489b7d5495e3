/* SPDX-License-Identifier: MIT */
/*
 * Slots that are free, by the thread that gave them back: it takes the same ones again, one behind the other. So the
 * lines of its next tasks are neighbours of those of its last, whatever other threads do meanwhile; of one list for all,
 * each thread soon gets slots from everywhere, and with 32 Ki outstanding a task costs three times as much.
 *
 * A thread that has none takes some of another's list; or all that has come back to another, as where one thread
 * submits and another reads, if that is more than what comes and goes with each task.
 */
#ifndef PP_LIB_FREE_SLOTS_H
#define PP_LIB_FREE_SLOTS_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "layout.h"
#include "procpool.h"

#define PP__FREE_LISTS 16u       /* given to threads in turn, so some may share one */
#define PP__FREE_FEW   64u       /* of fewer that have come back to it no thread is robbed before new ones are made */

/* A thread's own. The stack is taken as a whole, under the submit lock, so no ABA can be. */
struct pp__free_slots {
	alignas(PP__LINE) _Atomic uint64_t freed;        /* stack that any thread may push: how many << 32 | slot + 1 */
	_Atomic uint32_t breaks;         /* how often one went there that is no neighbour of the one before */
	uint32_t         list;           /* slot + 1, and on by next_free; submit_lock */
};

/* Which are this thread's, plus one; 0: it has not asked yet. */
extern _Thread_local uint32_t pp__own_lists __attribute__((tls_model("initial-exec")));
uint32_t pp__own_lists_choose(void);

static inline struct pp__free_slots *pp__free_slots_own(struct pp__free_slots *all)
{
	return all + (pp__own_lists ? pp__own_lists - 1 : pp__own_lists_choose());
}

/* With the submit lock held. */
void pp__free_slots_put(pp_executor *executor, pp_future *future);
/* Fills own->list, which is empty. false: no thread has any but those to whom fewer than so many have come back. */
bool pp__free_slots_refill(pp_executor *executor, struct pp__free_slots *own, uint32_t least);
/* How many have been pushed, and not taken from there since. */
uint64_t pp__free_slots_pushed(const pp_executor *executor);

#endif
