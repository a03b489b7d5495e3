/* SPDX-License-Identifier: MIT */
/*
 * The area is cut into extents of whole granules. A request takes the first fit of the smallest bin that has one, and
 * leaves the rest; what is given back merges with its free neighbours, so that no mix of sizes wears the area out. At
 * first it is one free extent.
 *
 * Apart from that, a bit per page says whether it has memory, because a fresh shared page costs 2.6 us to fault in, and one
 * that a full file system does not have costs a SIGBUS. Free extents with memory are used before those without, but no
 * small request breaks up a large one. What is free beyond warm_max goes back to the kernel by hole punching.
 */
#include "arguments.h"
#include <errno.h>
#include <stdlib.h>
#include "poison.h"

#define GRANULE      64u
#define PER_PAGE     (PP__PAGE / GRANULE)
#define AHEAD        16u                 /* pages: a small request brings memory for its successors */
#define LARGE        (AHEAD * PER_PAGE)  /* granules */
#define SMALL_FROM   (16 * LARGE)        /* the largest warm extent that a small request may break up */
#define LOOKS        8                   /* in a bin whose extents need not all fit */
#define HOLES        8                   /* one part in so many may be lost to them */
#define SOME         (UINT64_C(1) << 20) /* bytes that are not worth a call */
#define LATE         1024                /* times that something was given back */

static unsigned bin_of(uint32_t size)
{
	unsigned top = 31u - (unsigned)__builtin_clz(size);

	return size < 16 ? size : 16 + (top - 4) * 8 + ((size >> (top - 3)) & 7);
}

static struct pp__bins *bins_of(struct pp__arguments *a, const struct pp__extent *e)
{
	return &a->bins[(uint64_t)e->warm * 2 < e->size];
}

static void bin_insert(struct pp__arguments *a, uint32_t i)
{
	struct pp__extent *e = &a->extents[i];
	struct pp__bins *bins = bins_of(a, e);
	unsigned bin = bin_of(e->size);

	e->free = true;
	e->prev = 0;
	e->next = bins->first[bin];
	if (e->next)
		a->extents[e->next].prev = i;
	bins->first[bin] = i;
	bins->map[bin / 64] |= UINT64_C(1) << bin % 64;
}

static void bin_remove(struct pp__arguments *a, uint32_t i)
{
	struct pp__extent *e = &a->extents[i];
	struct pp__bins *bins = bins_of(a, e);
	unsigned bin = bin_of(e->size);

	e->free = false;
	if (e->next)
		a->extents[e->next].prev = e->prev;
	if (e->prev)
		a->extents[e->prev].next = e->next;
	else
		bins->first[bin] = e->next;
	if (!bins->first[bin])
		bins->map[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

/* The first bin from this one on that is not empty; 0: none. */
static unsigned next_bin(const struct pp__bins *bins, unsigned bin)
{
	for (unsigned word = bin / 64; word < sizeof bins->map / sizeof *bins->map; word++) {
		uint64_t map = bins->map[word] & (word == bin / 64 ? ~UINT64_C(0) << bin % 64 : ~UINT64_C(0));
		if (map)
			return word * 64 + (unsigned)__builtin_ctzll(map);
	}
	return 0;
}

static uint32_t find(const struct pp__arguments *a, const struct pp__bins *bins, uint32_t size)
{
	unsigned bin = bin_of(size);
	uint32_t i = bins->first[bin];

	for (int looks = LOOKS; i && looks; looks--, i = a->extents[i].next)
		if (a->extents[i].size >= size)
			return i;
	bin = bin + 1 < PP__EXTENT_BINS ? next_bin(bins, bin + 1) : 0;
	return bin ? bins->first[bin] : 0;
}

static uint32_t find_any(const struct pp__arguments *a, uint32_t size)
{
	uint32_t warm = find(a, &a->bins[0], size), cold;

	if (warm && (size >= LARGE || a->extents[warm].size <= SMALL_FROM))
		return warm;
	cold = find(a, &a->bins[1], size);
	return cold ? cold : warm;
}

/* 0: no memory for it. */
static uint32_t extent_new(struct pp__arguments *a)
{
	uint32_t i = a->spare;

	if (i) {
		a->spare = a->extents[i].next;
		return i;
	}
	if (a->count >= a->room) {
		uint32_t room = a->room ? 2 * a->room : 64;
		struct pp__extent *more = realloc(a->extents, room * sizeof *more);
		if (!more)
			return 0;
		a->extents = more;
		a->room = room;
	}
	return a->count++;
}

int pp__arguments_init(struct pp__arguments *a, uint64_t begin, uint64_t end)
{
	uint64_t pages = (end - begin) / PP__PAGE;
	uint32_t all;

	*a = (struct pp__arguments){ .begin = begin, .size = end - begin, .count = 1 };
	a->memory = calloc((pages + 63) / 64, sizeof *a->memory);
	all = extent_new(a);
	if (!all || !a->memory)
		return -ENOMEM;
	a->extents[all] = (struct pp__extent){ .size = (uint32_t)(pages * PER_PAGE) };
	bin_insert(a, all);
	return 0;
}

void pp__arguments_destroy(struct pp__arguments *a, const struct pp__segment *segment)
{
	if (segment->size)
		pp__unpoison(segment->shared.base + a->begin, a->high * PP__PAGE);
	free(a->extents);
	free(a->memory);
}

/* ---- memory */

static bool has_memory(const struct pp__arguments *a, uint64_t page)
{
	return a->memory[page / 64] & UINT64_C(1) << page % 64;
}

static void note_memory(struct pp__arguments *a, uint64_t page, uint64_t end, bool has)
{
	a->pages += has ? end - page : -(end - page);
	if (has && end > a->high)
		a->high = end;
	for (; page < end; page++)
		if (has)
			a->memory[page / 64] |= UINT64_C(1) << page % 64;
		else
			a->memory[page / 64] &= ~(UINT64_C(1) << page % 64);
}

/* From page on, the first that has memory, or has none; at most end. */
static uint64_t skip(const struct pp__arguments *a, uint64_t page, uint64_t end, bool while_it_has)
{
	uint64_t none = while_it_has ? ~UINT64_C(0) : 0;

	while (page < end && has_memory(a, page) == while_it_has) {
		page++;
		while (page % 64 == 0 && page + 64 <= end && a->memory[page / 64] == none)
			page += 64;
	}
	return page;
}

/* Pages without memory get some, and all of them or none. What is behind them, and has none, is nobody's. */
static int commit(struct pp__arguments *a, const struct pp__segment *segment, uint64_t page, uint64_t end)
{
	uint64_t last = (end + AHEAD - 1) & ~(uint64_t)(AHEAD - 1), offset = a->begin + page * PP__PAGE;
	int rc;

	last = end - page >= AHEAD || last > a->size / PP__PAGE ? end : skip(a, end, last, false);
	rc = pp__memory_commit(segment, offset, (last - page) * PP__PAGE);
	if (rc < 0)
		pp__memory_discard(&segment->shared, offset, (last - page) * PP__PAGE);
	if (rc < 0 && last > end) {
		last = end;
		rc = pp__memory_commit(segment, offset, (last - page) * PP__PAGE);
	}
	if (rc == 0)
		note_memory(a, page, last, true);
	return rc;
}

static int commit_extent(struct pp__arguments *a, const struct pp__segment *segment, const struct pp__extent *e)
{
	uint64_t page = e->start / PER_PAGE, end = ((uint64_t)e->start + e->size + PER_PAGE - 1) / PER_PAGE, next;
	int rc = 0;

	for (page = skip(a, page, end, true); page < end && rc == 0; page = skip(a, next, end, true)) {
		next = skip(a, page, end, false);
		rc = commit(a, segment, page, next);
	}
	return rc;
}

/* Gives the memory of the pages that are all in this free extent back. It is in no bin. */
static void cool(struct pp__arguments *a, const struct pp__segment *segment, struct pp__extent *e)
{
	uint64_t page = ((uint64_t)e->start + PER_PAGE - 1) / PER_PAGE, end = ((uint64_t)e->start + e->size) / PER_PAGE, next;

	end = end < a->high ? end : a->high;
	e->warm = 0;
	for (page = skip(a, page, end, false); page < end; page = skip(a, next, end, false)) {
		next = skip(a, page, end, true);
		pp__memory_discard(&segment->shared, a->begin + page * PP__PAGE, (next - page) * PP__PAGE);
		note_memory(a, page, next, false);
	}
}

static void cool_all(struct pp__arguments *a, const struct pp__segment *segment)
{
	for (unsigned bin = 1; bin < PP__EXTENT_BINS; bin++)
		for (int warm = 0; warm < 2; warm++)
			for (uint32_t i = a->bins[warm].first[bin], next; i; i = next) {
				next = a->extents[i].next;
				if (a->extents[i].size < PER_PAGE || !a->extents[i].warm)
					continue;
				bin_remove(a, i);
				cool(a, segment, &a->extents[i]);
				bin_insert(a, i);
			}
}

/* ---- taking and giving */

/* Cuts extent i, which is in no bin, to size granules; the rest is free. false: no memory for that. */
static bool split(struct pp__arguments *a, uint32_t i, uint32_t size)
{
	uint32_t rest = a->extents[i].size > size ? extent_new(a) : 0;
	struct pp__extent *e = &a->extents[i];

	if (!rest)
		return e->size == size;
	a->extents[rest] = (struct pp__extent){ .start = e->start + size, .size = e->size - size, .before = i,
	                                        .after = e->after, .warm = e->warm > size ? e->warm - size : 0 };
	if (e->after)
		a->extents[e->after].before = rest;
	e->after = rest;
	e->size = size;
	bin_insert(a, rest);
	return true;
}

/* Extent i takes in its neighbour behind it. Neither is in a bin. */
static void merge(struct pp__arguments *a, uint32_t i)
{
	struct pp__extent *e = &a->extents[i], *other = &a->extents[e->after];
	uint32_t gone = e->after;

	e->size += other->size;
	e->warm += other->warm;
	e->after = other->after;
	if (e->after)
		a->extents[e->after].before = i;
	other->next = a->spare;
	a->spare = gone;
}

/* Whether so much memory is free that some should go back: more than a program that frees and takes the same again has
 * use for, or so much that it is due to holes rather than to less being live than of late. */
static bool is_too_much(struct pp__arguments *a, const struct pp__segment *segment)
{
	uint64_t held = a->pages * PP__PAGE;

	return held > a->live + segment->warm_max || held > a->recent + a->recent / HOLES + SOME;
}

/* Extent i becomes free, with memory in so many granules. */
static void release(struct pp__arguments *a, const struct pp__segment *segment, uint32_t i, uint32_t warm)
{
	uint32_t before = a->extents[i].before, after = a->extents[i].after;

	a->extents[i].warm = warm;
	if (after && a->extents[after].free) {
		bin_remove(a, after);
		merge(a, i);
	}
	if (before && a->extents[before].free) {
		bin_remove(a, before);
		merge(a, before);
		i = before;
	}
	if (a->extents[i].warm >= LARGE && is_too_much(a, segment))
		cool(a, segment, &a->extents[i]);
	bin_insert(a, i);
}

uint64_t pp__arguments_rounded(uint64_t size)
{
	return size ? (size + GRANULE - 1) & ~(uint64_t)(GRANULE - 1) : GRANULE;
}

int64_t pp__arguments_take(struct pp__arguments *a, const struct pp__segment *segment, uint64_t size, uint32_t *place)
{
	uint32_t i, granules;
	uint64_t offset;
	int rc;

	if (size > a->size)
		return -ENOMEM;
	granules = (uint32_t)(pp__arguments_rounded(size) / GRANULE);
	i = find_any(a, granules);
	if (!i)
		return -ENOMEM;
	bin_remove(a, i);
	if (!split(a, i, granules)) {
		bin_insert(a, i);
		return -ENOMEM;
	}
	rc = commit_extent(a, segment, &a->extents[i]);
	if (rc == -ENOSPC) {             /* what is free elsewhere may be enough */
		cool_all(a, segment);
		rc = commit_extent(a, segment, &a->extents[i]);
	}
	if (rc < 0) {
		release(a, segment, i, 0);
		return rc;
	}
	a->live += (uint64_t)granules * GRANULE;
	a->recent = a->recent > a->live ? a->recent : a->live;
	*place = i;
	offset = a->begin + (uint64_t)a->extents[i].start * GRANULE;
	pp__unpoison(segment->shared.base + offset, size);
	return (int64_t)offset;
}

void pp__arguments_give(struct pp__arguments *a, const struct pp__segment *segment, uint32_t place)
{
	const struct pp__extent *e = &a->extents[place];
	uint64_t size = (uint64_t)e->size * GRANULE;

	a->live -= size;
	a->recent -= (a->recent - a->live) / LATE;
	pp__poison(segment->shared.base + a->begin + (uint64_t)e->start * GRANULE, size);
	release(a, segment, place, e->size);
}
