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

static void put(pp_executor *ex, struct pp__free_slots *own, uint32_t slot)
{
	pp__future_of(ex, slot)->next_free = own->list;
	own->list = slot + 1;
}

void pp__free_slots_put(pp_executor *ex, pp_future *future)
{
	put(ex, pp__free_slots_own(ex->free_slots), future->slot);
}

uint64_t pp__free_slots_pushed(const pp_executor *ex)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < PP__FREE_LISTS; i++)
		n += atomic_load(&ex->free_slots[i].freed) >> 32;
	return n;
}

/* The list in the order of its slots; as it is, where there is no memory for that. */
static void sort(pp_executor *ex, struct pp__free_slots *own)
{
	uint32_t words = (atomic_load(&ex->slots) + 63) / 64;
	uint64_t *map = calloc(words, sizeof *map);

	if (!map)
		return;
	for (uint32_t at = own->list; at; at = pp__future_of(ex, at - 1)->next_free)
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
	uint32_t breaks = atomic_load_explicit(&from->breaks, memory_order_relaxed);

	own->list = (uint32_t)freed;
	ex->taken -= freed >> 32;
	if (breaks)
		atomic_store_explicit(&from->breaks, 0, memory_order_relaxed);
	if (breaks > SOME_BREAKS && breaks > (freed >> 32) / 16)
		sort(ex, own);
}

static void take_some(const pp_executor *ex, struct pp__free_slots *own, struct pp__free_slots *from)
{
	pp_future *last = pp__future_of(ex, from->list - 1);

	own->list = from->list;
	for (uint32_t n = 1; n < SOME && last->next_free; n++)
		last = pp__future_of(ex, last->next_free - 1);
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

bool pp__free_slots_refill(pp_executor *ex, struct pp__free_slots *own, uint32_t least)
{
	if (atomic_load_explicit(&own->freed, memory_order_relaxed))
		take_pushed(ex, own, own);
	else
		take_from_others(ex, own, least);
	return own->list != 0;
}
