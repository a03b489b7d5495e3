/* SPDX-License-Identifier: MIT */
/*
 * Runs of units. Claiming one is a compare-and-swap per unit, in order; when another takes one of them first, those
 * taken so far are given back and the search goes on behind. A death in between leaves units that carry the name of a
 * slot whose noted run covers them, so the parent finds them. A unit remembers whether it has memory.
 */
#include <errno.h>
#include "segment.h"
#include "unit_words.h"

#define SOME_LOOKS 1024u
#define LOOKS_EACH 256u                  /* more per page: a fresh one costs as much as 3,000 looks */
#define MANY       4096u                 /* units */

/* A hint that workers can write, so it is bounded. */
uint32_t pp__units_used(const struct pp__shared *shared, bool big)
{
	uint32_t total = big ? shared->header->big_count : shared->header->small_count;
	uint32_t used = atomic_load(&shared->control->units_used[big]);

	return used < total ? used : total;
}

bool pp__claim_is_in_bounds(const struct pp__shared *shared, uint64_t claim)
{
	uint32_t total = pp__units_used(shared, pp__claim_is_big(claim));
	uint32_t first = pp__claim_first(claim), count = pp__claim_count(claim);

	return count && first < total && count <= total - first;
}

uint64_t pp__units_offset(const struct pp__header *h, uint64_t claim)
{
	bool big = pp__claim_is_big(claim);

	return (big ? h->big_units : h->small_units) + pp__claim_first(claim) * pp__unit_size(big);
}

uint64_t pp__units_room(uint64_t claim) { return pp__claim_count(claim) * pp__unit_size(pp__claim_is_big(claim)); }

bool pp__units_are_owned(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim,
                         uint64_t size)
{
	_Atomic uint64_t *word;

	if (!pp__claim_is_in_bounds(shared, claim) || pp__claim_count(claim) * pp__unit_size(pp__claim_is_big(claim)) < size)
		return false;
	word = pp__unit_words(shared, pp__claim_is_big(claim)) + pp__claim_first(claim);
	for (uint32_t i = 0; i < pp__claim_count(claim); i++)
		if ((atomic_load(word + i) & ~PP__UNIT_WARM) != pp__unit_name(slot, generation))
			return false;
	return true;
}

/*
 * What begins here is free again. Whoever looks at the same moment, and has just found it in use, can put the front behind
 * it all the same; the parent puts it back now and then (unit_books.c).
 */
static void pull_front(const struct pp__shared *shared, bool big, uint32_t first)
{
	_Atomic uint32_t *front = &shared->control->units_front[big];

	if (atomic_load(front) > first)
		atomic_store(front, first);
}

void pp__units_release(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	_Atomic uint64_t *word;
	uint64_t old;

	if (!pp__claim_is_in_bounds(shared, claim))
		return;
	word = pp__unit_words(shared, pp__claim_is_big(claim)) + pp__claim_first(claim);
	for (uint32_t i = 0; i < pp__claim_count(claim); i++) {
		old = atomic_load(word + i);
		if ((old & ~PP__UNIT_WARM) == pp__unit_name(slot, generation))
			atomic_compare_exchange_strong(word + i, &old, old & PP__UNIT_WARM);
	}
	pull_front(shared, pp__claim_is_big(claim), pp__claim_first(claim));
}

/* The end is given up first: killed in between, the note still covers all that carries the slot's name. */
void pp__units_shrink(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t size)
{
	_Atomic uint64_t *note = &shared->cells[slot].claim;
	uint64_t claim = atomic_load(note), unit = pp__unit_size(pp__claim_is_big(claim));
	uint32_t first = pp__claim_first(claim), count = pp__claim_count(claim), keep = (uint32_t)((size + unit - 1) / unit);

	if (keep >= count)
		return;
	pp__units_release(shared, slot, generation, pp__claim_make(pp__claim_is_big(claim), first + keep, count - keep));
	atomic_store(note, pp__claim_make(pp__claim_is_big(claim), first, keep));
}

/* How many of the count units from word on are free, from the front; and have memory, if kind is PP__UNIT_WARM. */
static uint32_t free_run(_Atomic uint64_t *word, uint32_t count, uint64_t kind)
{
	uint32_t n = 0;

	while (n < count && (atomic_load_explicit(word + n, memory_order_relaxed) & (PP__UNIT_USED | kind)) == kind)
		n++;
	return n;
}

/* Takes the units of the claim, giving memory to those that have none. 0; -EAGAIN: another took one; -ENOSPC. */
static int take(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	bool big = pp__claim_is_big(claim);
	_Atomic uint64_t *word = pp__unit_words(shared, big) + pp__claim_first(claim);
	char *memory = shared->base + pp__units_offset(shared->header, claim);
	int rc;

	for (uint32_t i = 0; i < pp__claim_count(claim); i++) {
		uint64_t old = atomic_load(word + i), ours = pp__unit_name(slot, generation) | (old & PP__UNIT_WARM);
		if (old & PP__UNIT_USED || !atomic_compare_exchange_strong(word + i, &old, ours))
			return -EAGAIN;
		if (old & PP__UNIT_WARM)
			continue;
		rc = pp__memory_commit_at(memory + i * pp__unit_size(big), pp__unit_size(big));
		if (rc < 0 && rc != -EINVAL)     /* -EINVAL: this kernel cannot; the first touch will tell */
			return rc;
		atomic_fetch_or(word + i, PP__UNIT_WARM);
	}
	return 0;
}

/* What was given to a run that did not fit goes back, for smaller ones. The units are still ours. */
static void cool(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	_Atomic uint64_t *word = pp__unit_words(shared, pp__claim_is_big(claim)) + pp__claim_first(claim);
	uint64_t size = pp__unit_size(pp__claim_is_big(claim)), offset = pp__units_offset(shared->header, claim), warm;

	for (uint32_t i = 0; i < pp__claim_count(claim); i++) {
		warm = pp__unit_name(slot, generation) | PP__UNIT_WARM;
		if (atomic_load(word + i) != warm && atomic_load(word + i) != pp__unit_name(slot, generation))
			continue;
		pp__memory_discard(shared, offset + i * size, size);
		atomic_compare_exchange_strong(word + i, &warm, pp__unit_name(slot, generation));
	}
}

/* Claims this run, noting it first. The offset; -EAGAIN: another took one of them; -ENOSPC. */
static int64_t claim_at(const struct pp__shared *shared, _Atomic uint64_t *note, uint32_t slot, uint32_t generation,
                        uint64_t claim)
{
	int rc;

	atomic_store(note, claim);
	rc = take(shared, slot, generation, claim);
	if (rc == 0)
		return (int64_t)pp__units_offset(shared->header, claim);
	if (rc == -ENOSPC)
		cool(shared, slot, generation, claim);
	pp__units_release(shared, slot, generation, claim);
	return rc;
}

/* Among the units that were used before, from *at on and round; *at stays at the run that was found. */
static int64_t claim_used(const struct pp__shared *shared, uint32_t *at, _Atomic uint64_t *note, uint32_t slot,
                          uint32_t generation, bool big, uint32_t count, uint64_t kind, uint32_t looks)
{
	uint32_t high = pp__units_used(shared, big), run;
	int64_t rc;

	while (count <= high && looks) {
		if (*at > high - count)
			*at = 0;
		run = free_run(pp__unit_words(shared, big) + *at, count, kind);
		looks -= run + 1 < looks ? run + 1 : looks;
		if (run < count) {
			*at += run + 1;
			continue;
		}
		rc = claim_at(shared, note, slot, generation, pp__claim_make(big, *at, count));
		if (rc != -EAGAIN)
			return rc;
		++*at;
	}
	return -ENOMEM;
}

/* Behind all that were used so far. The table of words gets its memory here, before anybody looks at it. */
static int64_t claim_fresh(const struct pp__shared *shared, _Atomic uint64_t *note, uint32_t slot, uint32_t generation,
                           bool big, uint32_t count)
{
	uint32_t total = big ? shared->header->big_count : shared->header->small_count;
	_Atomic uint32_t *used = &shared->control->units_used[big];
	uint32_t high = pp__units_used(shared, big);
	int64_t rc = -EAGAIN;

	while (rc == -EAGAIN && count <= total - high) {
		int done = pp__memory_commit_at((void *)(uintptr_t)(pp__unit_words(shared, big) + high), count * sizeof(uint64_t));
		if (done < 0 && done != -EINVAL)
			return done;
		if (atomic_compare_exchange_strong(used, &high, high + count))
			rc = claim_at(shared, note, slot, generation, pp__claim_make(big, high, count));
		high = pp__units_used(shared, big);
	}
	return rc == -EAGAIN ? -ENOMEM : rc;
}

/* The first unit that may be free and have memory. The front moves there, unless somebody has moved it meanwhile. */
static uint32_t find_front(const struct pp__shared *shared, bool big, uint32_t looks)
{
	_Atomic uint32_t *front = &shared->control->units_front[big];
	uint32_t high = pp__units_used(shared, big), old = atomic_load(front), at = old;
	_Atomic uint64_t *word = pp__unit_words(shared, big);

	while (at < high && looks-- && !free_run(word + at, 1, PP__UNIT_WARM))
		at++;
	if (at != old)
		atomic_compare_exchange_strong(front, &old, at);
	return at;
}

/*
 * Where this process found its last one, if that is free again: its bytes are in the caches. Else from the front, so
 * that what is in use stays together and the end can go back to the kernel. Where the front is crowded, go on where the
 * last search ended, so that in the end every unit has its turn.
 */
static int64_t claim_again(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                           uint32_t slot, uint32_t generation, bool big, uint32_t count)
{
	uint32_t pages = (count < MANY ? count : MANY) * (uint32_t)(pp__unit_size(big) / PP__PAGE);
	uint32_t looks = SOME_LOOKS + pages * LOOKS_EACH, *last = &cursor->last[big];
	int64_t rc = claim_used(shared, last, note, slot, generation, big, count, PP__UNIT_WARM, 1);

	if (rc == -ENOMEM) {
		*last = find_front(shared, big, looks);
		if (*last < pp__units_used(shared, big))
			rc = claim_used(shared, last, note, slot, generation, big, count, PP__UNIT_WARM, looks);
	}
	if (rc != -ENOMEM)
		return rc;
	*last = cursor->sweep[big];
	rc = claim_used(shared, last, note, slot, generation, big, count, PP__UNIT_WARM, looks);
	if (rc == -ENOMEM)
		rc = claim_used(shared, last, note, slot, generation, big, count, 0, looks);
	cursor->sweep[big] = *last;
	return rc;
}

static int64_t claim_run(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                         uint32_t slot, uint32_t generation, bool big, uint32_t count)
{
	int64_t rc = claim_again(shared, cursor, note, slot, generation, big, count), again;
	uint32_t all, *last = &cursor->last[big];

	if (rc == -ENOMEM)
		rc = claim_fresh(shared, note, slot, generation, big, count);
	if (rc != -ENOMEM && rc != -ENOSPC)
		return rc;
	/* Nothing fresh to be had: then all that were used are looked at, once round, those with memory first. */
	all = pp__units_used(shared, big) + count;
	again = claim_used(shared, last, note, slot, generation, big, count, PP__UNIT_WARM, all);
	if (again == -ENOMEM && rc == -ENOMEM)
		again = claim_used(shared, last, note, slot, generation, big, count, 0, all);
	return again < 0 ? rc : again;
}

int64_t pp__units_claim_noted(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                              uint32_t slot, uint32_t generation, uint64_t size)
{
	bool big = size > PP__SMALL_MAX;
	uint64_t count = (size + pp__unit_size(big) - 1) / pp__unit_size(big);

	if (size > shared->header->size)
		return -ENOMEM;
	return claim_run(shared, cursor, note, slot, generation, big, (uint32_t)count);
}

int64_t pp__units_claim(const struct pp__shared *shared, struct pp__unit_cursor *cursor, uint32_t slot,
                        uint32_t generation, uint64_t size)
{
	return pp__units_claim_noted(shared, cursor, &shared->cells[slot].claim, slot, generation, size);
}
