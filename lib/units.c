/* SPDX-License-Identifier: MIT */
/*
 * Runs of units. Claiming one is a compare-and-swap per unit, in order; when another takes one of them first, those
 * taken so far are given back and the search goes on behind. A death in between leaves units that carry the name of a
 * slot whose noted run covers them, so the parent finds them. A unit remembers whether it has memory.
 */
#include "units.h"
#include <errno.h>
#include "segment.h"
#include "slot.h"

#define USED   UINT64_C(1)
#define WARM   UINT64_C(2)
#define BIG    (UINT64_C(1) << 63)

static uint64_t claim_make(bool big, uint32_t first, uint32_t count)
{
	return (big ? BIG : 0) | (uint64_t)count << 32 | first;
}

static bool claim_is_big(uint64_t claim) { return claim & BIG; }
static uint32_t claim_first(uint64_t claim) { return (uint32_t)claim; }
static uint32_t claim_count(uint64_t claim) { return (uint32_t)(claim >> 32) & 0x7fffffffu; }

static uint64_t name(uint32_t slot, uint32_t generation)
{
	return USED | (uint64_t)slot << 2 | (uint64_t)(generation & PP__GENERATION_MASK) << 34;
}

static _Atomic uint64_t *words(const struct pp__shared *shared, bool big)
{
	return shared->units + (big ? shared->header->small_count : 0);
}

static uint64_t unit_size(bool big) { return big ? PP__BIG_UNIT : PP__SMALL_UNIT; }

static bool claim_is_in_bounds(const struct pp__header *h, uint64_t claim)
{
	uint32_t total = claim_is_big(claim) ? h->big_count : h->small_count;

	return claim_count(claim) && claim_first(claim) < total && claim_count(claim) <= total - claim_first(claim);
}

uint64_t pp__units_offset(const struct pp__header *h, uint64_t claim)
{
	return (claim_is_big(claim) ? h->big_units : h->small_units) + claim_first(claim) * unit_size(claim_is_big(claim));
}

bool pp__units_are_owned(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim,
                         uint64_t size)
{
	_Atomic uint64_t *word;

	if (!claim_is_in_bounds(shared->header, claim) || claim_count(claim) * unit_size(claim_is_big(claim)) < size)
		return false;
	word = words(shared, claim_is_big(claim)) + claim_first(claim);
	for (uint32_t i = 0; i < claim_count(claim); i++)
		if ((atomic_load(word + i) & ~WARM) != name(slot, generation))
			return false;
	return true;
}

void pp__units_release(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	_Atomic uint64_t *word;
	uint64_t old;

	if (!claim_is_in_bounds(shared->header, claim))
		return;
	word = words(shared, claim_is_big(claim)) + claim_first(claim);
	for (uint32_t i = 0; i < claim_count(claim); i++) {
		old = atomic_load(word + i);
		if ((old & ~WARM) == name(slot, generation))
			atomic_compare_exchange_strong(word + i, &old, old & WARM);
	}
}

/* How many of the count units from word on are free, from the front. */
static uint32_t free_run(_Atomic uint64_t *word, uint32_t count)
{
	uint32_t n = 0;

	while (n < count && !(atomic_load_explicit(word + n, memory_order_relaxed) & USED))
		n++;
	return n;
}

/* Takes the units of the claim, giving memory to those that have none. 0; -EAGAIN: another took one; -ENOSPC. */
static int take(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	bool big = claim_is_big(claim);
	_Atomic uint64_t *word = words(shared, big) + claim_first(claim);
	char *memory = shared->base + pp__units_offset(shared->header, claim);
	int rc;

	for (uint32_t i = 0; i < claim_count(claim); i++) {
		uint64_t old = atomic_load(word + i);
		if (old & USED || !atomic_compare_exchange_strong(word + i, &old, name(slot, generation) | (old & WARM)))
			return -EAGAIN;
		if (old & WARM)
			continue;
		rc = pp__memory_commit_at(memory + i * unit_size(big), unit_size(big));
		if (rc < 0 && rc != -EINVAL)     /* -EINVAL: this kernel cannot; the first touch will tell */
			return rc;
		atomic_fetch_or(word + i, WARM);
	}
	return 0;
}

static int64_t claim_run(const struct pp__shared *shared, uint32_t *cursor, uint32_t slot, uint32_t generation,
                         bool big, uint32_t count)
{
	uint32_t total = big ? shared->header->big_count : shared->header->small_count;
	struct pp__cell *cell = shared->cells + slot;
	_Atomic uint64_t *word = words(shared, big);
	uint64_t seen = 0;

	while (count <= total && seen <= (uint64_t)total + count) {
		uint32_t at = *cursor < total && count <= total - *cursor ? *cursor : 0, run = free_run(word + at, count);
		uint64_t claim = claim_make(big, at, count);
		int rc = -EAGAIN;
		if (run == count) {
			atomic_store(&cell->claim, claim);
			rc = take(shared, slot, generation, claim);
		}
		*cursor = at + (rc == 0 ? count : run + 1);
		if (rc == 0)
			return (int64_t)pp__units_offset(shared->header, claim);
		seen += (uint64_t)run + 1 + (at == 0);
		if (run < count)
			continue;
		pp__units_release(shared, slot, generation, claim);
		if (rc != -EAGAIN)
			return rc;
	}
	return -ENOMEM;
}

int64_t pp__units_claim(const struct pp__shared *shared, struct pp__unit_cursor *cursor, uint32_t slot,
                        uint32_t generation, uint64_t size)
{
	bool big = size > PP__SMALL_MAX;
	uint64_t count = (size + unit_size(big) - 1) / unit_size(big);

	if (size > shared->header->size)
		return -ENOMEM;
	return claim_run(shared, big ? &cursor->big : &cursor->small, slot, generation, big, (uint32_t)count);
}
