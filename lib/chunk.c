/* SPDX-License-Identifier: MIT */
/*
 * The word that says how many items of a chunk were started. Its tag tells it from random bytes and from the word of
 * another generation, so that what was overwritten is never taken for a small number.
 */
#include "chunk.h"
#include "slot.h"

#define CLOSED UINT64_C(0x80000000)
#define COUNT  UINT64_C(0x7fffffff)

static uint64_t tag(const struct pp__header *header, uint32_t slot, uint32_t generation)
{
	uint64_t mixed = pp__mix(header->nonce ^ slot ^ (uint64_t)(generation & PP__GENERATION_MASK) << 32);

	return mixed & ~(CLOSED | COUNT);
}

void pp__chunk_reset(const struct pp__shared *shared, uint32_t slot, uint32_t generation)
{
	atomic_store(&shared->cells[slot].started, tag(shared->header, slot, generation));
	atomic_store(&shared->cells[slot].overflow, 0);
}

bool pp__chunk_start(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t i)
{
	uint64_t word = tag(shared->header, slot, generation) | i;

	return atomic_compare_exchange_strong(&shared->cells[slot].started, &word, word + 1);
}

static uint32_t count_of(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t count,
                         uint64_t word)
{
	bool ours = (word & ~(CLOSED | COUNT)) == tag(shared->header, slot, generation);

	return ours && (word & COUNT) <= count ? (uint32_t)(word & COUNT) : count;
}

uint32_t pp__chunk_close(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t count)
{
	return count_of(shared, slot, generation, count, atomic_fetch_or(&shared->cells[slot].started, CLOSED));
}

uint32_t pp__chunk_started(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint32_t count)
{
	return count_of(shared, slot, generation, count, atomic_load(&shared->cells[slot].started));
}

uint32_t pp__chunk_check(const struct pp__header *header, uint32_t slot, uint32_t generation, uint32_t i,
                         const struct pp__chunk_entry *entry)
{
	uint64_t sum = header->nonce ^ slot ^ (uint64_t)(generation & PP__GENERATION_MASK) << 32;

	sum = (sum ^ i) * UINT64_C(0x9e3779b97f4a7c15);
	sum = (sum ^ sum >> 32 ^ entry->place ^ (uint64_t)entry->sum << 32) * UINT64_C(0x9e3779b97f4a7c15);
	sum = (sum ^ sum >> 32 ^ entry->size) * UINT64_C(0x9e3779b97f4a7c15);
	sum = (sum ^ sum >> 32 ^ entry->end_ns) * UINT64_C(0x9e3779b97f4a7c15);
	sum = (sum ^ sum >> 32 ^ (uint32_t)entry->code) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(sum >> 32);
}
