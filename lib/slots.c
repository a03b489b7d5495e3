/* SPDX-License-Identifier: MIT */
/*
 * The parent's books of slots. They are added by slabs, and never given up before the executor. A slot goes round:
 * taken by submit; recycled, when its last reference is gone and its end was announced, to the free ones (free_slots.h). One
 * that has room to give back goes there by way of a stack, which is emptied under the submit lock; if its owner died with
 * it, and is not confirmed dead yet, it waits in limbo: a dying process may still write.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "policy.h"
#include "slots.h"
#include "units.h"

pp_future *pp__future_at(const pp_executor *ex, uint32_t slot)
{
	if (slot >= atomic_load(&ex->slots))
		return NULL;
	return pp__future_of(ex, slot);
}

static int __attribute__((noinline)) grow(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	const struct pp__header *h = shared->header;
	uint32_t first = atomic_load(&ex->slots);
	struct pp__slab *slab;
	int rc;

	if (first + PP__SLAB > h->max_slots)
		return -ENOMEM;
	rc = pp__memory_commit(&ex->segment, h->descs + first * sizeof *shared->descs, PP__SLAB * sizeof *shared->descs);
	if (rc == 0)
		rc = pp__memory_commit(&ex->segment, h->cells + first * sizeof *shared->cells,
		                       PP__SLAB * sizeof *shared->cells);
	if (rc == 0)
		rc = pp__memory_commit(&ex->segment, h->timed + first / 8, PP__SLAB / 8);
	if (rc == 0 && ex->flags & PP_ACCOUNTING)
		rc = pp__memory_commit(&ex->segment, h->usages + first * sizeof *shared->usages,
		                       PP__SLAB * sizeof *shared->usages);
	if (rc < 0)
		return rc;
	slab = mmap(NULL, sizeof *slab, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (slab == MAP_FAILED)
		return -ENOMEM;
	for (uint32_t i = PP__SLAB; i-- > 0; ) {
		struct pp__cell *cell = shared->cells + first + i;
		pp_future *future = &slab->futures[i];
		*future = (pp_future){ .executor = ex, .slot = first + i,
		                       .check = pp__word_make(h, first + i, 0, PP__FREE) };
		atomic_store_explicit(&cell->wake.token, 0, memory_order_relaxed);
		atomic_store_explicit(&cell->word, future->check, memory_order_relaxed);
	}
	ex->slabs[first / PP__SLAB] = slab;
	atomic_store(&ex->slots, first + PP__SLAB);
	for (uint32_t i = PP__SLAB; i-- > 0; )
		pp__free_slots_put(ex, &slab->futures[i]);
	atomic_store(&shared->header->slots, first + PP__SLAB);
	return 0;
}

/* An owner that does not exist may have been forged: it would die for ever. So would one whose line says so when no process
 * is left that could clear it. */
static bool is_dying(const pp_executor *ex, uint64_t word)
{
	uint32_t worker = pp__word_worker(word);
	enum pp__state state = pp__word_state(word);
	const struct pp__worker *line = ex->segment.shared.workers + worker;

	if (state < PP__DIED || state > PP__MEMORY || atomic_load_explicit(&ex->deserted, memory_order_relaxed))
		return false;
	return worker < ex->segment.shared.header->entries && atomic_load(&line->pid)
	       && (atomic_load(&line->incarnation) & PP__INCARNATION_MASK) == pp__word_incarnation(word);
}

/* The run of units that is noted there. */
static void release_run(const pp_future *future, _Atomic uint64_t *note)
{
	pp_executor *ex = future->executor;
	uint64_t claim = atomic_load(note);

	if (!claim)
		return;
	pp__units_release(&ex->segment.shared, future->slot, future->generation, claim);
	pp__units_freed(&ex->segment.shared, &ex->results, claim, ex->segment.warm_max);
	atomic_store(note, 0);
}

static void release_units(pp_future *future)
{
	struct pp__cell *cell = pp__cell_of(future);

	release_run(future, &cell->claim);
	if (future->chunk)
		release_run(future, &cell->overflow);
}

static void release_argument(pp_executor *ex, pp_future *future)
{
	struct pp__desc *desc = ex->segment.shared.descs + future->slot;
	struct pp__extra *extra = pp__extra_of(future);

	if (!desc->offset)
		return;
	if (extra->block)
		pp__block_drop(extra->block);
	else
		pp__arguments_give(&ex->arguments, &ex->segment, extra->place);
	extra->block = NULL;
	desc->offset = 0;
}

/* The last step in this generation. The word stands as it ended, and is of no meaning to the next: writing it here would
 * fetch its line back from the worker once more. */
static void make_free(pp_future *future)
{
	atomic_store_explicit(&future->generation, future->generation + 1, memory_order_release);
}

/* Gives room of argument and result back first. */
static void reset(pp_executor *ex, pp_future *future, uint64_t word)
{
	enum pp__state state = pp__word_state(word);
	bool had_policy = ex->segment.shared.descs[future->slot].policy;         /* an attempt that failed may have left room */

	release_argument(ex, future);
	pp__policy_release(ex, future);
	if ((state != PP__DONE && state != PP__CANCELLED && state != PP__READY) || had_policy || future->keeps)
		release_units(future);
	future->keeps = false;
	make_free(future);
	pp__free_slots_put(ex, future);
	ex->taken--;
}

static void harvest_once(pp_executor *ex)
{
	uint32_t returned = atomic_exchange(&ex->returned, 0), limbo = ex->limbo, next;

	ex->limbo = 0;
	atomic_store_explicit(&ex->holds_room, false, memory_order_relaxed);
	for (int list = 0; list < 2; list++) {
		for (uint32_t at = list ? limbo : returned; at; at = next) {
			pp_future *future = pp__future_at(ex, at - 1);
			uint64_t word = pp__slot_look(pp__cell_of(future));
			bool dying = is_dying(ex, word);
			next = future->next_free;
			if (!dying && !atomic_load_explicit(&pp__extra_of(future)->passed, memory_order_acquire)) {
				reset(ex, future, word);
				continue;
			}
			future->next_free = ex->limbo;
			ex->limbo = at;
			if (dying)       /* else the last block that goes will say so */
				atomic_store_explicit(&ex->holds_room, true, memory_order_relaxed);
		}
	}
}

/* A slot that is reset may give up the last block that kept another one. */
void pp__slots_harvest(pp_executor *ex)
{
	do {
		ex->unpassed = false;
		harvest_once(ex);
	} while (ex->unpassed);
}

uint64_t pp__slots_in_use(const pp_executor *ex)
{
	return ex->taken - pp__free_slots_pushed(ex);
}

/* New ones before the last that others have. */
int pp__slots_refill(pp_executor *ex, struct pp__free_slots *own)
{
	int rc;

	if (pp__free_slots_refill(ex, own, PP__FREE_FEW))
		return 0;
	rc = grow(ex);
	return rc == 0 || pp__free_slots_refill(ex, own, 1) ? 0 : rc;
}

void pp__slot_give_back(pp_future *future)
{
	release_argument(future->executor, future);
	pp__policy_release(future->executor, future);
	atomic_store_explicit(&future->in_use, false, memory_order_relaxed);
	future->executor->taken--;
	pp__free_slots_put(future->executor, future);
}

/* Of its end nothing is left but the word: no place, no room, no death, no block. */
static bool is_plain(const pp_future *future, uint64_t word, const struct pp__cell *cell)
{
	return atomic_load_explicit(&future->plain, memory_order_acquire)
	       && (pp__word_state(word) == PP__CANCELLED
	           || (pp__word_state(word) == PP__DONE && cell->size <= PP__EXTENSION));
}

static inline void push_freed(pp_executor *ex, pp_future *future)
{
	struct pp__free_slots *own = pp__free_slots_own(ex->free_slots);
	uint64_t below = atomic_load_explicit(&own->freed, memory_order_relaxed), next;

	make_free(future);
	if ((uint32_t)below && future->slot - (uint32_t)below + 2u > 2u)
		atomic_fetch_add_explicit(&own->breaks, 1, memory_order_relaxed);
	do {
		future->next_free = (uint32_t)below;
		next = ((below >> 32) + 1) << 32 | (future->slot + 1);
	} while (!atomic_compare_exchange_weak(&own->freed, &below, next));
}

/* Results of the living go back now: workers may need the room before the next submit comes. */
static void push_returned(pp_executor *ex, pp_future *future, uint64_t word, const struct pp__cell *cell)
{
	enum pp__state state = pp__word_state(word);
	uint32_t below = atomic_load(&ex->returned);
	bool awaited = atomic_load(&ex->room_waiters) != 0;      /* then the executor cannot go meanwhile */

	if (state != PP__CANCELLED && (state != PP__DONE || cell->size > PP__EXTENSION) && !is_dying(ex, word)) {
		if (atomic_load_explicit(&pp__extra_of(future)->passed, memory_order_acquire))
			future->keeps = true;
		else
			release_units(future);
	}
	atomic_store_explicit(&ex->holds_room, true, memory_order_relaxed);
	do
		future->next_free = below;
	while (!atomic_compare_exchange_weak(&ex->returned, &below, future->slot + 1));
	if (awaited)
		pp__room_tell(ex);
}

static void __attribute__((noinline)) recycle_any(pp_executor *ex, pp_future *future)
{
	struct pp__cell *cell = pp__cell_of(future);
	uint64_t word = pp__slot_look(cell);

	if (!future->neat && pp__is_boxed(future))
		pp__box_clear(pp__box_place(future));
	atomic_store_explicit(&future->boxed, PP__UNBOXED, memory_order_relaxed);
	/* From here on its word decides nothing: one that was overwritten may look as if it had not ended. */
	atomic_store_explicit(&future->in_use, false, memory_order_relaxed);
	if (is_plain(future, word, cell))
		push_freed(ex, future);
	else
		push_returned(ex, future, word, cell);
}

void pp__future_recycle(pp_future *future)
{
	pp_executor *ex = future->executor;

	/* What was read was plain, and still is: the cell is not looked at again. */
	if (future->neat && pp__is_boxed(future) && atomic_load_explicit(&future->plain, memory_order_acquire)) {
		atomic_store_explicit(&future->boxed, PP__UNBOXED, memory_order_relaxed);
		atomic_store_explicit(&future->in_use, false, memory_order_relaxed);
		push_freed(ex, future);
	} else {
		recycle_any(ex, future);
	}
	if (atomic_load(&pp__orphans))
		pp__orphan_visit(ex);
}
