/* SPDX-License-Identifier: MIT */
/*
 * Room for arguments and blocks: one of these for the area that only the parent writes, one for that of mutable blocks.
 * The books are private memory: a worker can neither damage them nor hold anything here. Under the executor's submit lock.
 */
#ifndef PP_LIB_ARGUMENTS_H
#define PP_LIB_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>
#include "segment.h"

#define PP__EXTENT_BINS  224u    /* exact below 16 granules, then 8 per doubling */

/* A stretch of granules, in use or free. Numbers of extents start at 1; 0 is none. */
struct pp__extent {
	uint32_t start, size;
	uint32_t before, after;          /* its neighbours in the area */
	uint32_t next, prev;             /* in its bin, while free */
	uint32_t warm;                   /* free: about so many of its granules have memory */
	bool     free;
};

struct pp__bins {
	uint32_t first[PP__EXTENT_BINS];
	uint64_t map[(PP__EXTENT_BINS + 63) / 64];
};

struct pp__arguments {
	uint64_t begin, size;            /* of the area */
	struct pp__extent *extents;
	uint32_t count, room, spare;     /* extents made, allocated; list of those not used, by next */
	struct pp__bins bins[2];         /* mostly with memory, mostly without */
	uint64_t *memory;                /* a bit per page that has some */
	uint64_t pages;                  /* how many have */
	uint64_t high;                   /* none from this page on ever had */
	uint64_t live;                   /* bytes in use */
	uint64_t recent;                 /* the most of them, of late */
};

int  pp__arguments_init(struct pp__arguments *arguments, uint64_t begin, uint64_t end);  /* 0, -ENOMEM */
void pp__arguments_destroy(struct pp__arguments *arguments, const struct pp__segment *segment);
/* An offset aligned to 64 bytes, with memory, and the number to give it back by; or -ENOMEM, -ENOSPC. */
int64_t pp__arguments_take(struct pp__arguments *arguments, const struct pp__segment *segment, uint64_t size,
                           uint32_t *place);
void pp__arguments_give(struct pp__arguments *arguments, const struct pp__segment *segment, uint32_t place);
/* What a request for size bytes uses up. */
uint64_t pp__arguments_rounded(uint64_t size);

#endif
