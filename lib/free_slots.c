/* SPDX-License-Identifier: MIT */
#include "free_slots.h"
#include <stdlib.h>
#include "pool.h"

#define SOME        64u                  /* go from one list to another at once */
#define SOME_BREAKS 64u                  /* fewer are not worth a look at all that came back */

_Thread_local uint32_t pp__own_lists __attribute__((tls_model("initial-exec")));

/* In the order in which threads first come here. */
uint32_t pp__own_lists_choose(void)
{
	static _Atomic uint32_t threads;
	uint32_t index = atomic_fetch_add(&threads, 1) % PP__FREE_LISTS;

	pp__own_lists = index + 1;
	return index;
}

static pp_future *future_at(const pp_executor *ex, uint32_t slot)
{
	return &ex->slabs[slot / PP__SLAB]->futures[slot % PP__SLAB];
}

static void put(pp_executor *ex, struct pp__free_slots *own, uint32_t slot)
{
	future_at(ex, slot)->next_free = own->list;
	own->list = slot + 1;
}

void pp__free_slots_put(pp_executor *ex, pp_future *future)
{
	put(ex, &ex->free_slots[pp__own_lists_index()], future->slot);
}

uint64_t pp__free_slots_pushed(const pp_executor *ex)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < PP__FREE_LISTS; i++)
		n += atomic_load(&ex->free_slots[i].freed) >> 32;
	return n;
}

void pp__free_slots_push(pp_executor *ex, pp_future *future)
{
	struct pp__free_slots *own = &ex->free_slots[pp__own_lists_index()];
	uint64_t below = atomic_load_explicit(&own->freed, memory_order_relaxed), next;

	if (future->slot - (uint32_t)below + 2u > 2u)
		atomic_fetch_add_explicit(&own->breaks, 1, memory_order_relaxed);
	do {
		future->next_free = (uint32_t)below;
		next = ((below >> 32) + 1) << 32 | (future->slot + 1);
	} while (!atomic_compare_exchange_weak(&own->freed, &below, next));
}

/* The list in the order of its slots; as it is, where there is no memory for that. */
static void sort(pp_executor *ex, struct pp__free_slots *own)
{
	uint32_t words = (atomic_load(&ex->slots) + 63) / 64;
	uint64_t *map = calloc(words, sizeof *map);

	if (!map)
		return;
	for (uint32_t at = own->list; at; at = future_at(ex, at - 1)->next_free)
		map[(at - 1) / 64] |= UINT64_C(1) << (at - 1) % 64;
	own->list = 0;
	while (words-- > 0)
		while (map[words]) {
			uint32_t bit = 63 - (uint32_t)__builtin_clzll(map[words]);
			map[words] &= ~(UINT64_C(1) << bit);
			put(ex, own, words * 64 + bit);
		}
	free(map);
}

/*
 * The whole stack becomes the list. Where tasks end in any order, slots come back in any order; left so, each submit
 * and result would meet lines that nobody can fetch ahead, ever after.
 */
static void take_pushed(pp_executor *ex, struct pp__free_slots *own, struct pp__free_slots *from)
{
	uint64_t freed = atomic_exchange(&from->freed, 0);
	uint32_t breaks = atomic_exchange(&from->breaks, 0);

	own->list = (uint32_t)freed;
	ex->taken -= freed >> 32;
	if (breaks > SOME_BREAKS && breaks > (freed >> 32) / 16)
		sort(ex, own);
}

static void take_some(const pp_executor *ex, struct pp__free_slots *own, struct pp__free_slots *from)
{
	pp_future *last = future_at(ex, from->list - 1);

	own->list = from->list;
	for (uint32_t n = 1; n < SOME && last->next_free; n++)
		last = future_at(ex, last->next_free - 1);
	from->list = last->next_free;
	last->next_free = 0;
}

static void __attribute__((noinline)) take_from_others(pp_executor *ex, struct pp__free_slots *own, uint32_t least)
{
	struct pp__free_slots *lists = ex->free_slots;

	for (uint32_t i = 0; !own->list && i < PP__FREE_LISTS; i++)
		if (lists[i].list)
			take_some(ex, own, &lists[i]);
	for (uint32_t i = 0; !own->list && i < PP__FREE_LISTS; i++)
		if (atomic_load_explicit(&lists[i].freed, memory_order_relaxed) >> 32 >= least)
			take_pushed(ex, own, &lists[i]);
}

/* The next submit will write all three; by then they are here. */
static void prefetch(const pp_executor *ex, uint32_t slot)
{
	__builtin_prefetch(future_at(ex, slot), 1);
	__builtin_prefetch(ex->segment.shared.cells + slot, 1);
	__builtin_prefetch(ex->segment.shared.descs + slot, 1);
}

pp_future *pp__free_slots_take(pp_executor *ex, uint32_t least)
{
	struct pp__free_slots *own = &ex->free_slots[pp__own_lists_index()];
	pp_future *future;

	if (!own->list && atomic_load_explicit(&own->freed, memory_order_relaxed))
		take_pushed(ex, own, own);
	if (!own->list)
		take_from_others(ex, own, least);
	if (!own->list)
		return NULL;
	future = future_at(ex, own->list - 1);
	own->list = future->next_free;
	if (own->list)
		prefetch(ex, own->list - 1);
	return future;
}
