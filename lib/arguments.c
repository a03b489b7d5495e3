/* SPDX-License-Identifier: MIT */
/*
 * Places of two to the n bytes, a stack of free ones per n, new ones from the end. What is freed stays warm, because a
 * fresh shared page costs 2.6 us to fault in; large places beyond a bound give their memory back to the kernel.
 */
#include "arguments.h"
#include <errno.h>
#include <stdlib.h>

#define SMALLEST  7u
#define LARGE     ((uint64_t)1 << 20)

static unsigned class_of(uint64_t size)
{
	return size <= 1u << SMALLEST ? 0 : 64u - (unsigned)__builtin_clzll(size - 1) - SMALLEST;
}

static uint64_t class_size(unsigned class) { return UINT64_C(1) << (class + SMALLEST); }

void pp__arguments_init(struct pp__arguments *a, uint64_t begin, uint64_t end)
{
	*a = (struct pp__arguments){ .next = begin, .end = end };
}

void pp__arguments_destroy(struct pp__arguments *a)
{
	for (unsigned i = 0; i < PP__ARG_CLASSES; i++)
		free(a->free[i].offsets);
}

int64_t pp__arguments_take(struct pp__arguments *a, const struct pp__segment *segment, uint64_t size)
{
	unsigned class = class_of(size);
	uint64_t offset, place;
	bool fresh;
	int rc;

	if (class >= PP__ARG_CLASSES || size > segment->size)
		return -ENOMEM;
	place = class_size(class);
	fresh = !a->free[class].count;
	offset = fresh ? a->next : a->free[class].offsets[a->free[class].count - 1];
	if (fresh && place > a->end - a->next)
		return -ENOMEM;
	rc = place >= LARGE || fresh ? pp__memory_commit(segment, offset, place >= LARGE ? size : place) : 0;
	if (rc < 0)
		return rc;
	if (fresh)
		a->next += place;
	else
		a->free[class].count--;
	if (!fresh && place >= LARGE)
		a->warm -= a->warm < place ? a->warm : place;
	return (int64_t)offset;
}

void pp__arguments_give(struct pp__arguments *a, const struct pp__segment *segment, uint64_t offset, uint64_t size)
{
	unsigned class = class_of(size);
	uint32_t room = a->free[class].room;

	if (a->free[class].count == room) {
		uint64_t *more = realloc(a->free[class].offsets, (room ? 2 * room : 16) * sizeof *more);
		if (!more)
			return;          /* the place is lost to us until the executor goes, and nothing else */
		a->free[class].offsets = more;
		a->free[class].room = room ? 2 * room : 16;
	}
	a->free[class].offsets[a->free[class].count++] = offset;
	if (class_size(class) < LARGE)
		return;
	if (a->warm + class_size(class) > segment->warm_max)
		pp__memory_discard(&segment->shared, offset, class_size(class));
	else
		a->warm += class_size(class);
}
