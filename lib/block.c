/* SPDX-License-Identifier: MIT */
/*
 * Memory that the caller owns and tasks use without a copy. A block is a place in the parent's area, which workers have
 * mapped read-only from their start, or in the area of mutable blocks; or it is the result of a future. Such a
 * one keeps no future but its slot: the slot counts the blocks made of it and is not used again while there are any, so
 * that giving one up needs no lock but submit_lock, also where slots that are harvested give up their arguments.
 *
 * A block counts as a slot in use, so that the segment stays until the last one is gone, and the executor's books with it.
 */
#include <errno.h>
#include <stdlib.h>
#include "pool.h"

static struct pp__arguments *area_of(pp_block *block)
{
	return block->flags & PP_BLOCK_MUTABLE ? &block->executor->mutables : &block->executor->arguments;
}

static pp_block *usable(const pp_block *block)
{
	return block && pp__is_original_process() ? (pp_block *)(uintptr_t)block : NULL;
}

/* Where the pages of a mutable block are opened for its task alone, no other has a part of them. */
static bool has_own_pages(const pp_block *block)
{
	return block->executor->flags & PP_HARDENED && block->flags & PP_BLOCK_MUTABLE
	       && block->size <= SIZE_MAX - 2 * PP__PAGE;        /* a larger one fails anyway */
}

/* What it takes so that whole pages of it can be found in there. */
static uint64_t room_of(const pp_block *block)
{
	if (!has_own_pages(block))
		return block->size;
	return ((block->size + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1)) + PP__PAGE - PP__LINE;
}

/* A place for it, with submit_lock held. */
static int take_place(pp_block *block)
{
	pp_executor *ex = block->executor;
	int64_t offset;

	if (ex->closed)
		return -ESHUTDOWN;
	if (atomic_load(&ex->broken))
		return -EPIPE;
	if (atomic_load_explicit(&ex->holds_room, memory_order_relaxed))
		pp__slots_harvest(ex);
	offset = pp__room_take(ex, area_of(block), room_of(block), &block->place);
	if (offset < 0)
		return offset == PP__ROOM_IS_SHORT ? -EAGAIN : (int)offset;
	block->offset = (uint64_t)offset;
	if (has_own_pages(block))
		block->offset = (block->offset + PP__PAGE - 1) & ~(uint64_t)(PP__PAGE - 1);
	ex->taken++;
	return 0;
}

int pp_block_create(pp_executor *ex, size_t size, unsigned flags, pp_block **made)
{
	pp_block *block;
	int rc;

	if (made)
		*made = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || !made || flags & ~(unsigned)PP_BLOCK_MUTABLE)
		return -EINVAL;
	block = malloc(sizeof *block);
	if (!block)
		return -ENOMEM;
	*block = (pp_block){ .executor = ex, .size = size, .flags = flags, .refs = 1 };
	pthread_mutex_lock(&ex->submit_lock);
	rc = take_place(block);
	pthread_mutex_unlock(&ex->submit_lock);
	if (rc < 0) {
		free(block);
		return rc;
	}
	*made = block;
	return 0;
}

/* Where a result that has been read is in the segment. Those up to PP__RESULT_INLINE were copied out of their cell, and
 * the outcome of one that was copied out as a whole points to the copy. */
static uint64_t offset_of_result(pp_future *future, const pp_outcome *outcome)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	const struct pp__box *box = pp__box_of(future);
	const char *bytes = outcome->data;

	if (box->owned)
		bytes = (const char *)box->place;
	if (outcome->size <= PP__RESULT_INLINE)
		bytes = (const char *)shared->cells[future->slot].result;
	return (uint64_t)(bytes - shared->base);
}

int pp_future_block(pp_future *future, pp_block **made)
{
	const pp_outcome *outcome;
	pp_block *block;

	if (made)
		*made = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!future || !made || !pp__future_has_ended(future))
		return -EINVAL;
	outcome = pp__future_outcome(future);
	if (outcome && outcome->kind != PP_RETURNED)
		return -EINVAL;
	block = outcome ? malloc(sizeof *block) : NULL;
	if (!block)
		return -ENOMEM;
	*block = (pp_block){ .executor = future->executor, .source = future, .refs = 1, .size = outcome->size,
	                     .offset = offset_of_result(future, outcome) };
	if (block->offset >= future->executor->segment.shared.header->mutables)
		block->flags = PP_BLOCK_MUTABLE;
	atomic_store(&future->plain, false);
	atomic_fetch_add(&pp__extra_of(future)->passed, 1);
	*made = block;
	return 0;
}

void *pp_block_data(pp_block *block)
{
	return usable(block) ? block->executor->segment.shared.base + block->offset : NULL;
}

size_t pp_block_size(const pp_block *block)
{
	return usable(block) ? block->size : 0;
}

pp_block *pp_block_ref(pp_block *block)
{
	if (!usable(block))
		return NULL;
	atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
	return block;
}

/* submit_lock held. */
static void destroy(pp_block *block)
{
	pp_executor *ex = block->executor;

	if (block->source) {
		atomic_fetch_sub(&pp__extra_of(block->source)->passed, 1);
		ex->unpassed = true;
		atomic_store_explicit(&ex->holds_room, true, memory_order_relaxed);
	} else {
		pp__arguments_give(area_of(block), &ex->segment, block->place);
		ex->taken--;
	}
	free(block);
}

void pp__block_drop(pp_block *block)
{
	if (atomic_fetch_sub(&block->refs, 1) == 1)
		destroy(block);
}

/* The executor may be gone once its last block is: from then on only orphan_visit knows whether it is still there. */
void pp_block_free(pp_block *block)
{
	pp_executor *ex;
	bool awaited;

	if (!usable(block) || atomic_fetch_sub(&block->refs, 1) != 1)
		return;
	ex = block->executor;
	pthread_mutex_lock(&ex->submit_lock);
	destroy(block);
	awaited = atomic_load(&ex->room_waiters) != 0;
	pthread_mutex_unlock(&ex->submit_lock);
	if (awaited)
		pp__room_tell(ex);
	if (atomic_load(&pp__orphans))
		pp__orphan_visit(ex);
}

int pp_submit_block(pp_executor *ex, const pp_task_options *options, pp_fn *fn, pp_block *block, size_t offset,
                    size_t size, pp_future **future)
{
	struct pp__input in = { .block = block, .size = size, .offset = offset };
	bool good = block && block->executor == ex && offset <= block->size && size <= block->size - offset;

	return pp__submit(ex, options, fn, good ? &in : NULL, future);
}
