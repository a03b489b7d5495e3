/* SPDX-License-Identifier: MIT */
/*
 * How much memory the units keep that nobody uses. The parent looks all of them through now and then as it frees,
 * follows how much is in use, and gives to the kernel what is more than this accounts for.
 */
#include "segment.h"
#include "unit_words.h"

#define FREED_PART 4                     /* of warm_max, and */
#define FREED_EACH 128u                  /* bytes per unit: after so much was freed all are looked through */
#define HOLES      12                    /* one part in so many may be lost to them */
#define SOME       (UINT64_C(1) << 20)   /* bytes that are not worth a call */
#define LATE       16                    /* looks */
#define SWING      4                     /* a mix that never falls below this part of its most is steady: */
#define RISE       (2 * SWING)
#define PART_BIG   5                     /* then one part in so many of what is in use may be free beside it, */
#define PART_SMALL 12                    /* of small units */

struct amount { uint64_t live[2], warm; };       /* bytes in use, in small and big units; and free, but with memory */

static void add_up(const struct pp__shared *shared, bool big, struct amount *amount)
{
	uint32_t used = pp__units_used(shared, big);
	uint64_t word;

	for (uint32_t i = 0; i < used; i++) {
		word = atomic_load_explicit(pp__unit_words(shared, big) + i, memory_order_relaxed);
		amount->live[big] += word & PP__UNIT_USED ? pp__unit_size(big) : 0;
		amount->warm += (word & (PP__UNIT_USED | PP__UNIT_WARM)) == PP__UNIT_WARM ? pp__unit_size(big) : 0;
	}
}

/* For the parent, for as long as it takes the memory from it; nobody's slot has this name. */
static bool capture(_Atomic uint64_t *word)
{
	uint64_t free_and_warm = PP__UNIT_WARM;

	return atomic_compare_exchange_strong(word, &free_and_warm, pp__unit_name(PP__NO_SLOT, 0));
}

/* From the end, so that what is used again stays together. Returns what is left of excess. */
static uint64_t cool_down(const struct pp__shared *shared, bool big, uint64_t excess)
{
	uint32_t at = pp__units_used(shared, big), end;
	uint64_t unit = pp__unit_size(big);

	while (at && excess) {
		for (end = at; at && excess && capture(pp__unit_words(shared, big) + at - 1); at--)
			excess -= excess < unit ? excess : unit;
		if (at == end) {
			at--;
			continue;
		}
		pp__memory_discard(shared, pp__units_offset(shared->header, pp__claim_make(big, at, 1)), (end - at) * unit);
		for (uint32_t i = at; i < end; i++)
			atomic_store(pp__unit_words(shared, big) + i, 0);
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
	uint64_t words = (uint64_t)pp__units_used(shared, false) + pp__units_used(shared, true);
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
	uint64_t size = pp__claim_is_in_bounds(shared, claim) ? pp__units_room(claim) : 0, keep;
	uint64_t between = bytes_between_looks(shared, books, warm_max);
	struct amount amount = { { 0, 0 }, 0 };

	if (atomic_fetch_add(&books->freed, size) + size < between)
		return;
	atomic_store(&books->freed, 0);
	for (int big = 0; big < 2; big++)
		atomic_store(&shared->control->units_front[big], 0);     /* somebody may have put it too far */
	add_up(shared, true, &amount);
	add_up(shared, false, &amount);
	follow(books, amount.live[0] + amount.live[1], size, between);
	keep = bytes_to_keep(books, &amount, warm_max);
	if (amount.warm > keep)
		cool_down(shared, false, cool_down(shared, true, amount.warm - keep));
}
