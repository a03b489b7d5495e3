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
#define SOME_LOOKS 1024u
#define LOOKS_EACH 256u                  /* more per page: a fresh one costs as much as 3,000 looks */
#define MANY       4096u                 /* units */
#define FREED_PART 4                     /* of warm_max, and */
#define FREED_EACH 128u                  /* bytes per unit: after so much was freed all are looked through */
#define HOLES      12                    /* one part in so many may be lost to them */
#define SOME       (UINT64_C(1) << 20)   /* bytes that are not worth a call */
#define LATE       16                    /* looks */
#define SWING      4                     /* a mix that never falls below this part of its most is steady: */
#define RISE       (2 * SWING)
#define PART_BIG   5                     /* then one part in so many of what is in use may be free beside it, */
#define PART_SMALL 12                    /* of small units */

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

/* How many units, from the first on, were ever used: a hint that workers can write, so it is bounded. */
static uint32_t units_used_of(const struct pp__shared *shared, bool big)
{
	uint32_t total = big ? shared->header->big_count : shared->header->small_count;
	uint32_t used = atomic_load(&shared->control->units_used[big]);

	return used < total ? used : total;
}

static bool claim_is_in_bounds(const struct pp__shared *shared, uint64_t claim)
{
	uint32_t total = units_used_of(shared, claim_is_big(claim));

	return claim_count(claim) && claim_first(claim) < total && claim_count(claim) <= total - claim_first(claim);
}

uint64_t pp__units_offset(const struct pp__header *h, uint64_t claim)
{
	return (claim_is_big(claim) ? h->big_units : h->small_units) + claim_first(claim) * unit_size(claim_is_big(claim));
}

uint64_t pp__units_room(uint64_t claim) { return claim_count(claim) * unit_size(claim_is_big(claim)); }

bool pp__units_are_owned(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim,
                         uint64_t size)
{
	_Atomic uint64_t *word;

	if (!claim_is_in_bounds(shared, claim) || claim_count(claim) * unit_size(claim_is_big(claim)) < size)
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

	if (!claim_is_in_bounds(shared, claim))
		return;
	word = words(shared, claim_is_big(claim)) + claim_first(claim);
	for (uint32_t i = 0; i < claim_count(claim); i++) {
		old = atomic_load(word + i);
		if ((old & ~WARM) == name(slot, generation))
			atomic_compare_exchange_strong(word + i, &old, old & WARM);
	}
}

/* The end is given up first: killed in between, the note still covers all that carries the slot's name. */
void pp__units_shrink(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t size)
{
	_Atomic uint64_t *note = &shared->cells[slot].claim;
	uint64_t claim = atomic_load(note), unit = unit_size(claim_is_big(claim));
	uint32_t first = claim_first(claim), count = claim_count(claim), keep = (uint32_t)((size + unit - 1) / unit);

	if (keep >= count)
		return;
	pp__units_release(shared, slot, generation, claim_make(claim_is_big(claim), first + keep, count - keep));
	atomic_store(note, claim_make(claim_is_big(claim), first, keep));
}

/* How many of the count units from word on are free, from the front; and have memory, if kind is WARM. */
static uint32_t free_run(_Atomic uint64_t *word, uint32_t count, uint64_t kind)
{
	uint32_t n = 0;

	while (n < count && (atomic_load_explicit(word + n, memory_order_relaxed) & (USED | kind)) == kind)
		n++;
	return n;
}

struct amount { uint64_t live[2], warm; };       /* bytes in use, in small and big units; and free, but with memory */

static void add_up(const struct pp__shared *shared, bool big, struct amount *amount)
{
	uint32_t used = units_used_of(shared, big);
	uint64_t word;

	for (uint32_t i = 0; i < used; i++) {
		word = atomic_load_explicit(words(shared, big) + i, memory_order_relaxed);
		amount->live[big] += word & USED ? unit_size(big) : 0;
		amount->warm += (word & (USED | WARM)) == WARM ? unit_size(big) : 0;
	}
}

/* For the parent, for as long as it takes the memory from it; nobody's slot has this name. */
static bool capture(_Atomic uint64_t *word)
{
	uint64_t free_and_warm = WARM;

	return atomic_compare_exchange_strong(word, &free_and_warm, name(PP__NO_SLOT, 0));
}

/* From the end, so that what is used again stays together. Returns what is left of excess. */
static uint64_t cool_down(const struct pp__shared *shared, bool big, uint64_t excess)
{
	uint32_t at = units_used_of(shared, big), end;
	uint64_t unit = unit_size(big);

	while (at && excess) {
		for (end = at; at && excess && capture(words(shared, big) + at - 1); at--)
			excess -= excess < unit ? excess : unit;
		if (at == end) {
			at--;
			continue;
		}
		pp__memory_discard(shared, pp__units_offset(shared->header, claim_make(big, at, 1)), (end - at) * unit);
		for (uint32_t i = at; i < end; i++)
			atomic_store(words(shared, big) + i, 0);
	}
	return excess;
}

/*
 * Whether what is in use never falls far below its most: then it is a mix that goes on, of which little is lost when what
 * it has beside that is kept small. Else it comes and goes, and what went will be taken again.
 */
static bool is_steady(struct pp__unit_books *books)
{
	return atomic_load(&books->low) > atomic_load(&books->recent) / SWING;
}

/* So much is freed before all are looked through that the look costs little beside it. */
static uint64_t bytes_between_looks(const struct pp__shared *shared, struct pp__unit_books *books, uint64_t warm_max)
{
	uint64_t words = (uint64_t)units_used_of(shared, false) + units_used_of(shared, true);
	uint64_t part = atomic_load(&books->recent) / (HOLES * 4) + (is_steady(books) ? SOME / 16 : SOME / 2);

	part = part > words * FREED_EACH ? part : words * FREED_EACH;
	return part < warm_max / FREED_PART ? part : warm_max / FREED_PART;
}

/*
 * The room that was just freed was live, too. Before the next look as much as unseen bytes may go; and the least rises by a
 * part of what goes, so that it stays low while all that there is goes once.
 */
static void follow(struct pp__unit_books *books, uint64_t live, uint64_t just_freed, uint64_t unseen)
{
	uint64_t recent = atomic_load(&books->recent), low = atomic_load(&books->low);
	uint64_t least = live > unseen ? live - unseen : 0;

	if (recent > live)
		recent -= (recent - live) / LATE;
	if (recent < live + just_freed)
		recent = live + just_freed;
	atomic_store(&books->recent, recent);
	atomic_store(&books->low, least < low + unseen / RISE ? least : low + unseen / RISE);
}

/*
 * How many free bytes may have memory: what a program that frees and takes the same again has use for, but no more than
 * warm_max; what is more than that is due to holes rather than to less being live than of late. In a steady mix it is a
 * part of what is in use, smaller for small units, in whose last one more is lost.
 */
static uint64_t bytes_to_keep(struct pp__unit_books *books, const struct amount *amount, uint64_t warm_max)
{
	uint64_t recent = atomic_load(&books->recent), live = amount->live[0] + amount->live[1];
	uint64_t keep = recent + recent / HOLES + SOME - live;
	uint64_t steady = amount->live[0] / PART_SMALL + amount->live[1] / PART_BIG + SOME / 16;

	if (is_steady(books) && keep > steady)
		keep = steady;
	return keep < warm_max ? keep : warm_max;
}

void pp__units_freed(const struct pp__shared *shared, struct pp__unit_books *books, uint64_t claim, uint64_t warm_max)
{
	uint64_t size = claim_is_in_bounds(shared, claim) ? pp__units_room(claim) : 0, keep;
	uint64_t between = bytes_between_looks(shared, books, warm_max);
	struct amount amount = { { 0, 0 }, 0 };

	if (atomic_fetch_add(&books->freed, size) + size < between)
		return;
	atomic_store(&books->freed, 0);
	add_up(shared, true, &amount);
	add_up(shared, false, &amount);
	follow(books, amount.live[0] + amount.live[1], size, between);
	keep = bytes_to_keep(books, &amount, warm_max);
	if (amount.warm > keep)
		cool_down(shared, false, cool_down(shared, true, amount.warm - keep));
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

/* What was given to a run that did not fit goes back, for smaller ones. The units are still ours. */
static void cool(const struct pp__shared *shared, uint32_t slot, uint32_t generation, uint64_t claim)
{
	_Atomic uint64_t *word = words(shared, claim_is_big(claim)) + claim_first(claim);
	uint64_t size = unit_size(claim_is_big(claim)), offset = pp__units_offset(shared->header, claim), warm;

	for (uint32_t i = 0; i < claim_count(claim); i++) {
		warm = name(slot, generation) | WARM;
		if (atomic_load(word + i) != warm && atomic_load(word + i) != name(slot, generation))
			continue;
		pp__memory_discard(shared, offset + i * size, size);
		atomic_compare_exchange_strong(word + i, &warm, name(slot, generation));
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
	uint32_t high = units_used_of(shared, big), run;
	int64_t rc;

	while (count <= high && looks) {
		if (*at > high - count)
			*at = 0;
		run = free_run(words(shared, big) + *at, count, kind);
		looks -= run + 1 < looks ? run + 1 : looks;
		if (run < count) {
			*at += run + 1;
			continue;
		}
		rc = claim_at(shared, note, slot, generation, claim_make(big, *at, count));
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
	uint32_t high = units_used_of(shared, big);
	int64_t rc = -EAGAIN;

	while (rc == -EAGAIN && count <= total - high) {
		int done = pp__memory_commit_at((void *)(uintptr_t)(words(shared, big) + high), count * sizeof(uint64_t));
		if (done < 0 && done != -EINVAL)
			return done;
		if (atomic_compare_exchange_strong(used, &high, high + count))
			rc = claim_at(shared, note, slot, generation, claim_make(big, high, count));
		high = units_used_of(shared, big);
	}
	return rc == -EAGAIN ? -ENOMEM : rc;
}

/*
 * Where this process found its last one, if that is free again: its bytes are in the caches. Else from the front, so
 * that what is in use stays together and the end can go back to the kernel. Where the front is crowded, go on where the
 * last search ended, so that in the end every unit has its turn.
 */
static int64_t claim_again(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                           uint32_t slot, uint32_t generation, bool big, uint32_t count)
{
	uint32_t pages = (count < MANY ? count : MANY) * (uint32_t)(unit_size(big) / PP__PAGE);
	uint32_t looks = SOME_LOOKS + pages * LOOKS_EACH, *last = &cursor->last[big];
	int64_t rc = claim_used(shared, last, note, slot, generation, big, count, WARM, 1);

	if (rc == -ENOMEM) {
		*last = 0;
		rc = claim_used(shared, last, note, slot, generation, big, count, WARM, looks);
	}
	if (rc != -ENOMEM)
		return rc;
	*last = cursor->sweep[big];
	rc = claim_used(shared, last, note, slot, generation, big, count, WARM, looks);
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
	all = units_used_of(shared, big) + count;
	again = claim_used(shared, last, note, slot, generation, big, count, WARM, all);
	if (again == -ENOMEM && rc == -ENOMEM)
		again = claim_used(shared, last, note, slot, generation, big, count, 0, all);
	return again < 0 ? rc : again;
}

int64_t pp__units_claim_noted(const struct pp__shared *shared, struct pp__unit_cursor *cursor, _Atomic uint64_t *note,
                              uint32_t slot, uint32_t generation, uint64_t size)
{
	bool big = size > PP__SMALL_MAX;
	uint64_t count = (size + unit_size(big) - 1) / unit_size(big);

	if (size > shared->header->size)
		return -ENOMEM;
	return claim_run(shared, cursor, note, slot, generation, big, (uint32_t)count);
}

int64_t pp__units_claim(const struct pp__shared *shared, struct pp__unit_cursor *cursor, uint32_t slot,
                        uint32_t generation, uint64_t size)
{
	return pp__units_claim_noted(shared, cursor, &shared->cells[slot].claim, slot, generation, size);
}
