/* SPDX-License-Identifier: MIT */
/*
 * The parent's books of slots. They are added by chunks, and never given up before the executor. A slot goes round:
 * taken by submit; recycled, when its last reference is gone and its end was announced, onto a stack that any thread may
 * push; from there, under the submit lock, to the free list. If its owner died with it, and is not confirmed dead yet,
 * it waits in limbo: a dying process may still write.
 */
#include <errno.h>
#include <stdlib.h>
#include "pool.h"
#include "units.h"

pp_future *pp__future_at(const pp_executor *ex, uint32_t slot)
{
	if (slot >= atomic_load(&ex->slots))
		return NULL;
	return &ex->chunks[slot / PP__CHUNK][slot % PP__CHUNK];
}

static void put_free(pp_executor *ex, pp_future *future)
{
	future->next_free = ex->free_slots;
	ex->free_slots = future->slot + 1;
}

static int grow(pp_executor *ex)
{
	const struct pp__shared *shared = &ex->segment.shared;
	const struct pp__header *h = shared->header;
	uint32_t first = atomic_load(&ex->slots);
	pp_future *chunk;
	int rc;

	if (first + PP__CHUNK > h->max_slots)
		return -ENOMEM;
	rc = pp__memory_commit(&ex->segment, h->descs + first * sizeof *shared->descs, PP__CHUNK * sizeof *shared->descs);
	if (rc == 0)
		rc = pp__memory_commit(&ex->segment, h->cells + first * sizeof *shared->cells,
		                       PP__CHUNK * sizeof *shared->cells);
	if (rc < 0)
		return rc;
	chunk = calloc(PP__CHUNK, sizeof *chunk);
	if (!chunk)
		return -ENOMEM;
	for (uint32_t i = PP__CHUNK; i-- > 0; ) {
		struct pp__cell *cell = shared->cells + first + i;
		/* A zeroed sem_t is private to a process and loses wakes without a word. */
		sem_init(&cell->wake, 1, 0);
		atomic_store(&cell->word, pp__word_make(h, first + i, 0, PP__FREE));
		chunk[i].executor = ex;
		chunk[i].slot = first + i;
		put_free(ex, &chunk[i]);
	}
	ex->chunks[first / PP__CHUNK] = chunk;
	atomic_store(&ex->slots, first + PP__CHUNK);
	return 0;
}

static bool is_dying(const pp_executor *ex, uint64_t word)
{
	uint32_t worker = pp__word_worker(word);
	enum pp__state state = pp__word_state(word);

	if (state != PP__DIED && state != PP__KILLED)
		return false;
	return worker < ex->segment.shared.header->entries
	       && (atomic_load(&ex->segment.shared.workers[worker].incarnation) & PP__INCARNATION_MASK)
	          == pp__word_incarnation(word);
}

static void release_units(pp_future *future)
{
	struct pp__cell *cell = pp__cell_of(future);
	uint64_t claim = atomic_load(&cell->claim);

	if (claim)
		pp__units_release(&future->executor->segment.shared, future->slot, future->generation, claim);
	atomic_store(&cell->claim, 0);
}

/* The last step in this generation: room of argument and result, then the word. */
static void reset(pp_executor *ex, pp_future *future, uint64_t word)
{
	struct pp__desc *desc = ex->segment.shared.descs + future->slot;
	enum pp__state state = pp__word_state(word);

	if (desc->offset)
		pp__arguments_give(&ex->arguments, &ex->segment, desc->offset,
		                   ((desc->size + 15) & ~UINT64_C(15)) + desc->name_size);
	desc->offset = 0;
	if (state != PP__DONE && state != PP__CANCELLED && state != PP__READY)
		release_units(future);
	future->in_use = false;
	future->generation++;
	pp__slot_free(pp__cell_of(future), pp__word_make(ex->segment.shared.header, future->slot, future->generation,
	                                                 PP__FREE));
	put_free(ex, future);
}

/* Takes the whole stack at once, so that no ABA can be. */
static void harvest(pp_executor *ex)
{
	uint32_t freed = atomic_exchange(&ex->freed, 0), limbo = ex->limbo, next;

	ex->limbo = 0;
	for (int list = 0; list < 2; list++) {
		for (uint32_t at = list ? limbo : freed; at; at = next) {
			pp_future *future = pp__future_at(ex, at - 1);
			uint64_t word = pp__slot_look(pp__cell_of(future));
			next = future->next_free;
			if (is_dying(ex, word)) {
				future->next_free = ex->limbo;
				ex->limbo = at;
			} else {
				reset(ex, future, word);
			}
		}
	}
}

pp_future *pp__slot_take(pp_executor *ex, int *error)
{
	pp_future *future;

	if (!ex->free_slots)
		harvest(ex);
	*error = ex->free_slots ? 0 : grow(ex);
	if (*error < 0)
		return NULL;
	future = pp__future_at(ex, ex->free_slots - 1);
	ex->free_slots = future->next_free;
	future->in_use = true;
	return future;
}

void pp__slot_give_back(pp_future *future)
{
	future->in_use = false;
	put_free(future->executor, future);
}

void pp__future_recycle(pp_future *future)
{
	pp_executor *ex = future->executor;
	struct pp__cell *cell = pp__cell_of(future);
	struct pp__box *box = atomic_exchange(&future->box, NULL);
	uint32_t below = atomic_load(&ex->freed);

	if (box)
		pp__box_free(box);
	/* Results of the living go back now: workers may need the room before the next submit comes. */
	if (pp__word_state(pp__slot_look(cell)) == PP__DONE && cell->size > PP__EXTENSION)
		release_units(future);
	do
		future->next_free = below;
	while (!atomic_compare_exchange_weak(&ex->freed, &below, future->slot + 1));
	pp__executor_release(ex);
}
